"""What is trained on what, and how: the transforms, the recipes that notebook 2 compares, the course data."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torchvision.transforms import Compose

from augment import FaceCrop, RandomAffine, RandomBlur, RandomColor, RandomNoise, RandomOcclusion
from data_load import CenterCrop, FacialKeypointsDataset, Normalize, RandomCrop, Rescale, ToTensor, person_split
from models import BatchNormNet, Expects, Net, initialize

EXPECTS = Expects()
NORMALIZE = Normalize(EXPECTS.mean, EXPECTS.std)

to_input = [NORMALIZE, ToTensor()]
WHOLE_FRAME_TRAINING = Compose([Rescale(250), RandomCrop(224), *to_input])
WHOLE_FRAME = Compose([Rescale(250), CenterCrop(224), *to_input])
# Shift and scale also stand for the boxes of a detector, which are never the exact ones.
FACE_CROP_TRAINING = Compose(
    [
        FaceCrop(EXPECTS.size, EXPECTS.margin, RandomAffine(rotation=10, scale=0.08, shift=0.05)),
        RandomColor(),
        RandomBlur(),
        RandomNoise(),
        RandomOcclusion(),
        *to_input,
    ]
)
FACE_CROP = Compose([FaceCrop(EXPECTS.size, EXPECTS.margin), *to_input])


@dataclass(frozen=True)
class Recipe:
    """One way to train: a network, what it sees, and the numbers of `fit`."""

    network: type[nn.Module]
    he_start: bool
    training_transform: Compose
    transform: Compose
    loss: str
    optimizer: str
    lr: float
    one_cycle: bool
    epochs: int
    batch_size: int

    def __str__(self):
        sees = "augmented face crops" if self.transform is FACE_CROP else "whole frames"
        rate = f"{self.lr:g}{' in one cycle' if self.one_cycle else ''}"
        return (
            f"{self.network.__name__}{', He start' if self.he_start else ''}, on {sees}: {self.loss}, "
            f"{self.optimizer} at {rate}, batches of {self.batch_size}, {self.epochs} epochs"
        )

    def build(self, seed: int = 0) -> nn.Module:
        """A fresh network."""
        torch.manual_seed(seed)
        model = self.network()
        return initialize(model) if self.he_start else model

    def settings(self) -> dict:
        """The keyword arguments for `fit`."""
        names = ("loss", "optimizer", "lr", "one_cycle", "epochs", "batch_size")
        return {name: getattr(self, name) for name in names}


RECIPES = {
    # The coursework's first answer, as published.
    "course-mse": Recipe(
        network=Net,
        he_start=False,
        training_transform=WHOLE_FRAME_TRAINING,
        transform=WHOLE_FRAME,
        loss="mse",
        optimizer="rmsprop",
        lr=1e-4,
        one_cycle=False,
        epochs=3,
        batch_size=10,
    ),
    # The coursework's most copied better answer; published with 50 epochs, an hour on two cores.
    "course-batchnorm": Recipe(
        network=BatchNormNet,
        he_start=False,
        training_transform=WHOLE_FRAME_TRAINING,
        transform=WHOLE_FRAME,
        loss="smooth_l1",
        optimizer="adam",
        lr=1e-4,
        one_cycle=False,
        epochs=4,
        batch_size=64,
    ),
    # The first net again, on what a face detector would cut out, with a start that lets it learn.
    "face-crops": Recipe(
        network=Net,
        he_start=True,
        training_transform=FACE_CROP_TRAINING,
        transform=FACE_CROP,
        loss="smooth_l1",
        optimizer="adam",
        lr=5e-4,
        one_cycle=True,
        epochs=20,
        batch_size=64,
    ),
}


def course_data(root: Path) -> tuple:
    """Training, validation (a fifth of the training people) and labelled test frames, decoded once."""
    everyone, test = (
        FacialKeypointsDataset(root / f"{split}_frames_keypoints.csv", root / split, in_memory=True)
        for split in ("training", "test")
    )
    training, validation = (everyone.subset(positions) for positions in person_split(everyone.people))
    return training, validation, test
