"""The course's frames, their labels centred, and the split by people."""

from pathlib import Path

from data_load import FacialKeypointsDataset, person_of_frame, person_split
from data_sets.find import Kind, kind_of
from facial_keypoints.schemes import Scheme

# The offset of the course's labels, to the right and down, as a fraction of the face size (the square root of the
# box's area): half a cell of their lattice. Measured by benchmarks/label_shift.py.
LABEL_SHIFT = 0.016


def centre_labels(frames: FacialKeypointsDataset) -> FacialKeypointsDataset:
    """The course's frames with the constant offset of the labels (LABEL_SHIFT) removed.

    A network made the labels, on a lattice of 3.2 % of the face size, and they are half a cell off. In a mirror image
    that offset would point to the other side, so a network trained with mirror images could not learn it.
    """
    return frames.centred((LABEL_SHIFT, LABEL_SHIFT))


def course_frames(root: Path, scheme: Scheme | None = None) -> list[FacialKeypointsDataset]:
    """Training frames and labelled test frames of a folder in the course's layout, decoded once.

    Labels of the published frames are centred; those of drawn faces and of one's own data are left unchanged.
    scheme: see data_load.KeypointsDataset.
    """
    kind = kind_of(root)
    person = None if kind is Kind.OWN else person_of_frame
    both = [
        FacialKeypointsDataset(root / f"{split}_frames_keypoints.csv", root / split, None, True, person, scheme)
        for split in ("training", "test")
    ]
    return [centre_labels(frames) for frames in both] if kind is Kind.PUBLISHED else both


def course_data(root: Path) -> tuple:
    """Training, validation (a fifth of the training people) and labelled test frames."""
    everyone, test = course_frames(root)
    training, validation = (everyone.subset(positions) for positions in person_split(everyone.people))
    return training, validation, test
