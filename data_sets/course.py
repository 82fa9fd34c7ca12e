"""The course's frames, their labels centred, and the split by people."""

import copy
from pathlib import Path

from data_load import FacialKeypointsDataset, person_split
from metrics import face_size

# The course's labels lie this part of the face's size (the square root of its box's area) to the right of the points
# and below them: half a cell of their lattice. Measured by benchmarks/label_shift.py.
LABEL_SHIFT = 0.016


def centre_labels(frames: FacialKeypointsDataset) -> FacialKeypointsDataset:
    """The same frames with the labels' constant shift (LABEL_SHIFT) taken out; exact labels stay as they are.

    A network made the labels, on a lattice of 3.2 % of the face, and they lie half a cell off. Unless that is
    undone, mirror images have it to the other side, and no network can know which side is asked for.
    """
    if (frames.keypoints % 1).any():  # drawn faces
        return frames
    other = copy.copy(frames)
    other.keypoints = frames.keypoints - LABEL_SHIFT * face_size(frames.keypoints)[:, None, None]
    return other


def course_frames(root: Path) -> list[FacialKeypointsDataset]:
    """Training frames and labelled test frames, labels centred, decoded once."""
    return [
        centre_labels(FacialKeypointsDataset(root / f"{split}_frames_keypoints.csv", root / split, in_memory=True))
        for split in ("training", "test")
    ]


def course_data(root: Path) -> tuple:
    """Training, validation (a fifth of the training people) and labelled test frames."""
    everyone, test = course_frames(root)
    training, validation = (everyone.subset(positions) for positions in person_split(everyone.people))
    return training, validation, test
