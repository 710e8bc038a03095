"""From pictures to `Faces`: detect, align, judge, read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, OptionError
from ..image import Picture, check
from ..labels import LabelSet
from ..media.video import Frame
from ..models.align import crop
from ..models.base import Boxes, Detector
from ..models.detect import DETECTORS, count_eyes, detector
from ..models.expression import Expression, Reading, view
from ..models.quality import Limits, judge
from ..results.columns import Reason
from ..results.faces import Faces
from ..zoo.card import ModelCard

__all__ = ["Analyzer", "Settings", "analyzer"]


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
        Detect in every k-th frame of a film and carry the boxes over in between; a cut is detected anew.
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

    def picture(
        self, picture: Picture, *, source: str = "picture", frame: int = 0, time: float = float("nan")
    ) -> Faces:
        """Find and read the faces of one picture, (H, W, 3) uint8 RGB; never fewer than one row.

        Raises
        ------
        ShapeError
            If the picture is anything else.
        """
        return self._faces([Frame(check(picture), frame, time)], [self.find(picture)], [False], source)[0]

    def find(self, picture: Picture) -> Boxes:
        """Find the faces of one picture, best score first."""
        boxes = self._find(picture)
        if self.settings.require_eyes:
            eyes = boxes.eyes if (boxes.eyes >= 0).all() else count_eyes(picture, boxes.box)
            boxes = Boxes(boxes.box, boxes.score, boxes.points, eyes)[eyes > 0]
        return boxes[:1] if self.settings.best_only else boxes

    def frames(self, frames: Iterable[Frame], *, source: str) -> Iterator[Faces]:
        """Find and read the faces of a film's frames, one `Faces` a frame, in order; memory does not grow.

        A frame that could not be decoded gives a row with the reason ``unreadable``.
        """
        for faces, _ in self.frames_with_pictures(frames, source=source):
            yield faces

    def frames_with_pictures(self, frames: Iterable[Frame], *, source: str) -> Iterator[tuple[Faces, Frame]]:
        """Do what `frames` does and give the frame beside its faces."""
        held = iter(frames)
        carry = _Carry(self.settings.detect_every)
        while group := list(islice(held, self.batch)):
            found = [carry.boxes(f, self.find) for f in group]
            tables = self._faces(group, [b for b, _ in found], [c for _, c in found], source)
            yield from zip(tables, group, strict=True)

    def _faces(
        self, frames: Sequence[Frame], boxes: Sequence[Boxes], carried: Sequence[bool], source: str
    ) -> list[Faces]:
        crops = [
            crop(f.picture, b, self._spec) if f.picture is not None and len(b) else self._no_crops()
            for f, b in zip(frames, boxes, strict=True)
        ]
        reasons = [self._reasons(f, b, c) for f, b, c in zip(frames, boxes, crops, strict=True)]
        scores = self._scores(np.concatenate(crops), np.concatenate(reasons))
        parts = np.split(scores, np.cumsum([len(b) for b in boxes])[:-1])
        return [
            self._table(f, b, r, s, source, carried=c)
            for f, b, c, r, s in zip(frames, boxes, carried, reasons, parts, strict=True)
        ]

    def _no_crops(self) -> NDArray[np.uint8]:
        return np.empty((0, self._spec.height, self._spec.width, 3), np.uint8)

    def _reasons(self, frame: Frame, boxes: Boxes, crops: NDArray[np.uint8]) -> NDArray[np.uint16]:
        if frame.picture is None:
            return np.empty(0, np.uint16)
        height, width = frame.picture.shape[:2]
        return judge(boxes, crops, width=width, height=height, limits=self.settings.limits)

    def _scores(self, crops: NDArray[np.uint8], reasons: NDArray[np.uint16]) -> NDArray[np.float32]:
        scores = np.full((len(crops), len(self.labels)), np.nan, np.float32)
        wanted = np.ones(len(crops), np.bool_) if self.settings.read_all else reasons == 0
        if wanted.any():
            scores[wanted] = self._view(self._read.read(crops[wanted]))
        return scores

    def _table(
        self,
        frame: Frame,
        boxes: Boxes,
        reasons: NDArray[np.uint16],
        scores: NDArray[np.float32],
        source: str,
        *,
        carried: bool,
    ) -> Faces:
        if not len(boxes):
            why = Reason.UNREADABLE if frame.picture is None else Reason.NO_FACE
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
            carried=carried,
            reason=reasons | np.where(low, np.uint16(Reason.LOW_SCORE), np.uint16(0)),
            expression=scores,
        )


def _detector(settings: Settings) -> Detector:
    options: dict[str, Any] = {"min_face": settings.min_face}
    if settings.width is not None:
        options["width"] = settings.width
    if settings.detector == "mtcnn":
        options["threads"] = settings.threads
    return detector(settings.detector, **options)


class _Carry:
    """Boxes of the last detection, as long as the film shows the same shot."""

    # Mean absolute difference of two 32×18 grey thumbnails past which a frame counts as a new shot.
    CUT = 24.0

    def __init__(self, every: int) -> None:
        self._every = every
        self._age = 0
        self._boxes: Boxes | None = None
        self._thumb: NDArray[np.float32] | None = None

    def boxes(self, frame: Frame, find: Detector) -> tuple[Boxes, bool]:
        """Return the boxes of a frame and whether they were carried over."""
        if frame.picture is None:
            return Boxes.empty(), False
        if self._every == 1:
            return find(frame.picture), False
        small = cv2.resize(frame.picture, (32, 18), interpolation=cv2.INTER_NEAREST).astype(np.float32).mean(2)
        cut = self._thumb is None or float(np.abs(small - self._thumb).mean()) > self.CUT
        self._thumb = small
        self._age += 1
        if self._boxes is None or cut or self._age >= self._every:
            self._boxes, self._age = find(frame.picture), 0
            return self._boxes, False
        return self._boxes, bool(len(self._boxes))


@lru_cache(maxsize=4)
def analyzer(settings: Settings) -> Analyzer:
    """Return the analyzer of these settings; the last four are kept, so that calls do not load models again."""
    return Analyzer(settings)
