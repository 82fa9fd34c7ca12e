"""What is trained on what, and how: the transforms and the recipes that notebook 2 compares."""

from dataclasses import dataclass, replace

import torch
from torch import nn
from torchvision.transforms import Compose

from facial_keypoints.network import Expects
from models import AccurateNet, BatchNormNet, FastNet, Net, initialize
from transforms import (
    CenterCrop,
    FaceCrop,
    Normalize,
    NormalizeColor,
    RandomAffine,
    RandomBlur,
    RandomColor,
    RandomCrop,
    RandomNoise,
    RandomOcclusion,
    Rescale,
    ToTensor,
)

EXPECTS = Expects()

EXPECTS_FRAMES = Expects(margin=None)

NORMALIZE = Normalize(EXPECTS.mean, EXPECTS.std)


def face_input(expects: Expects, affine: RandomAffine | None = None, *augmentations) -> Compose:
    """From a sample to what a network expects: the face crop, augmentations, normalised keypoints."""
    normalize = (NormalizeColor if expects.color else Normalize)(expects.mean, expects.std)
    return Compose([FaceCrop(expects.size, expects.margin, affine), *augmentations, normalize, ToTensor()])


def in_parts(size: int) -> Expects:
    """A gray face crop, and keypoints as parts of it: 0 its left or upper edge, 1 the right or lower one."""
    return Expects(size, margin=0.25, mean=-0.5, std=float(size))


WHOLE_FRAME_TRAINING = Compose([Rescale(250), RandomCrop(224), NORMALIZE, ToTensor()])

WHOLE_FRAME = Compose([Rescale(250), CenterCrop(224), NORMALIZE, ToTensor()])

# Shift and scale also stand for the boxes of a detector, which are never the exact ones.
AFFINE = RandomAffine(rotation=10, scale=0.08, shift=0.05)

AUGMENT = (RandomColor(), RandomBlur(), RandomNoise(), RandomOcclusion())

FACE_CROP_TRAINING = face_input(EXPECTS, AFFINE, *AUGMENT)

FACE_CROP = face_input(EXPECTS)

PARTS_OF_128, PARTS_OF_160 = in_parts(128), in_parts(160)

SMALL_CROP_TRAINING = face_input(
    PARTS_OF_128, AFFINE, RandomColor(), RandomBlur(p=0.3), RandomNoise(), RandomOcclusion(p=0.3)
)

SMALL_CROP = face_input(PARTS_OF_128)

# For the last epochs: larger, and nearly as the faces come.
LARGE_CROP_TRAINING = face_input(PARTS_OF_160, RandomAffine(rotation=8, scale=0.06, shift=0.03))

LARGE_CROP = face_input(PARTS_OF_160)


@dataclass(frozen=True)
class Recipe:
    """One way to train: a network, what it sees, and the numbers of `fit`.

    first: a recipe that comes before; this one goes on with its network.
    """

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
    expects: Expects = EXPECTS
    ships: bool = False  # trained on 300-W too, without validation, in half precision
    first: "Recipe | None" = None

    def __str__(self):
        sees = "whole frames" if self.expects.margin is None else "augmented face crops"
        rate = f"{self.lr:g}{' in one cycle' if self.one_cycle else ''}"
        if self.first:
            return f"{self.first}; then {self.epochs} epochs on larger crops, hardly augmented, at {rate}"
        return (
            f"{self.network.__name__}{', He start' if self.he_start else ''}, on {sees}: {self.loss}, "
            f"{self.optimizer} at {rate}, batches of {self.batch_size}, {self.epochs} epochs"
        )

    @property
    def stages(self) -> tuple["Recipe", ...]:
        """What comes first, if anything, and this recipe."""
        return (self.first, self) if self.first else (self,)

    @property
    def total_epochs(self) -> int:
        """Of all stages."""
        return sum(stage.epochs for stage in self.stages)

    def build(self, seed: int = 0) -> nn.Module:
        """A fresh network, for the first stage."""
        torch.manual_seed(seed)
        model = self.network()
        return initialize(model) if self.he_start else model

    def settings(self) -> dict:
        """The keyword arguments for `fit`."""
        names = ("loss", "optimizer", "lr", "one_cycle", "epochs", "batch_size")
        return {name: getattr(self, name) for name in names}


# The networks that ship; results/log.md says why, benchmarks/ablation.py measures what each choice is worth.
START = Recipe(
    network=AccurateNet,
    he_start=False,
    training_transform=SMALL_CROP_TRAINING,
    transform=SMALL_CROP,
    loss="spread",
    optimizer="adamw",
    lr=3e-3,
    one_cycle=True,
    epochs=30,
    batch_size=32,
    expects=PARTS_OF_128,
    ships=True,
)


def shipped(network: type[nn.Module]) -> Recipe:
    """The start, then the finish: larger crops, in which the faces are nearly as they come."""
    expects = replace(PARTS_OF_160, mirror_shift=network.mirror_shift)
    start = replace(START, network=network)
    return replace(
        start,
        training_transform=LARGE_CROP_TRAINING,
        transform=LARGE_CROP,
        expects=expects,
        epochs=20,
        first=start,
    )


# The first net again, on what a face detector would cut out, with a start that lets it learn.
FACE_CROPS = Recipe(
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
)

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
        expects=EXPECTS_FRAMES,
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
        expects=EXPECTS_FRAMES,
    ),
    "face-crops": FACE_CROPS,
    "batchnorm-crops": replace(FACE_CROPS, network=BatchNormNet, he_start=False),
    "accurate": shipped(AccurateNet),
    "fast": shipped(FastNet),
}
