"""What networks learn from and what they are measured on."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import ConcatDataset, Dataset

import metrics
from data_load import KeypointsDataset, person_split
from data_sets.course import course_frames
from data_sets.face_cuts import FaceCuts
from data_sets.find import DataFolder, Kind
from data_sets.ibug_300w import IbugFaces, find_ibug, load_ibug, split_photos
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError

HELD_OUT = 0.2  # of the people, and of the 300-W photos


@dataclass(frozen=True)
class HeldOut:
    """Faces to measure on: data sets, and who is in each picture (or which photo it is), for the bootstrap."""

    parts: tuple[KeypointsDataset, ...]
    groups: np.ndarray

    def __len__(self):
        return len(self.groups)

    def boxes(self, kind: str, detector=None) -> np.ndarray:
        """Boxes (N, 4) of a kind: "exact", "jittered", or "haar", which needs the detector; NaN where it missed."""
        exact = np.stack([tight_box(part.keypoints[i]) for part in self.parts for i in part.indices])
        if kind == "exact":
            return exact
        return jittered(exact) if kind == "jittered" else detected(self.parts, exact, detector)

    def crops(self, boxes: np.ndarray, transform) -> Dataset:
        """The faces in these boxes through a transform; faces whose box is NaN are left out."""
        sizes = np.cumsum([len(part) for part in self.parts])[:-1]
        return ConcatDataset(
            [
                with_boxes(part, own).with_transform(transform)
                for part, own in zip(self.parts, np.split(boxes, sizes), strict=True)
            ]
        )


@dataclass(frozen=True)
class Split:
    """What a network of this split may learn from, and what it is measured on.

    training: frames of the course, then faces of 300-W; about: one line on where the latter are from.
    """

    name: str
    about: str
    training: tuple[KeypointsDataset, KeypointsDataset]
    tests: dict[str, HeldOut]

    def faces(self, recipe) -> tuple[KeypointsDataset, ...]:
        """What a recipe trains on: the course's frames and, if it ships, 300-W's faces too.

        Those come twice an epoch: each is another person, where the course has three frames of every video.
        """
        frames, faces = self.training
        return (frames, faces, faces) if recipe.ships else (frames,)


def with_boxes(faces: KeypointsDataset, boxes: np.ndarray) -> KeypointsDataset:
    """The same faces with these boxes (N, 4); those whose box is NaN are left out."""
    other, found = copy.copy(faces), np.isfinite(boxes).all(axis=1)
    other.boxes = np.full((len(faces.names), 4), np.nan, np.float32)
    other.boxes[faces.indices] = boxes
    return other.subset(np.flatnonzero(found))


def jittered(boxes: np.ndarray, shift: float = 0.05, scale: float = 0.08, seed: int = 0) -> np.ndarray:  # (N, 4)
    """Boxes as wrong as a detector's: centres off by N(0, shift) of the size per axis, sizes by exp(N(0, scale)).

    Exact boxes give part of the answer away; this is what remains without them.
    """
    rng = np.random.default_rng(seed)
    centres = boxes[:, :2] + boxes[:, 2:] * (0.5 + rng.normal(0, shift, (len(boxes), 2)))
    sizes = boxes[:, 2:] * np.exp(rng.normal(0, scale, (len(boxes), 1)))
    return np.hstack([centres - sizes / 2, sizes]).astype(np.float32)


def detected(parts, exact: np.ndarray, detector) -> np.ndarray:  # (N, 4)
    """The detector's box of every face, NaN where it found none."""
    pictures = (part.with_transform(None)[i]["image"] for part in parts for i in range(len(part)))
    boxes = np.full_like(exact, np.nan)
    for number, (picture, box) in enumerate(zip(pictures, exact, strict=True)):
        found, _ = detector(picture)
        (match,) = metrics.match_boxes(found, box[None])
        if match >= 0:
            boxes[number] = found[match]
    return boxes


def splits(root: Path) -> list[Split]:
    """The two trainings of the protocol and what each is measured on.

    "all": every training frame of the course and four fifths of the 300-W photos, measured on the course's 770
    test frames ("official") and on the other fifth of 300-W; the weights that ship are of this training.
    "unseen": less a fifth of the people, measured on all their frames, of both files.
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


def training_faces(faces: IbugFaces) -> FaceCuts:
    """Faces of 300-W cut out for training, without their file's boxes and mirrored copies: training makes its own."""
    cuts = FaceCuts(faces.subset(np.flatnonzero(~faces.mirrored)), size=256)
    cuts.boxes = None
    return cuts
