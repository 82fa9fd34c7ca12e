"""Faces with both jaws (schemes.TWO_JAWS): 68 points, then the 17 of the head's jaw; NaN for unknown points.

Real faces have their labels, and the head's jaw from the fit. Turned views have the head's jaw, and a known visible
edge only if they are hardly turned.
"""

from pathlib import Path

import numpy as np

from data_load import KeypointsDataset
from data_sets.splits import Split
from facial_keypoints.schemes import TWO_JAWS
from turned_heads.cache import MadeFaces
from turned_heads.head import fit_head, fit_poses
from turned_heads.sources import BUILD, STRANGERS, TRAINING, made_faces


class TwoJaws(KeypointsDataset):
    """Any data set with other keypoints: (N, 85, 2) for the N faces of `faces`, in its order."""

    def __init__(self, faces: KeypointsDataset, keypoints: np.ndarray):
        self.faces, self.keypoints, self.transform = faces.with_transform(None), keypoints, faces.transform
        self.names, self.places, self.boxes = faces.names, faces.places, None
        self.indices, self.scheme = np.arange(len(faces)), TWO_JAWS
        self.label_shift = faces.label_shift[faces.indices]

    def __getitem__(self, position):
        index = int(self.indices[position])
        sample = self.faces[index] | {"keypoints": self.keypoints[index].copy()}
        return self.transform(sample) if self.transform else sample


def fitted_jaws(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The head's jaw (N, 17, 2) and the yaw (N,) in radians of faces (N, 68, 2), from the fit."""
    heads = [fit_head(points, pose) for points, pose in zip(keypoints, fit_poses(keypoints), strict=True)]
    return np.stack([head.project()[:17] for head in heads]).astype(np.float32), np.array([h.pose.yaw for h in heads])


def real(faces: KeypointsDataset) -> TwoJaws:
    """Labelled faces with both jaws."""
    labels = faces.keypoints[faces.indices]
    return TwoJaws(faces, np.concatenate([labels, fitted_jaws(labels)[0]], axis=1))


def made(faces: MadeFaces) -> TwoJaws:
    """Turned views with both jaws; the visible edge is unknown if they are turned."""
    heads = faces.keypoints[faces.indices]
    seen = np.where(faces.edge_known[:, None, None], heads[:, :17], np.nan)
    return TwoJaws(faces, np.concatenate([seen, heads[:, 17:], heads[:, :17]], axis=1).astype(np.float32))


def with_turned_heads(split: Split, root: Path, build: Path = BUILD) -> tuple[TwoJaws, ...]:
    """Training data for two jaws: the faces of a split, the photos twice as in Split.faces, and turned views."""
    frames, photos = (real(faces) for faces in split.training)
    names = (*TRAINING, *([STRANGERS] if split.name == "all" else []))
    return (frames, photos, photos, *map(made, made_faces(root, build, names).values()))
