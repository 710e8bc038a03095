"""Which faces to train on, and which to hold out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from .importers import LabelledFaces, read_fer2013

__all__ = ["Split", "split_training"]


@dataclass(frozen=True, slots=True)
class Split:
    """The faces to train on, those held out to choose and calibrate with, and how many leaked faces were dropped."""

    train: LabelledFaces
    validation: LabelledFaces
    dropped: int


def split_training(path: str | Path, *, validation: float, seed: int) -> Split:
    """Split FER2013's Training by groups of pixel-equal pictures, without any face that is also in PublicTest.

    Raises
    ------
    DataError
        If no labelled face of Training is left.
    """
    faces = read_fer2013(path)
    public = np.unique(faces.group[faces.split == "PublicTest"])
    training = faces[(faces.split == "Training") & (faces.label >= 0)]
    leaked = np.isin(training.group, public)
    training = training[~leaked]
    if not len(training):
        msg = f"{path}: no face of the split 'Training' to train on"
        raise DataError(msg)
    groups = np.unique(training.group)
    held = np.random.default_rng(seed).permutation(groups)[: round(validation * len(groups))]
    inside = np.isin(training.group, held)
    return Split(train=training[~inside], validation=training[inside], dropped=int(leaked.sum()))
