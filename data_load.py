"""The course data set, its published layout, and the transforms of the coursework.

A sample is a dict: 'image' is RGB uint8 (H, W, 3) until a transform makes it a tensor; 'keypoints' is float32
(K, 2), x then y, in pixels of that image, pixel centres at whole numbers.
"""

import copy
import csv
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from geometry import resize, resize_matrix, transform_points

ROOT = Path(__file__).resolve().parent

# A phone takes 200 megapixels; Pillow warns above half as many as it refuses, and nobody needs to hear that.
MAX_MEGAPIXELS = 300
Image.MAX_IMAGE_PIXELS = MAX_MEGAPIXELS * 1_000_000 // 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class DataError(ValueError):
    """A mistake in the user's data, told in one sentence."""


def find_data() -> tuple[Path, str]:
    """The data folder and one line about it: KEYPOINTS_DATA, else data/, else drawn faces (made in build/).

    Raises DataError when KEYPOINTS_DATA is set to a folder that holds no data in the published layout.
    """
    asked = os.environ.get("KEYPOINTS_DATA")
    folder = Path(asked) if asked else ROOT / "data"
    if (folder / "training_frames_keypoints.csv").is_file():
        return folder, _whose_frames(folder)
    if asked:
        raise DataError(f"KEYPOINTS_DATA={asked}: no training_frames_keypoints.csv there; name the unpacked data")
    from synthetic_faces import write_dataset  # only when it is needed: the real data does without

    drawn = write_dataset(ROOT / "build" / "drawn_faces")
    return drawn, "drawn faces, since there is no data/ folder (`make data` fetches the real frames)"


def _whose_frames(folder):
    from synthetic_faces import MARKER

    rows = (folder / "training_frames_keypoints.csv").read_bytes().splitlines()
    if len(rows) == 3463 and rows[1].startswith(b"Luis_Fonsi_21.jpg,"):
        return "YouTube Faces frames in the course's layout"
    return f"{'drawn faces' if (folder / MARKER).is_file() else 'your own frames'} in {folder}"


def find_folder(name: str) -> Path | None:
    """The folder of an optional data set below KEYPOINTS_DATA or data/; None when it is not there."""
    folder = Path(os.environ.get("KEYPOINTS_DATA") or ROOT / "data") / name
    return folder if folder.is_dir() else None


def read_image(path: str | Path) -> np.ndarray:  # (H, W, 3) RGB uint8
    """Read any picture as upright RGB uint8: colour, gray, RGBA, palette, CMYK or 16 bits a channel.

    The name's ending is not trusted (the course's .jpg files are RGBA PNGs). Alpha is dropped.
    Raises DataError for a missing, unreadable or truncated file, 32 bits a channel, or over MAX_MEGAPIXELS.
    """
    try:
        with Image.open(path) as picture:
            return _upright_rgb(picture)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: over {MAX_MEGAPIXELS} megapixels, save it smaller") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: not a readable picture ({error})") from None


def _upright_rgb(picture):
    """A Pillow image as read_image returns it; raises ValueError where nothing says which number is white."""
    # Pillow opens some files of 16 bits as mode I, which is 32 bits in all others.
    if picture.mode == "F" or (picture.mode == "I" and picture.format not in ("PNG", "PPM")):
        raise ValueError("it has 32 bits a channel, save it with 8 or 16")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip it at 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return np.array(picture.convert("RGB"))


def as_rgb(image) -> np.ndarray:  # (H, W, 3) uint8
    """A path or Pillow image (see read_image), or an array that is RGB, RGBA or gray, uint8 or uint16, as RGB uint8.

    Raises DataError for anything else.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        try:
            return _upright_rgb(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"an image that Pillow cannot read ({error})") from None
    image = np.asarray(image)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
        raise DataError(f"an image of shape {image.shape} and type {image.dtype}: expected RGB uint8 (H, W, 3)")
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.shape[2] not in (3, 4):
        raise DataError(f"an image with {image.shape[2]} channels: expected gray, RGB or RGBA")
    return np.ascontiguousarray(image[..., :3])


def read_keypoints(csv_file: str | Path) -> tuple[list[str], np.ndarray]:
    """File names and keypoints (N, K, 2) of a CSV: a name, then x0, y0, x1, y1, ... in every row.

    Raises DataError that names the file, and the row (counted from 1 below the header) where one is wrong.
    """
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
    expected = len(header) - 1
    if expected < 2 or expected % 2:
        raise DataError(f"{csv_file}: the header names {expected} numbers, expected x and y of every keypoint")
    for number, row in enumerate(rows, start=1):
        if len(row) - 1 != expected:
            where = f'{csv_file}: row {number} ("{row[0] if row else ""}")'
            raise DataError(f"{where} has {max(len(row) - 1, 0)} numbers, expected {expected}")
    numbers = np.empty((len(rows), expected), np.float32)
    for number, row in enumerate(rows, start=1):
        try:
            numbers[number - 1] = row[1:]
        except ValueError as error:
            raise DataError(f'{csv_file}: row {number} ("{row[0]}"): {error}') from None
        if not np.isfinite(numbers[number - 1]).all():
            raise DataError(f'{csv_file}: row {number} ("{row[0]}") holds a number that is not finite')
    keypoints = numbers.reshape(len(rows), -1, 2)
    for number in np.flatnonzero((keypoints == keypoints[:, :1]).all(axis=(1, 2)) & (expected > 2)):
        raise DataError(f'{csv_file}: row {number + 1} ("{rows[number][0]}") has all its keypoints in one spot')
    return [row[0] for row in rows], keypoints


class KeypointsDataset(Dataset):
    """Pictures with keypoints: what every data set here has in common.

    names: files below root_dir; keypoints: (N, K, 2); places: where each entry is written ("file: row 3 (...)"),
    for error sentences; boxes: (N, 4) or None. With in_memory=True each picture is decoded once and kept.
    Raises DataError that names place and file for a missing, unreadable or cut-off image.
    """

    def __init__(self, names, keypoints, root_dir, places, transform=None, in_memory=False, boxes=None):
        self.names, self.keypoints, self.boxes = list(names), keypoints, boxes
        self.root_dir, self.places, self.transform = Path(root_dir), places, transform
        self.images = {} if in_memory else None
        self.indices = np.arange(len(self.names))
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

    def load_into_memory(self) -> int:
        """Decode every picture now, on all cores; returns the bytes that they take (the course's: 470 MB)."""
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


class FacialKeypointsDataset(KeypointsDataset):
    """The course's layout: a CSV file (see `read_keypoints`) and a folder of images.

    Raises DataError that names the CSV file and the row for a bad row or a missing, unreadable or cut-off image.
    """

    def __init__(self, csv_file, root_dir, transform=None, in_memory=False):
        names, keypoints = read_keypoints(csv_file)
        places = [f'{csv_file}: row {number} ("{name}")' for number, name in enumerate(names, start=1)]
        super().__init__(names, keypoints, root_dir, places, transform, in_memory)

    @property
    def people(self) -> np.ndarray:  # (N,) str
        """Who is in each picture: the file name `Person_Name_VF.jpg` without video and frame."""
        return np.array([self.names[index].rsplit("_", 1)[0] for index in self.indices])


def person_split(people: np.ndarray, fraction: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions to keep and positions to hold out, so that nobody is on both sides.

    A seeded `fraction` of the people (at least one) is held out with all their pictures.
    """
    names = np.unique(people)
    shuffled = np.random.default_rng(seed).permutation(names)
    held_out = np.isin(people, shuffled[: max(1, round(fraction * len(names)))])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def moved(sample: dict, image, keypoints) -> dict:
    """The sample with another image and its keypoints, and without `box`, which was one in the old image."""
    return {key: value for key, value in sample.items() if key != "box"} | {"image": image, "keypoints": keypoints}


class Resize:
    """Resize to exactly (h, w), or to size x size; the aspect ratio may change."""

    def __init__(self, size):
        self.size = (size, size) if isinstance(size, int) else tuple(size)

    def __call__(self, sample):
        old, new = sample["image"].shape[1::-1], self.size[::-1]
        keypoints = transform_points(resize_matrix(old, new), sample["keypoints"])
        return moved(sample, resize(sample["image"], new), keypoints)


class Rescale:
    """Resize so that the shorter side is `size` pixels; the aspect ratio stays."""

    def __init__(self, size: int):
        if not isinstance(size, int):
            raise ValueError(f"Rescale({size}): one whole number, the shorter side; Resize takes (h, w)")
        self.size = size

    def __call__(self, sample):
        height, width = sample["image"].shape[:2]
        scale = self.size / min(height, width)
        return Resize((max(self.size, round(height * scale)), max(self.size, round(width * scale))))(sample)


class _Crop:
    """A window of (h, w), or size x size, pixels cut out of the picture; subclasses choose its place."""

    def __init__(self, size):
        self.size = (size, size) if isinstance(size, int) else tuple(size)

    def __call__(self, sample):
        height, width = sample["image"].shape[:2]
        if height < self.size[0] or width < self.size[1]:
            wanted = f"{type(self).__name__} of {self.size[0]}x{self.size[1]}"
            raise ValueError(f"{wanted}: the picture is only {height}x{width} (h x w); Rescale it first")
        top, left = self.offset(height - self.size[0]), self.offset(width - self.size[1])
        image = sample["image"][top : top + self.size[0], left : left + self.size[1]]
        return moved(sample, image, sample["keypoints"] - np.array([left, top], np.float32))


class RandomCrop(_Crop):
    """Cut out a window at a random place; every offset, the last one too, is equally likely."""

    def offset(self, room):
        return int(torch.randint(room + 1, ()))


class CenterCrop(_Crop):
    """Cut out the window in the middle."""

    def offset(self, room):
        return room // 2


class Normalize:
    """Gray image in [0, 1], float32 (H, W); keypoints (k - mean) / std with the course's constants."""

    def __init__(self, mean: float = 100.0, std: float = 50.0):
        self.mean, self.std = mean, std

    def __call__(self, sample):
        gray = cv2.cvtColor(sample["image"], cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        return sample | {"image": gray, "keypoints": (sample["keypoints"] - self.mean) / self.std}

    def inverse(self, keypoints):
        """Normalised keypoints (array or tensor) back to pixels: the one place where this is undone."""
        return keypoints * self.std + self.mean


class NormalizeColor(Normalize):
    """The same for the keypoints; the image stays RGB uint8."""

    def __call__(self, sample):
        return sample | {"keypoints": (sample["keypoints"] - self.mean) / self.std}


class ToTensor:
    """Image to float32 (C, H, W) in [0, 1], keypoints to float32 (K, 2)."""

    def __call__(self, sample):
        image = np.atleast_3d(sample["image"])
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        tensor = tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor.float()
        return sample | {"image": tensor, "keypoints": torch.as_tensor(sample["keypoints"], dtype=torch.float32)}
