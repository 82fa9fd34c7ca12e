"""The course's frames, their labels centred, and the split by people."""

from pathlib import Path

from data_load import FacialKeypointsDataset, person_of_frame, person_split
from data_sets.find import Kind, kind_of
from facial_keypoints.schemes import Scheme

# The course's labels lie this part of the face's size (the square root of its box's area) to the right of the points
# and below them: half a cell of their lattice. Measured by benchmarks/label_shift.py.
LABEL_SHIFT = 0.016


def centre_labels(frames: FacialKeypointsDataset) -> FacialKeypointsDataset:
    """The course's frames with the labels' constant shift (LABEL_SHIFT) taken out.

    A network made the labels, on a lattice of 3.2 % of the face, and they lie half a cell off. Unless that is
    undone, mirror images have it to the other side, and no network can know which side is asked for.
    """
    return frames.centred((LABEL_SHIFT, LABEL_SHIFT))


def course_frames(root: Path, scheme: Scheme | None = None) -> list[FacialKeypointsDataset]:
    """Training frames and labelled test frames of a folder in the course's layout, decoded once.

    Labels of the published frames are centred; drawn faces and one's own data stay as they are.
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
