"""The training batches: one picture at a time on the CPU, a whole batch at once on a GPU, to keep it busy.

Both draw the same random numbers for every face, from torch's generator on the CPU. The first way uses transforms.py
and is the one to read. In the second the pictures live on the GPU as uint8, and only numbers are sent: a 2x3 matrix
per face, its keypoints, and the random numbers of its augmentations.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import ConcatDataset, DataLoader, Dataset
from torchvision.transforms import Compose

from data_load import KeypointsDataset
from facial_keypoints.geometry import compose, invert, resize, resize_matrix
from training.processes import Shares
from transforms import (
    FaceCrop,
    Normalize,
    NormalizeColor,
    RandomBlur,
    RandomColor,
    RandomNoise,
    RandomOcclusion,
    ToTensor,
)


def training_loader(data: Dataset, batch_size: int, device: torch.device) -> DataLoader:
    """Load the training data in random order; this process gets its share of every batch (see processes.Shares).

    On a GPU batches are rendered as a whole if the data's transform allows it; else picture by picture, which on a CPU
    takes a third of the time (0.8 instead of 2.5 ms for a crop of 128 pixels).
    """
    shares = Shares(data, batch_size)
    if device.type == "cuda" and can_be_rendered(data):
        faces = DeviceFaces(data, device)
        return DataLoader(faces, batch_sampler=shares, collate_fn=faces.render)
    return DataLoader(data, batch_sampler=shares, pin_memory=device.type == "cuda")


def parts_of(data: Dataset) -> list[Dataset]:
    """The data sets of a ConcatDataset, or the only one."""
    return list(data.datasets) if isinstance(data, ConcatDataset) else [data]


def can_be_rendered(data: Dataset) -> bool:
    """Whether all parts share one transform whose steps DeviceFaces can render, like that of recipes.face_input."""
    if not all(isinstance(part, KeypointsDataset) for part in parts_of(data)):
        return False
    first, *others = (part.transform for part in parts_of(data))
    if not isinstance(first, Compose) or any(other is not first for other in others):
        return False
    kinds = [type(step) for step in first.transforms]
    return (
        kinds[:1] == [FaceCrop]
        and kinds[-2:] in ([Normalize, ToTensor], [NormalizeColor, ToTensor])
        and all(kind in RENDERED for kind in kinds[1:-2])
    )


class DeviceFaces(Dataset):
    """Labelled pictures on a device: an item holds the random numbers of one face, `render` makes a batch of items.

    The pictures may have any sizes; one whose face is at least twice as large as in the crop is scaled down first, as
    in geometry.warp. All are decoded at the start and stay on the device: 200 kB for a cut-out of 256 pixels.
    """

    def __init__(self, data: Dataset, device: torch.device):
        self.crop, *self.augmentations, self.normalize, _ = parts_of(data)[0].transform.transforms
        raw = ConcatDataset([part.with_transform(None) for part in parts_of(data)])
        with ThreadPoolExecutor() as pool:
            stored = pool.map(lambda position: self._stored(raw[position]), range(len(raw)))
        images, self.matrices, self.samples = zip(*stored, strict=True)
        self.pixels = torch.cat([torch.from_numpy(image).view(-1, 3) for image in images]).to(device)
        self.sizes = torch.tensor([image.shape[:2] for image in images])
        self.starts = torch.cumsum(self.sizes.prod(dim=1), dim=0) - self.sizes.prod(dim=1)

    def _stored(self, sample):
        """The picture to store, the matrix from the original picture to it, and the rest of the sample."""
        image, labels = sample["image"], {key: value for key, value in sample.items() if key != "image"}
        matrix = FaceCrop(self.crop.size, self.crop.margin).crop(sample)
        shrink = max(1, int(1 / matrix[0, 0]))
        old = image.shape[1::-1]
        new = tuple(max(1, side // shrink) for side in old)
        return (resize(image, new) if shrink > 1 else image), resize_matrix(old, new), labels

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, position):
        """The position, the matrix from the crop to the stored picture, the keypoints, the augmentations' numbers."""
        matrix, keypoints = self.crop.place(self.samples[position])
        numbers = [augmentation.draw(self.crop.size, self.crop.size) for augmentation in self.augmentations]
        return position, compose(self.matrices[position], invert(matrix)), keypoints, numbers

    def render(self, items: list) -> dict[str, torch.Tensor]:
        """A batch as a DataLoader makes it, on the device: 'image' (N, C, size, size), 'keypoints' (N, K, 2)."""
        positions, matrices, keypoints, numbers = zip(*items, strict=True)
        matrices = torch.from_numpy(np.float32(matrices)).to(self.pixels.device, non_blocking=True)
        images = warp_batch(self.pictures(torch.tensor(positions)), matrices, self.crop.size)
        for augmentation, drawn in zip(self.augmentations, zip(*numbers, strict=True), strict=True):
            images = RENDERED[type(augmentation)](images, torch.tensor(drawn, dtype=torch.float32))
        if type(self.normalize) is Normalize:
            images = to_gray(images)
        keypoints = (np.stack(keypoints) - self.normalize.mean) / self.normalize.std
        return {"image": images / 255, "keypoints": torch.from_numpy(np.float32(keypoints))}

    def pictures(self, positions: torch.Tensor) -> torch.Tensor:  # (N, 3, H, W)
        """Stored pictures as float, padded to the size of the largest one by repeating their borders."""
        device, sizes = self.pixels.device, self.sizes[positions]
        height, width = sizes.amax(dim=0).tolist()
        starts, heights, widths = (
            values.to(device, non_blocking=True)[:, None, None] for values in (self.starts[positions], *sizes.T)
        )
        rows = torch.minimum(torch.arange(height, device=device)[:, None], heights - 1)
        columns = torch.minimum(torch.arange(width, device=device), widths - 1)
        return self.pixels[starts + rows * widths + columns].permute(0, 3, 1, 2).float()


def warp_batch(images: torch.Tensor, matrices: torch.Tensor, size: int) -> torch.Tensor:  # (N, C, size, size)
    """Sample images at the positions that (N, 2, 3) matrices map the pixels of crops to; levels are rounded."""
    pixel = torch.arange(size, device=images.device, dtype=torch.float32)
    along_x, along_y, shift = matrices[:, :, None, None].unbind(dim=-1)  # (N, 2, 1, 1)
    places = along_x * pixel + along_y * pixel[:, None] + shift  # (N, 2, size, size)
    last = torch.tensor(images.shape[:1:-1], device=images.device) - 1
    grid = 2 * places.permute(0, 2, 3, 1) / last.clamp(min=1) - 1
    return gray_levels(functional.grid_sample(images, grid, padding_mode="border", align_corners=True))


def gray_levels(images: torch.Tensor) -> torch.Tensor:
    """Round to the nearest gray levels, like transforms.to_gray_levels; the result is still float."""
    return images.round().clamp(0, 255)


def to_gray(images: torch.Tensor) -> torch.Tensor:  # (N, 1, H, W)
    """RGB to gray, as cv2.cvtColor does it."""
    red, green, blue = images.split(1, dim=1)
    return gray_levels(0.299 * red + 0.587 * green + 0.114 * blue)


def columns(numbers: torch.Tensor, device: torch.device) -> list[torch.Tensor]:
    """The columns of (N, P) numbers as (N, 1, 1, 1) on the device."""
    return [column[:, None, None, None] for column in numbers.to(device, non_blocking=True).unbind(dim=1)]


def color(images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """RandomColor with its random numbers (N, 3)."""
    saturation, contrast, brightness = columns(numbers, images.device)
    gray = to_gray(images)
    mean = gray.mean(dim=(1, 2, 3), keepdim=True)
    return gray_levels(mean + (gray + (images - gray) * saturation - mean) * contrast + brightness)


def blur(images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """RandomBlur with its random numbers (N, 1): two convolutions, with a kernel for each picture."""
    (chosen,) = torch.nonzero(numbers[:, 0], as_tuple=True)
    if not len(chosen):
        return images
    sigmas = numbers[chosen]
    reach = math.ceil(3 * sigmas.max().item())
    kernels = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigmas**2))
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).to(images.device).repeat_interleave(3, dim=0)
    chosen = chosen.to(images.device)
    planes = functional.pad(images[chosen], (reach,) * 4, mode="reflect").flatten(0, 1)[None]
    for shape in ((-1, 1, 1, 2 * reach + 1), (-1, 1, 2 * reach + 1, 1)):
        planes = functional.conv2d(planes, kernels.reshape(shape), groups=len(kernels))
    return images.index_copy(0, chosen, gray_levels(planes.view(-1, *images.shape[1:])))


def noise(images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """RandomNoise with its random numbers (N, 1); the noise itself is drawn on the device."""
    (sigma,) = columns(numbers, images.device)
    return gray_levels(images + sigma * torch.randn_like(images))


def occlusion(images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """RandomOcclusion with its random numbers (N, 5)."""
    top, left, height, width, gray = columns(numbers, images.device)
    row, column = (torch.arange(side, device=images.device) for side in images.shape[2:])
    row = row[:, None]
    hidden = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
    return torch.where(hidden, gray, images)


RENDERED = {RandomColor: color, RandomBlur: blur, RandomNoise: noise, RandomOcclusion: occlusion}
