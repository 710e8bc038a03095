"""The classical baseline: histograms of oriented gradients and a support vector machine."""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.importers import LabelledFaces
from ..errors import DataError, MissingExtraError, OptionError, OutputError
from ..evaluate.metrics import Estimate, accuracy
from ..labels import LabelSet
from ..models.prepare import prepare
from ..zoo.card import InputSpec

__all__ = ["Svm", "fit_svm", "hog", "read_svm"]

INPUT = InputSpec(width=48, height=48, colour="grey", low=0.0, high=255.0)
KERNELS = ("rbf", "linear")
_DEFAULT_COST: Mapping[str, float] = MappingProxyType({"rbf": 5.0, "linear": 0.003})
_BLOCK = 512


def hog(crops: NDArray[np.uint8], *, equalise: bool = True) -> NDArray[np.float32]:
    """Describe faces by histograms of oriented gradients (Dalal and Triggs 2005).

    Parameters
    ----------
    crops
        (N, H, W) uint8 grey or (N, H, W, 3) uint8 RGB; brought to 48×48 grey first.
    equalise
        Spread each picture's brightness evenly over 0 to 255 first, against different light.

    Returns
    -------
    ndarray
        (N, 900) float32 in [0, 1]: 5×5 blocks of 16 pixels, 8 apart, of 2×2 cells with 9 directions each.

    Raises
    ------
    ShapeError
        If the crops have another shape or dtype.
    """
    side, cell = INPUT.width, 8
    describe = cv2.HOGDescriptor((side, side), (2 * cell, 2 * cell), (cell, cell), (cell, cell), 9)
    faces = np.rint(prepare(crops, INPUT)[:, 0]).astype(np.uint8)
    out = np.empty((len(faces), describe.getDescriptorSize()), np.float32)
    for row, face in enumerate(faces):
        out[row] = np.ravel(describe.compute(cv2.equalizeHist(face) if equalise else face))
    return out


@dataclass(frozen=True, slots=True)
class Svm:
    """A support vector machine on `hog`, as plain arrays: it answers without scikit-learn.

    Attributes
    ----------
    labels
        The K labels of the scores.
    kernel
        ``"rbf"`` or ``"linear"``.
    equalise
        As `hog` takes it.
    classes
        (C,) int64: the labels that it has seen; the others always score 0.
    centre, spread
        (900,) float32 each: what is taken off each feature, and what it is then divided by.
    vectors
        (M, 900) float32 support vectors; empty where linear.
    weights, intercept
        Of the decision functions, (M, P) and (P,) for P pairs of classes; (900, C) and (C,) where linear, one against
        the rest. Two classes share one function.
    gamma
        Of the kernel exp(-gamma · distance²).
    slope, offset
        Platt's sigmoid 1 / (1 + exp(slope · decision + offset)) of each class, (C,); one for two classes.
    """

    labels: LabelSet
    kernel: str
    equalise: bool
    classes: NDArray[np.int64]
    centre: NDArray[np.float32]
    spread: NDArray[np.float32]
    vectors: NDArray[np.float32]
    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]
    gamma: float
    slope: NDArray[np.float64]
    offset: NDArray[np.float64]

    def __call__(self, crops: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Return scores (N, K) float32 of crops as `hog` takes them; rows sum to 1."""
        decision = self.decide((hog(crops, equalise=self.equalise) - self.centre) / self.spread)
        p = 1 / (1 + np.exp(np.clip(self.slope * decision + self.offset, -500, 500)))
        if len(self.classes) == 2:
            p = np.concatenate([1 - p, p], 1)
        total = p.sum(1, keepdims=True)
        p = np.where(total > 0, p / np.where(total > 0, total, 1), 1 / len(self.classes))
        scores = np.zeros((len(p), len(self.labels)), np.float32)
        scores[:, self.classes] = p
        return scores

    def decide(self, z: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return how clearly each class is meant, (N, C), or (N, 1) for two, from scaled features (N, 900)."""
        if self.kernel == "linear":
            return z.astype(np.float64) @ self.weights + self.intercept
        parts = [self._kernel(z[i : i + _BLOCK]) @ self.weights for i in range(0, max(len(z), 1), _BLOCK)]
        pairs = np.concatenate(parts) + self.intercept
        return pairs if len(self.classes) == 2 else _against_the_rest(pairs, len(self.classes))

    def predict(self, crops: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the label of the best score, (N,) int64."""
        return self(crops).argmax(1).astype(np.int64)

    def score(self, faces: LabelledFaces) -> Estimate:
        """Return the accuracy on labelled faces, whose labels are in the order of ``labels``."""
        known = faces[faces.label >= 0]
        return accuracy(known.label, self.predict(known.images))

    def save(self, path: str | Path) -> None:
        """Write the machine as one ``.npz`` of plain arrays, under a temporary name first.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        file = Path(path)
        arrays: dict[str, Any] = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self) if f.name != "labels"}
        arrays["labels"] = np.array([self.labels.name, *self.labels.labels])
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
                held = Path(folder) / "svm.npz"
                np.savez_compressed(held, **arrays)
                held.replace(file)
        except OSError as error:
            msg = f"{file}: cannot be written ({error.strerror or error}); name a file in a folder of yours"
            raise OutputError(msg) from error

    def _kernel(self, z: NDArray[np.float32]) -> NDArray[np.float64]:
        # |a - b|² = |a|² - 2ab + |b|², so that one product of matrices does the work.
        square = (z**2).sum(1)[:, None] - 2 * (z @ self.vectors.T) + (self.vectors**2).sum(1)
        return np.exp(-self.gamma * np.maximum(square.astype(np.float64), 0))


def read_svm(path: str | Path) -> Svm:
    """Read what `Svm.save` wrote.

    Raises
    ------
    DataError
        If the file is missing or holds something else.
    """
    file = Path(path)
    try:
        with np.load(file, allow_pickle=False) as held:
            arrays: dict[str, Any] = {f.name: held[f.name] for f in fields(Svm)}
        name, *labels = (str(s) for s in arrays["labels"])
        arrays |= {"labels": LabelSet(name, tuple(labels)), "kernel": str(arrays["kernel"])}
        arrays |= {"equalise": bool(arrays["equalise"]), "gamma": float(arrays["gamma"])}
        return Svm(**arrays)
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        msg = f"{file}: not a support vector machine of ours ({error})"
        raise DataError(msg) from error


def fit_svm(
    faces: LabelledFaces,
    *,
    kernel: str = "rbf",
    cost: float | None = None,
    equalise: bool = True,
    folds: int = 3,
    seed: int = 0,
) -> Svm:
    """Fit a support vector machine on labelled faces, with scores calibrated by Platt's method (Platt 1999).

    The sigmoids are fitted to what machines say about faces that they have not seen: pixel-equal pictures always lie in
    the same of ``folds`` parts. The machine itself learns from all faces.

    Parameters
    ----------
    faces
        Faces; those without a label are left out.
    kernel
        ``"rbf"``, more accurate and slower, or ``"linear"``.
    cost
        C of the machine; None: 5 for ``"rbf"``, 0.003 for ``"linear"``.
    equalise
        As `hog` takes it.
    folds
        Parts for the calibration, at least 2.
    seed
        Decides the parts.

    Raises
    ------
    OptionError
        If the kernel is unknown or another option is impossible.
    DataError
        If fewer than two labels occur, or one in fewer than ``folds`` groups of pixel-equal faces.
    MissingExtraError
        If scikit-learn is not installed.
    """
    if kernel not in KERNELS or folds < 2 or (cost is not None and cost <= 0):
        msg = f"kernel {kernel!r}, cost {cost}, folds {folds}: choose one of {', '.join(KERNELS)}, above 0, at least 2"
        raise OptionError(msg)
    known = faces[faces.label >= 0]
    if len(np.unique(known.label)) < 2:
        msg = f"{len(known)} labelled faces of {len(np.unique(known.label))} labels; a machine tells two or more apart"
        raise DataError(msg)
    for label in np.unique(known.label):
        groups = len(np.unique(known.group[known.label == label]))
        if groups < folds:
            msg = f"{known.labels.labels[label]}: {groups} different faces; {folds} folds need at least as many"
            raise DataError(msg)
    values = hog(known.images, equalise=equalise)
    centre, spread = values.mean(0), values.std(0)
    spread = np.where(spread > 0, spread, 1).astype(np.float32)
    c = _DEFAULT_COST[kernel] if cost is None else cost
    machine = _calibrated((values - centre) / spread, known, kernel=kernel, cost=c, folds=folds, seed=seed)
    return Svm(known.labels, kernel, equalise, machine.classes_, centre, spread, **_arrays(machine, kernel))


def _calibrated(
    z: NDArray[np.float32], faces: LabelledFaces, *, kernel: str, cost: float, folds: int, seed: int
) -> Any:
    """Return scikit-learn's fitted ``CalibratedClassifierCV``."""
    try:
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.model_selection import StratifiedGroupKFold
        from sklearn.svm import SVC, LinearSVC
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train") from error
    machine = SVC(C=cost, gamma="scale", cache_size=500) if kernel == "rbf" else LinearSVC(C=cost, random_state=seed)
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(z, faces.label, faces.group)
    with warnings.catch_warnings():
        # Too few steps for the last digits of a linear machine; its score on held-out faces says what it is worth.
        warnings.filterwarnings("ignore", message="Liblinear failed to converge")
        return CalibratedClassifierCV(machine, method="sigmoid", cv=list(parts), ensemble=False).fit(z, faces.label)


def _arrays(machine: Any, kernel: str) -> dict[str, Any]:
    held = machine.calibrated_classifiers_[0]
    inner = held.estimator
    sigmoid = {
        "slope": np.array([c.a_ for c in held.calibrators]),
        "offset": np.array([c.b_ for c in held.calibrators]),
    }
    if kernel == "linear":
        nothing = np.zeros((0, inner.coef_.shape[1]), np.float32)
        return {"vectors": nothing, "weights": inner.coef_.T, "intercept": inner.intercept_, "gamma": 0.0} | sigmoid
    vectors = inner.support_vectors_.astype(np.float32)
    two = len(inner.classes_) == 2
    weights = inner.dual_coef_.T if two else _pair_weights(inner.dual_coef_, inner.n_support_)
    return {"vectors": vectors, "weights": weights, "intercept": inner.intercept_, "gamma": inner._gamma} | sigmoid


def _pair_weights(dual: NDArray[np.float64], counts: NDArray[np.int32]) -> NDArray[np.float64]:
    """Lay out libsvm's coefficients (C - 1, M) as one column a pair of classes, (M, C (C - 1) / 2)."""
    ends = np.concatenate([[0], np.cumsum(counts)])
    columns = []
    for i, j in combinations(range(len(counts)), 2):
        column = np.zeros(dual.shape[1])
        first, second = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
        column[first], column[second] = dual[j - 1, first], dual[i, second]
        columns.append(column)
    return np.stack(columns, 1)


def _against_the_rest(pairs: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """Count the pairs that each class wins, (N, C); how clearly it wins them decides between equal counts.

    The sum of a class's margins, squeezed into (-1/3, 1/3), is added to the count, as scikit-learn does it.
    """
    votes = np.zeros((len(pairs), classes))
    margin = np.zeros((len(pairs), classes))
    for (i, j), d in zip(combinations(range(classes), 2), pairs.T, strict=True):
        votes[:, i] += d > 0
        votes[:, j] += d <= 0
        margin[:, i] += d
        margin[:, j] -= d
    return votes + margin / (3 * (np.abs(margin) + 1))
