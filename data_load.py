"""The course data set in its published layout.

A sample is a dict: 'image' is RGB uint8 (H, W, 3) until a transform makes it a tensor; 'keypoints' is float32
(K, 2), x then y, in pixels of that image, pixel centres at whole numbers.
"""

import copy
import csv
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from facial_keypoints.images import DataError, read_image
from facial_keypoints.schemes import default_scheme
from metrics import shifted


def read_keypoints(csv_file: str | Path) -> tuple[list[str], np.ndarray, list[str] | None]:
    """File names, keypoints (N, K, 2) and people from a CSV file of rows: a name, then x0, y0, x1, y1, ...

    An optional column `person`, anywhere after the first, says who is in the picture; without it people are None.
    Raises DataError that names the file and, for a bad row, its number (counted from 1 below the header).
    """
    header, rows = _read_rows(csv_file)
    people = None
    if "person" in header[1:]:
        column = header.index("person", 1)
        people = [row.pop(column) for row in rows]
        header.pop(column)
    keypoints = _as_keypoints(csv_file, [row[0] for row in rows], [row[1:] for row in rows], len(header) - 1)
    return [row[0] for row in rows], keypoints, people


def _read_rows(csv_file):
    """The header and the rows, each as long as the header."""
    try:
        with open(csv_file, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except FileNotFoundError:
        raise DataError(f"{csv_file}: no such file; `make data` fetches it") from None
    except OSError as error:
        raise DataError(f"{csv_file}: not a readable file ({error.strerror})") from None
    except (ValueError, csv.Error):
        raise DataError(f"{csv_file}: not a CSV file with a header row") from None
    if not rows:
        raise DataError(f"{csv_file}: no rows below its header")
    others = "person" in header[1:]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            where = f'{csv_file}: row {number} ("{row[0] if row else ""}")'
            count, expected = (max(len(fields) - 1 - others, 0) for fields in (row, header))
            raise DataError(f"{where} has {count} numbers, expected {expected}")
    return header, rows


def _as_keypoints(csv_file, names, rows, expected):  # (N, K, 2)
    if expected < 2 or expected % 2:
        raise DataError(f"{csv_file}: the header names {expected} numbers, expected x and y of every keypoint")
    numbers = np.empty((len(rows), expected), np.float32)
    for number, (name, row) in enumerate(zip(names, rows, strict=True), start=1):
        where = f'{csv_file}: row {number} ("{name}")'
        try:
            numbers[number - 1] = row
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        if not np.isfinite(numbers[number - 1]).all():
            raise DataError(f"{where} holds a number that is not finite")
    keypoints = numbers.reshape(len(rows), -1, 2)
    for number in np.flatnonzero((keypoints == keypoints[:, :1]).all(axis=(1, 2)) & (expected > 2)):
        raise DataError(f'{csv_file}: row {number + 1} ("{names[number]}") has all its keypoints in one spot')
    return keypoints


class KeypointsDataset(Dataset):
    """Pictures with keypoints: the base class of all data sets here.

    names: files below root_dir; keypoints: (N, K, 2); places: where each entry comes from ("file: row 3 (...)"), for
    error messages; boxes: (N, 4) or None; scheme: the landmark scheme, None for schemes.default_scheme. The attribute
    label_shift (N, 2) is the offset that `centred` subtracted. With in_memory=True each picture is decoded once and
    kept. Raises DataError that names place and file for a missing, unreadable or truncated image, and if the number
    of points is not the scheme's.
    """

    def __init__(self, names, keypoints, root_dir, places, transform=None, in_memory=False, boxes=None, scheme=None):
        self.names, self.keypoints, self.boxes = list(names), keypoints, boxes
        self.root_dir, self.places, self.transform = Path(root_dir), places, transform
        self.images = {} if in_memory else None
        self.label_shift = np.zeros((len(self.names), 2), np.float32)
        self.indices = np.arange(len(self.names))
        self.scheme = scheme or default_scheme(keypoints.shape[1])
        if keypoints.shape[1] not in (0, self.scheme.num_points):  # a test file has none
            count, name = keypoints.shape[1], self.scheme.name
            raise DataError(f"{places[0]}: {count} keypoints, but the scheme {name} has {self.scheme.num_points}")
        for name, place in zip(self.names, places, strict=True):
            if not (self.root_dir / name).is_file():
                raise DataError(f"{place}: {self.root_dir / name} is missing")

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, position):
        index = self.indices[position]
        sample = {"image": self._image(index).copy(), "keypoints": self.keypoints[index].copy()}
        if self.boxes is not None:
            sample["box"] = self.boxes[index].copy()
        return self.transform(sample) if self.transform else sample

    def subset(self, positions) -> "KeypointsDataset":
        """The same data set with only these positions; pictures in memory are shared."""
        part = copy.copy(self)
        part.indices = self.indices[positions]
        return part

    def with_transform(self, transform) -> "KeypointsDataset":
        """The same data set through another transform; pictures in memory are shared."""
        other = copy.copy(self)
        other.transform = transform
        return other

    def centred(self, shift) -> "KeypointsDataset":
        """The same data set with a constant label offset subtracted, see `metrics.shifted` for its form."""
        other = copy.copy(self)
        other.keypoints = shifted(self.keypoints, -np.float32(shift))
        other.label_shift = self.label_shift + np.float32(shift)
        return other

    def cached(self, transform) -> "KeypointsDataset":
        """The same data set with a transform applied to every sample once; the results are kept in memory."""
        small, samples = copy.copy(self), self.with_transform(transform)
        small.keypoints, small.boxes = self.keypoints.copy(), None
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            done = list(pool.map(samples.__getitem__, range(len(self))))
        small.images = {index: sample["image"] for index, sample in zip(self.indices, done, strict=True)}
        small.keypoints[self.indices] = [sample["keypoints"] for sample in done]
        return small

    def load_into_memory(self) -> int:
        """Decode every picture now, on all cores; returns their size in bytes (the course's frames: 470 MB)."""
        with ThreadPoolExecutor() as pool:
            return sum(image.nbytes for image in pool.map(self._image, self.indices))

    def _image(self, index):
        if self.images is not None and index in self.images:
            return self.images[index]
        try:
            image = read_image(self.root_dir / self.names[index])
        except DataError as error:
            raise DataError(f"{self.places[index]}: {error}") from None
        if self.images is not None:
            self.images[index] = image
        return image


def person_of_frame(name: str) -> str:
    """The person in a frame of the course: `Person_Name` of the file name `Person_Name_VF.jpg` (V video, F frame)."""
    return name.rsplit("_", 1)[0]


class FacialKeypointsDataset(KeypointsDataset):
    """The course's layout: a CSV file (see `read_keypoints`) and a folder of images.

    person: a function from file name to person, used if the CSV file has no column `person`; with None every picture
    counts as a different person. Raises DataError that names the CSV file and the row for a bad row or a missing,
    unreadable or truncated image.
    """

    def __init__(self, csv_file, root_dir, transform=None, in_memory=False, person=person_of_frame, scheme=None):
        names, keypoints, people = read_keypoints(csv_file)
        places = [f'{csv_file}: row {number} ("{name}")' for number, name in enumerate(names, start=1)]
        super().__init__(names, keypoints, root_dir, places, transform, in_memory, scheme=scheme)
        self._people = np.array(people or [person(name) if person else name for name in names])

    @property
    def people(self) -> np.ndarray:  # (N,) str
        """Who is in each picture."""
        return self._people[self.indices]


def person_split(people: np.ndarray, fraction: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on and positions to hold out, with no person in both.

    A seeded random `fraction` of the people (at least one) is held out with all their pictures. Raises DataError if
    all pictures are of one person.
    """
    names = np.unique(people)
    if len(names) < 2:
        raise DataError(f"{len(people)} pictures of one person ({names[0]}): holding people out takes at least two")
    shuffled = np.random.default_rng(seed).permutation(names)
    held_out = np.isin(people, shuffled[: max(1, round(fraction * len(names)))])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
