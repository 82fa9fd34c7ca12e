"""Transforms: callable classes sample -> sample; random ones draw from torch's generator."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from facial_keypoints.geometry import (
    compose,
    crop_matrix,
    mirror_matrix,
    resize,
    resize_matrix,
    similarity_matrix,
    tight_box,
    transform_points,
    warp,
)
from facial_keypoints.schemes import IBUG_68, TWO_JAWS, Scheme, with_jaw_3d


def with_image(sample: dict, image, keypoints) -> dict:
    """The sample with a new image and the keypoints in it, and without `box`, which belonged to the old image."""
    return {key: value for key, value in sample.items() if key != "box"} | {"image": image, "keypoints": keypoints}


class Resize:
    """Resize to exactly (h, w), or to size x size; the aspect ratio may change."""

    def __init__(self, size):
        self.size = (size, size) if isinstance(size, int) else tuple(size)

    def __call__(self, sample):
        old, new = sample["image"].shape[1::-1], self.size[::-1]
        keypoints = transform_points(resize_matrix(old, new), sample["keypoints"])
        return with_image(sample, resize(sample["image"], new), keypoints)


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
        return with_image(sample, image, sample["keypoints"] - np.array([left, top], np.float32))


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
        """Normalised keypoints (array or tensor) back to pixels."""
        return keypoints * self.std + self.mean


class NormalizeColor(Normalize):
    """Like Normalize for the keypoints; the image stays RGB uint8."""

    def __call__(self, sample):
        return sample | {"keypoints": (sample["keypoints"] - self.mean) / self.std}


class ToTensor:
    """Image to float32 (C, H, W) in [0, 1], keypoints to float32 (K, 2)."""

    def __call__(self, sample):
        image = np.atleast_3d(sample["image"])
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        tensor = tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor.float()
        return sample | {"image": tensor, "keypoints": torch.as_tensor(sample["keypoints"], dtype=torch.float32)}


def uniform(low: float, high: float) -> float:
    """One number between low and high from torch's generator."""
    return low + (high - low) * torch.rand(()).item()


def normal(sigma: float) -> float:
    """One number from N(0, sigma) from torch's generator."""
    return sigma * torch.randn(()).item()


def warp_sample(sample: dict, matrix: np.ndarray, size: tuple) -> dict:
    """Move image and keypoints by the same 2x3 matrix."""
    return with_image(sample, warp(sample["image"], matrix, size), transform_points(matrix, sample["keypoints"]))


@dataclass(frozen=True)
class RandomAffine:
    """Random rotation, scale, shift and mirror image, in one warp.

    rotation: sigma in degrees; scale: sigma of its logarithm; shift: sigma per axis as a fraction of the picture's
    size; mirror: probability; scheme: of the points, without a mirror table nothing is mirrored. Draws are clipped at
    two sigma, so that hardly any point leaves the crop. Raises DataError for points of another scheme, unless mirror
    is 0.
    """

    rotation: float = 8.0
    scale: float = 0.06
    shift: float = 0.03
    mirror: float = 0.5
    scheme: Scheme = IBUG_68

    def draw(self, width: int, height: int) -> tuple[np.ndarray, bool]:
        """One random 2x3 matrix for a picture of this size, and whether it mirrors."""
        angle, log_scale, dx, dy = torch.randn(4).clamp(-2, 2).tolist()
        shift = (dx * self.shift * width, dy * self.shift * height)
        matrix = similarity_matrix(angle * self.rotation, np.exp(log_scale * self.scale), shift, (width, height))
        mirrored = uniform(0, 1) < self.mirror and self.scheme.mirror is not None
        return (compose(matrix, mirror_matrix(width)) if mirrored else matrix), mirrored

    def place(self, keypoints: np.ndarray, matrix: np.ndarray, size: tuple) -> tuple[np.ndarray, np.ndarray]:
        """A 2x3 matrix into size (w, h) followed by a random one, as one matrix, and the keypoints moved by it."""
        if self.mirror:
            self.scheme.check(keypoints)
        random_matrix, mirrored = self.draw(*size)
        matrix = compose(random_matrix, matrix)
        keypoints = transform_points(matrix, keypoints)
        return matrix, self.scheme.swap_sides(keypoints) if mirrored else keypoints

    def __call__(self, sample):
        size = sample["image"].shape[1::-1]
        matrix, keypoints = self.place(sample["keypoints"], np.eye(2, 3), size)
        return with_image(sample, warp(sample["image"], matrix, size), keypoints)


def boxed_points(keypoints: np.ndarray) -> np.ndarray:  # (68 or K, 2)
    """The keypoints that define a face's box: of two jaw lines the visible one, or the head's if that is unknown."""
    if len(keypoints) != TWO_JAWS.num_points:
        return keypoints
    return np.where(np.isnan(keypoints[:68]), with_jaw_3d(keypoints), keypoints[:68])


@dataclass(frozen=True)
class RandomTurn:
    """A random in-plane angle: uniform within `steep` degrees with probability `often`, else N(0, mild)."""

    steep: float = 45.0
    often: float = 0.7
    mild: float = 5.0

    def draw(self) -> float:
        """One angle in degrees."""
        return uniform(-self.steep, self.steep) if uniform(0, 1) < self.often else normal(self.mild)


class FaceCrop:
    """A size x size crop around the face, in one warp.

    The box is sample['box'] or else the tight box of the keypoints; see geometry.crop_matrix for the margin.
    `affine` (a RandomAffine) is multiplied into the same matrix. `turn` (a RandomTurn) comes first: the box is then
    that of the turned keypoints, as a detector would find it, and sample['box'] is ignored.
    """

    def __init__(
        self,
        size: int = 224,
        margin: float = 0.25,
        affine: RandomAffine | None = None,
        turn: RandomTurn | None = None,
    ):
        self.size, self.margin, self.affine, self.turn = size, margin, affine, turn

    def crop(self, sample) -> np.ndarray:  # (2, 3)
        """The matrix from the picture to the crop, before `affine`."""
        points = boxed_points(sample["keypoints"])
        if self.turn:
            turn = similarity_matrix(self.turn.draw(), 1, (0, 0), (1, 1))
            box = tight_box(transform_points(turn, points))
            return compose(crop_matrix(box, self.size, self.margin), turn)
        return crop_matrix(sample["box"] if "box" in sample else tight_box(points), self.size, self.margin)

    def place(self, sample) -> tuple[np.ndarray, np.ndarray]:  # (2, 3), (K, 2)
        """The matrix from the picture to the crop, and the keypoints there; random like the crop, needs no image."""
        matrix = self.crop(sample)
        if self.affine:
            return self.affine.place(sample["keypoints"], matrix, (self.size, self.size))
        return matrix, transform_points(matrix, sample["keypoints"])

    def __call__(self, sample):
        matrix, keypoints = self.place(sample)
        return with_image(sample, warp(sample["image"], matrix, (self.size, self.size)), keypoints)


def to_gray_levels(image: np.ndarray) -> np.ndarray:
    """The nearest gray levels, uint8; values below 0 or above 255 are clipped."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


class RandomColor:
    """Random brightness (added, in gray levels), contrast and saturation (factors exp(N(0, sigma)))."""

    def __init__(self, brightness=20.0, contrast=0.2, saturation=0.2):
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation

    def draw(self, height: int, width: int) -> tuple:
        """Factors of saturation and contrast, and a brightness."""
        return np.exp(normal(self.saturation)), np.exp(normal(self.contrast)), normal(self.brightness)

    def __call__(self, sample):
        saturation, contrast, brightness = self.draw(*sample["image"].shape[:2])
        gray = cv2.cvtColor(sample["image"], cv2.COLOR_RGB2GRAY)
        parts = (sample["image"], contrast * saturation), (cv2.merge([gray] * 3), contrast * (1 - saturation))
        return sample | {"image": cv2.addWeighted(*parts[0], *parts[1], (1 - contrast) * gray.mean() + brightness)}


class RandomBlur:
    """Gaussian blur with probability p, sigma up to `sigma` pixels."""

    def __init__(self, p=0.2, sigma=2.0):
        self.p, self.sigma = p, sigma

    def draw(self, height: int, width: int) -> tuple:
        """The sigma, 0 for no blur."""
        return (uniform(0.3, self.sigma) if uniform(0, 1) < self.p else 0.0,)

    def __call__(self, sample):
        (sigma,) = self.draw(*sample["image"].shape[:2])
        return sample | {"image": cv2.GaussianBlur(sample["image"], (0, 0), sigma)} if sigma else sample


class RandomNoise:
    """Gaussian noise with probability p, sigma up to `sigma` gray levels."""

    def __init__(self, p=0.2, sigma=10.0):
        self.p, self.sigma = p, sigma

    def draw(self, height: int, width: int) -> tuple:
        """The sigma, 0 for no noise."""
        return (uniform(0, self.sigma) if uniform(0, 1) < self.p else 0.0,)

    def __call__(self, sample):
        (sigma,) = self.draw(*sample["image"].shape[:2])
        if not sigma:
            return sample
        noise = sigma * torch.randn(sample["image"].shape).numpy()
        return sample | {"image": to_gray_levels(sample["image"] + noise)}


class RandomOcclusion:
    """With probability p a rectangle of random gray hides up to `area` of the picture; the keypoints stay."""

    def __init__(self, p=0.2, area=0.15):
        self.p, self.area = p, area

    def draw(self, height: int, width: int) -> tuple:
        """Top, left, height and width of the rectangle, and its gray; all 0 for none."""
        if uniform(0, 1) >= self.p:
            return 0, 0, 0, 0, 0
        part, aspect = uniform(0.02, self.area), np.exp(normal(0.3))
        h, w = min(height, int(np.sqrt(part / aspect) * height)), min(width, int(np.sqrt(part * aspect) * width))
        top, left = torch.randint(height - h + 1, ()).item(), torch.randint(width - w + 1, ()).item()
        return top, left, h, w, int(uniform(0, 255))

    def __call__(self, sample):
        top, left, h, w, gray = self.draw(*sample["image"].shape[:2])
        image = sample["image"].copy()
        image[top : top + h, left : left + w] = gray
        return sample | {"image": image}
