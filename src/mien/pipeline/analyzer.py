"""From pictures to `Faces`: detect, align, judge, read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, OptionError
from ..image import Picture, check
from ..labels import LabelSet
from ..media.video import Frame
from ..models.align import crop
from ..models.base import Boxes, Detector
from ..models.detect import CARDS, DETECTORS, count_eyes, detector
from ..models.expression import Expression, Reading, view
from ..models.quality import Limits, judge
from ..models.vote import GRIDS, vote, windows
from ..results.columns import Reason
from ..results.faces import Faces
from ..zoo.card import ModelCard
from ..zoo.catalog import card

if TYPE_CHECKING:
    from .follow import Followed, Follower

__all__ = ["Analyzer", "Look", "Settings", "analyzer"]


class Reader(Protocol):
    """Reads aligned crops: what `models.expression.Expression` does."""

    @property
    def card(self) -> ModelCard:
        """The card that says how a crop must look and what the heads name."""
        ...

    def read(self, crops: NDArray[np.uint8], /) -> Reading:
        """Read (N, H, W, 3) uint8 crops."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides what an analysis finds.

    Attributes
    ----------
    detector
        ``mtcnn``, ``haar`` or ``haar-alt2``.
    model
        Name of a bundled expression model, or an ``.onnx`` file with its card.
    labels
        The label set of the scores; None: the model's own, of its first head. The bundled model gives ``eight`` (how
        the crowd would label it), ``seven`` (FER2013's own labels), and ``six``, ``five``, ``three``, which sum the
        eight.
    min_face
        Smallest face to look for, pixels of the picture.
    width
        Look for faces in a picture whose longer side is at most this; boxes stay in pixels of the full one. ``None``:
        the detector's own bound, 1,280.
    detect_every
        Detect in every k-th frame of a film and follow the faces in between; a cut is detected anew.
    track
        Give each face of a film one number over time, in the column ``track``.
    vote
        Read each face in so many windows around it and take the mean of the answers: 45 (3 × 3 shifts, 5 sizes), 9
        (the shifts alone), 5 (the sizes alone); 0: in the one that the model was trained on.
    require_eyes
        Keep only faces in which the eye cascade sees an eye.
    best_only
        Keep only the face with the best detector score.
    one_face
        Keep only pictures and frames with exactly one face.
    min_score
        Name no label when the best score is lower.
    read_all
        Read also faces that have a reason against it; the reason stands beside the scores.
    limits
        Where reading stops.
    threads
        Threads of the networks; 0: one a processor.
    """

    detector: str = "mtcnn"
    model: str = "expression"
    labels: str | None = None
    min_face: int = 20
    width: int | None = None
    detect_every: int = 1
    track: bool = False
    vote: int = 0
    require_eyes: bool = False
    best_only: bool = False
    one_face: bool = False
    min_score: float = 0.0
    read_all: bool = False
    limits: Limits = field(default_factory=Limits)
    threads: int = 0

    def __post_init__(self) -> None:
        rules = (
            ("detector", self.detector in DETECTORS, f"one of {', '.join(DETECTORS)}"),
            ("min_face", self.min_face >= 12, "12 pixels or more"),
            ("width", self.width is None or self.width >= 64, "64 pixels or more"),
            ("detect_every", self.detect_every >= 1, "1 or more"),
            ("vote", self.vote in {0, *GRIDS}, f"0 or one of {', '.join(map(str, GRIDS))}"),
            ("min_score", 0 <= self.min_score <= 1, "between 0 and 1"),
            ("threads", self.threads >= 0, "0 or more"),
        )
        for name, fits, need in rules:
            if not fits:
                msg = f"{name} is {getattr(self, name)!r}, it must be {need}"
                raise OptionError(msg)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Look:
    """The faces of one frame, cut out and judged, before they are read.

    Attributes
    ----------
    boxes
        N faces.
    crops
        (N, H, W, 3) uint8 RGB, as the model wants them.
    reasons
        (N,) uint16, flags of `Reason` against reading.
    windows
        (M, W, H, W, 3) uint8 of the M faces that are read, where windows vote, else None.
    readable
        The frame could be decoded.
    """

    boxes: Boxes
    crops: NDArray[np.uint8]
    reasons: NDArray[np.uint16]
    windows: NDArray[np.uint8] | None = None
    readable: bool = True


class Analyzer:
    """Finds and reads faces. Safe to use from several threads.

    Parameters
    ----------
    settings
        What to look for.
    find
        A detector to use instead of the one the settings name.
    read
        A reader to use instead of the model the settings name.
    batch
        Frames of a film that are read in one call of the network.

    Raises
    ------
    ModelError
        If a model cannot be found or is not what its card says.
    UnknownLabelError, OptionError
        If there is no such label set, or the model cannot give it.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        find: Detector | None = None,
        read: Reader | None = None,
        batch: int = 8,
    ) -> None:
        self.settings = s = settings or Settings()
        self.batch = batch
        self._find = find or _detector(s)
        self._read = read or Expression(s.model, threads=s.threads)
        self._view = view(self._read.card, s.labels)
        self.labels: LabelSet = self._view.labels
        spec = self._read.card.input
        if spec is None:
            msg = f"model {self._read.card.name!r}: its card does not say what goes in"
            raise ModelError(msg)
        self._spec = spec

    def with_settings(self, **changes: Any) -> Analyzer:
        """Return an analyzer with some settings changed that uses the same models; they are not loaded again.

        Raises
        ------
        OptionError
            If a change asks for other models, or a setting has an impossible value.
        """
        settings = replace(self.settings, **changes)
        for name in ("detector", "model", "min_face", "width", "threads"):
            if getattr(settings, name) != getattr(self.settings, name):
                msg = f"{name} decides on the models, which are shared here; make a new Analyzer for it"
                raise OptionError(msg)
        return Analyzer(settings, find=self._find, read=self._read, batch=self.batch)

    def picture(
        self, picture: Picture, *, source: str = "picture", frame: int = 0, time: float = float("nan")
    ) -> Faces:
        """Find and read the faces of one picture, (H, W, 3) uint8 RGB; never fewer than one row.

        Raises
        ------
        ShapeError
            If the picture is anything else.
        """
        return self._faces([Frame(check(picture), frame, time)], [self.find(picture)], source)[0]

    def find(self, picture: Picture) -> Boxes:
        """Find the faces of one picture, best score first."""
        boxes = self._find(picture)
        if self.settings.require_eyes:
            eyes = boxes.eyes if (boxes.eyes >= 0).all() else count_eyes(picture, boxes.box)
            boxes = Boxes(boxes.box, boxes.score, boxes.points, eyes)[eyes > 0]
        return boxes[:1] if self.settings.best_only else boxes

    def frames(self, frames: Iterable[Frame], *, source: str, batch: int | None = None) -> Iterator[Faces]:
        """Find and read the faces of a film's frames, one `Faces` a frame, in order; memory does not grow.

        A frame that could not be decoded gives a row with the reason ``unreadable``.

        Parameters
        ----------
        frames
            In the order of showing, of one film or camera.
        source
            Its name.
        batch
            Frames that are read in one call of the network; None: as many as the analyzer was made for. With 1, a frame
            of a camera is answered before the next is asked for.
        """
        for faces, _ in self.frames_with_pictures(frames, source=source, batch=batch):
            yield faces

    def frames_with_pictures(
        self, frames: Iterable[Frame], *, source: str, batch: int | None = None
    ) -> Iterator[tuple[Faces, Frame]]:
        """Do what `frames` does and give the frame beside its faces."""
        s = self.settings
        held = iter(frames)
        follower = self.follower() if s.track or s.detect_every > 1 else None
        while group := list(islice(held, batch or self.batch)):
            if follower is None:
                found = [self.find(f.picture) if f.picture is not None else Boxes.empty() for f in group]
                yield from zip(self._faces(group, found, source), group, strict=True)
                continue
            seen = [self._followed(follower, f) for f in group]
            tables = self._faces(group, [f.boxes for f in seen], source)
            for faces, frame, one in zip(tables, group, seen, strict=True):
                yield self.marked(faces, one), frame

    def follower(self) -> Follower:
        """Return what gives the faces of one film their tracks, by these settings."""
        from .follow import Follower, Following

        detector = self._find
        return Follower(detector.follow if isinstance(detector, Following) else None, every=self.settings.detect_every)

    def marked(self, faces: Faces, followed: Followed) -> Faces:
        """Return the rows of a frame with what is known from the frames before."""
        if not len(followed.track):
            return faces
        track = followed.track if self.settings.track else np.int64(-1)
        return faces.with_(track=np.broadcast_to(track, len(faces)).copy(), carried=followed.carried)

    def _followed(self, follower: Follower, frame: Frame) -> Followed:
        glance = follower.glance(frame)
        found = self.find(frame.picture) if glance.search and frame.picture is not None else None
        return self.kept(follower.take(frame, glance, found))

    def kept(self, followed: Followed) -> Followed:
        """Return the faces that the settings want of a frame: all, or the best."""
        if self.settings.best_only and len(followed.track) > 1:
            return followed[np.array([np.nan_to_num(followed.boxes.score, nan=-1).argmax()])]
        return followed

    def models(self) -> dict[str, str]:
        """Return the SHA-256 of every file of weights that this analyzer uses, by the name of its card."""
        names = (name for name in CARDS.get(self.settings.detector, ()))
        return {self._read.card.name: self._read.card.sha256} | {name: card(name).sha256 for name in names}

    def _faces(self, frames: Sequence[Frame], boxes: Sequence[Boxes], source: str) -> list[Faces]:
        looks = [self.look(f, b) for f, b in zip(frames, boxes, strict=True)]
        scores = self.scores(looks)
        return [self.table(f, k, s, source) for f, k, s in zip(frames, looks, scores, strict=True)]

    def look(self, frame: Frame, boxes: Boxes) -> Look:
        """Cut the faces of a frame out and judge whether they can be read; the picture is not needed afterwards."""
        if frame.picture is None or not len(boxes):
            readable = frame.picture is not None
            return Look(Boxes.empty(), self._no_crops(), np.empty(0, np.uint16), readable=readable)
        height, width = frame.picture.shape[:2]
        crops = crop(frame.picture, boxes, self._spec)
        reasons = judge(boxes, crops, width=width, height=height, limits=self.settings.limits)
        if not self.settings.vote:
            return Look(boxes, crops, reasons)
        grid = GRIDS[self.settings.vote]
        return Look(boxes, crops, reasons, windows(frame.picture, boxes[self._wanted(reasons)], self._spec, grid=grid))

    def scores(self, looks: Sequence[Look]) -> list[NDArray[np.float32]]:
        """Read the faces of some frames in one call of the network: (N, K) float32 each, NaN where not read."""
        crops = np.concatenate([k.crops for k in looks])
        wanted = self._wanted(np.concatenate([k.reasons for k in looks]))
        scores = np.full((len(crops), len(self.labels)), np.nan, np.float32)
        if wanted.any():
            if self.settings.vote:
                around = np.concatenate([k.windows for k in looks if k.windows is not None])
                scores[wanted] = vote(self._classify, around).mean
            else:
                scores[wanted] = self._classify(crops[wanted])
        return np.split(scores, np.cumsum([len(k.crops) for k in looks])[:-1])

    def _classify(self, crops: NDArray[np.uint8], /) -> NDArray[np.float32]:
        return self._view(self._read.read(crops))

    def _wanted(self, reasons: NDArray[np.uint16]) -> NDArray[np.bool_]:
        return np.ones(len(reasons), np.bool_) if self.settings.read_all else np.asarray(reasons == 0, np.bool_)

    def _no_crops(self) -> NDArray[np.uint8]:
        return np.empty((0, self._spec.height, self._spec.width, 3), np.uint8)

    def table(self, frame: Frame, look: Look, scores: NDArray[np.float32], source: str) -> Faces:
        """Return the rows of a frame, from what `look` and `scores` gave; of the frame, number and time are used."""
        boxes = look.boxes
        if not len(boxes):
            why = Reason.NO_FACE if look.readable else Reason.UNREADABLE
            return Faces.missing(source, why, frame=frame.index, time=frame.time, labels=self.labels)
        with np.errstate(invalid="ignore"):
            low = scores.max(1) < self.settings.min_score
        return Faces.build(
            len(boxes),
            sources=(source,),
            labels=self.labels,
            frame=frame.index,
            time=frame.time,
            source=0,
            face=np.arange(len(boxes)),
            box=boxes.box,
            points=boxes.points,
            score=boxes.score,
            eyes=boxes.eyes,
            reason=look.reasons | np.where(low, np.uint16(Reason.LOW_SCORE), np.uint16(0)),
            expression=scores,
        )


def _detector(settings: Settings) -> Detector:
    options: dict[str, Any] = {"min_face": settings.min_face}
    if settings.width is not None:
        options["width"] = settings.width
    if settings.detector == "mtcnn":
        options["threads"] = settings.threads
    return detector(settings.detector, **options)


@lru_cache(maxsize=4)
def analyzer(settings: Settings) -> Analyzer:
    """Return the analyzer of these settings; the last four are kept, so that calls do not load models again."""
    return Analyzer(settings)
