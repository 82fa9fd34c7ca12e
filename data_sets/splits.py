"""The training and test data of the evaluation protocol.

300-W means 2012 cut-outs from three of its sources (AFW, HELEN, LFPW).
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import ConcatDataset, Dataset

from data_load import KeypointsDataset, person_split
from data_sets.course import course_frames
from data_sets.face_cuts import FaceCuts
from data_sets.find import DataFolder, Kind
from data_sets.ibug_300w import IbugFaces, find_ibug, held_out_photos, load_ibug, split_photos
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError

HELD_OUT = 0.2  # the fraction of people, and of 300-W photos


@dataclass(frozen=True)
class HeldOut:
    """Test faces: data sets, and the person (or photo) of each face, by which the bootstrap groups."""

    parts: tuple[KeypointsDataset, ...]
    groups: np.ndarray

    def __len__(self):
        return len(self.groups)

    @property
    def label_shift(self) -> np.ndarray:  # (N, 2)
        """The offset of each face's published labels from the labels here, in the units of `metrics.shifted`."""
        return np.concatenate([part.label_shift[part.indices] for part in self.parts])

    def exact_boxes(self) -> np.ndarray:  # (N, 4)
        """The tight box of each face's keypoints."""
        return np.stack([tight_box(part.keypoints[i]) for part in self.parts for i in part.indices])

    def crops(self, boxes: np.ndarray, transform) -> Dataset:
        """The faces with these boxes and a transform; faces whose box is NaN are left out."""
        sizes = np.cumsum([len(part) for part in self.parts])[:-1]
        return ConcatDataset(
            [
                with_boxes(part, own).with_transform(transform)
                for part, own in zip(self.parts, np.split(boxes, sizes), strict=True)
            ]
        )


@dataclass(frozen=True)
class Split:
    """Training data and tests that do not overlap.

    training: frames of the course, then faces of 300-W; about: a line that describes the latter.
    """

    name: str
    about: str
    training: tuple[KeypointsDataset, KeypointsDataset]
    tests: dict[str, HeldOut]

    def faces(self, recipe) -> tuple[KeypointsDataset, ...]:
        """The training data of a recipe: the course's frames and, for the shipped recipes, the faces of 300-W.

        These faces are used twice per epoch: nearly every one shows another person, while the course has three frames
        of every video.
        """
        frames, faces = self.training
        return (frames, faces, faces) if recipe.ships else (frames,)


def with_boxes(faces: KeypointsDataset, boxes: np.ndarray) -> KeypointsDataset:
    """The same faces with these boxes (N, 4); those whose box is NaN are left out."""
    other, found = copy.copy(faces), np.isfinite(boxes).all(axis=1)
    other.boxes = np.full((len(faces.names), 4), np.nan, np.float32)
    other.boxes[faces.indices] = boxes
    return other.subset(np.flatnonzero(found))


def splits(root: Path) -> list[Split]:
    """The two splits of the protocol.

    "all": trained on every training frame of the course and four fifths of the 300-W photos, tested on the course's
    770 labelled test frames ("official") and the other fifth of 300-W; the shipped weights are from this split.
    "unseen": trained without a fifth of the people, tested on all frames of these, from both CSV files.
    """
    frames, test = course_frames(root)
    faces, about = load_ibug()
    seen, held_out = split_photos(faces, HELD_OUT)
    cuts = training_faces(seen)
    people, strangers = (frames.subset(positions) for positions in person_split(frames.people, HELD_OUT))
    more = test.subset(np.flatnonzero(np.isin(test.people, strangers.people)))
    official, photos = HeldOut((test,), test.people), HeldOut((held_out,), held_out.photos)
    unseen = HeldOut((strangers, more), np.concatenate([strangers.people, more.people]))
    return [
        Split("all", about, (frames, cuts), {"official": official, "300-W": photos}),
        Split("unseen", about, (people, cuts), {"unseen": unseen}),
    ]


def real_splits(data: DataFolder) -> list[Split]:
    """`splits` of find_data's answer; raises DataError for anything but the course's frames and 300-W."""
    source = find_ibug() if data.kind is Kind.PUBLISHED else data
    if source.kind is not Kind.PUBLISHED:
        raise DataError(f"this needs the course's frames and 300-W, not {source.about}")
    return splits(data.path)


def check_not_learned(photos: np.ndarray) -> None:
    """Raises DataError if the shipped weights were trained on any of these photos of 300-W, given by name."""
    learned = sorted(set(photos) - held_out_photos())
    if learned:
        raise DataError(
            f"the networks that ship learned from {len(learned)} photos of this test ({learned[0]} is one); "
            "they are only measured on those named in data_sets/ibug_300w_held_out.txt"
        )


def training_faces(faces: IbugFaces) -> FaceCuts:
    """Faces of 300-W cut out for training, without the file's boxes and mirrored copies; training makes its own."""
    cuts = FaceCuts(faces.subset(np.flatnonzero(~faces.mirrored)), size=256)
    cuts.boxes = None
    return cuts
