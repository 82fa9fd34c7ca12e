"""Training recipes: network, input transforms, loss, optimiser and schedule."""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from torchvision.transforms import Compose

import metrics
from facial_keypoints.network import Expects
from facial_keypoints.schemes import TWO_JAWS, Scheme
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
    RandomTurn,
    Rescale,
    ToTensor,
)

EXPECTS = Expects()

EXPECTS_FRAMES = Expects(margin=None)


def face_input(expects: Expects, affine: RandomAffine | None = None, *augmentations, turn=None) -> Compose:
    """The transform from a sample to a network's input: face crop, augmentations, normalised keypoints."""
    affine = affine and replace(affine, scheme=expects.scheme)
    return Compose([FaceCrop(expects.size, expects.margin, affine, turn), *augmentations, *_end(expects)])


def frame_input(expects: Expects, crop: type = CenterCrop, *augmentations) -> Compose:
    """The same for a network of whole frames; crop: CenterCrop or RandomCrop."""
    longer = round(expects.size * 250 / 224)  # as in the coursework
    return Compose([Rescale(longer), crop(expects.size), *augmentations, *_end(expects)])


def _end(expects):
    normalize = (NormalizeColor if expects.color else Normalize)(expects.mean, expects.std)
    return normalize, ToTensor()


def in_parts(size: int) -> Expects:
    """A gray face crop with keypoints in fractions of its size: 0 at the left or upper edge, 1 opposite."""
    return Expects(size, margin=0.25, mean=-0.5, std=float(size))


PARTS_OF_128, PARTS_OF_160 = in_parts(128), in_parts(160)

WHOLE_FRAME_TRAINING, WHOLE_FRAME = frame_input(EXPECTS_FRAMES, RandomCrop), frame_input(EXPECTS_FRAMES)

FACE_CROP, SMALL_CROP = face_input(EXPECTS), face_input(PARTS_OF_128)

# Shift and scale also simulate a detector's boxes, which are never exact.
AFFINE = RandomAffine(rotation=10, scale=0.08, shift=0.05)


@dataclass(frozen=True)
class Recipe:
    """One way to train: a network, its input and the settings of `fit`.

    expects: the format of the network's input and output, the landmark scheme included; affine: of face crops in
    training; augmentations: of face crops or whole frames in training; turn: of face crops, see transforms.FaceCrop;
    first: the recipe of an earlier stage, whose network this one trains further.
    """

    network: type[nn.Module]
    he_start: bool
    loss: str
    optimizer: str
    lr: float
    one_cycle: bool
    epochs: int
    batch_size: int
    expects: Expects = EXPECTS
    affine: RandomAffine | None = None
    augmentations: tuple = ()
    turn: RandomTurn | None = None
    ships: bool = False  # trained on 300-W too, without validation, saved in half precision
    first: "Recipe | None" = None

    def __str__(self):
        sees = "whole frames" if self.expects.margin is None else "augmented face crops"
        rate = f"{self.lr:g}{' in one cycle' if self.one_cycle else ''}"
        if self.first:
            return f"{self.first}; then {self.epochs} epochs on larger crops, more mildly augmented, at {rate}"
        return (
            f"{self.network.__name__}{', He start' if self.he_start else ''}, on {sees}: {self.loss}, "
            f"{self.optimizer} at {rate}, batches of {self.batch_size}, {self.epochs} epochs"
        )

    @property
    def training_transform(self) -> Compose:
        """From a sample of the training data to a network's input."""
        if self.expects.margin is None:
            return frame_input(self.expects, RandomCrop, *self.augmentations)
        return face_input(self.expects, self.affine, *self.augmentations, turn=self.turn)

    @property
    def transform(self) -> Compose:
        """The same without augmentation, for validation, testing and use."""
        return (frame_input if self.expects.margin is None else face_input)(self.expects)

    @property
    def stages(self) -> tuple["Recipe", ...]:
        """The first stage, if there is one, and this recipe."""
        return (self.first, self) if self.first else (self,)

    @property
    def total_epochs(self) -> int:
        """The number of epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    def for_scheme(self, scheme: Scheme) -> "Recipe":
        """The same recipe for other points."""
        first = self.first and self.first.for_scheme(scheme)
        return replace(self, expects=replace(self.expects, scheme=scheme), first=first)

    def lasting(self, epochs: int) -> "Recipe":
        """The same recipe with this many epochs in all, divided among its stages in the same proportion."""
        before = epochs - max(1, round(epochs * self.epochs / self.total_epochs))
        return replace(self, epochs=epochs - before, first=self.first.lasting(before) if before else None)

    def enough_epochs(self, pictures: int, steps: int) -> int:
        """The recipe's epochs, or more if they would be fewer than `steps` optimiser steps for so few pictures."""
        return max(self.total_epochs, math.ceil(steps / math.ceil(pictures / self.batch_size)))

    def fine_tuning(self) -> "Recipe":
        """The recipe for fine-tuning: the last stage alone, augmented like the first, at a third of the rate."""
        first = self.stages[0]
        return replace(self, first=None, affine=first.affine, augmentations=first.augmentations, lr=self.lr / 3)

    def build(self, seed: int = 0) -> nn.Module:
        """A fresh network, for the first stage."""
        torch.manual_seed(seed)
        model = self.network(self.expects.scheme.num_points)
        return initialize(model) if self.he_start else model

    def settings(self) -> dict:
        """The keyword arguments for `fit`."""
        names = ("loss", "optimizer", "lr", "one_cycle", "epochs", "batch_size")
        error = partial(metrics.nme, scheme=self.expects.scheme)
        return {name: getattr(self, name) for name in names} | {"error": error}


# The networks that ship, in two stages: small crops first, then larger ones. results/log.md gives the reasons,
# benchmarks/ablation.py the effect of each choice. FRONTAL uses the faces of the data without turned views.
FRONTAL = Recipe(
    network=AccurateNet,
    he_start=False,
    loss="spread",
    optimizer="adamw",
    lr=3e-3,
    one_cycle=True,
    epochs=30,
    batch_size=32,
    expects=PARTS_OF_128,
    affine=AFFINE,
    augmentations=(RandomColor(), RandomBlur(p=0.3), RandomNoise(), RandomOcclusion(p=0.3)),
    ships=True,
)

TWO_JAWS_OF_128, TWO_JAWS_OF_160 = (replace(expects, scheme=TWO_JAWS) for expects in (PARTS_OF_128, PARTS_OF_160))


def frontal(network: type[nn.Module]) -> Recipe:
    """FRONTAL, then larger crops with only mild geometric augmentation."""
    expects = replace(PARTS_OF_160, mirror_shift=network.mirror_shift)
    start, milder = replace(FRONTAL, network=network), RandomAffine(rotation=8, scale=0.06, shift=0.03)
    return replace(start, expects=expects, affine=milder, augmentations=(), epochs=20, first=start)


def shipped(network: type[nn.Module]) -> Recipe:
    """FRONTAL with turned heads: synthetic views beside the real ones, two jaw lines, tilts up to 45 degrees.

    The second stage augments colours less, but tilts as much, so that tilted and turned heads are not forgotten.
    """
    start = replace(
        FRONTAL,
        network=network,
        expects=TWO_JAWS_OF_128,
        affine=RandomAffine(rotation=0, scale=0.08, shift=0.05),
        turn=RandomTurn(steep=45, often=0.4, mild=8),
        epochs=20,
    )
    return replace(
        start,
        expects=replace(TWO_JAWS_OF_160, mirror_shift=network.mirror_shift),
        affine=RandomAffine(rotation=0, scale=0.06, shift=0.035),
        augmentations=(RandomColor(15, 0.15, 0.15), RandomBlur(p=0.15), RandomNoise(p=0.15), RandomOcclusion(p=0.15)),
        epochs=14,
        first=start,
    )


# The first net again, on face crops as a detector gives them, with He initialisation.
FACE_CROPS = Recipe(
    network=Net,
    he_start=True,
    loss="smooth_l1",
    optimizer="adam",
    lr=5e-4,
    one_cycle=True,
    epochs=20,
    batch_size=64,
    affine=AFFINE,
    augmentations=(RandomColor(), RandomBlur(), RandomNoise(), RandomOcclusion()),
)

RECIPES = {
    # The coursework's first answer, as published.
    "course-mse": Recipe(
        network=Net,
        he_start=False,
        loss="mse",
        optimizer="rmsprop",
        lr=1e-4,
        one_cycle=False,
        epochs=3,
        batch_size=10,
        expects=EXPECTS_FRAMES,
    ),
    # The coursework's most copied improvement; published with 50 epochs, an hour on two cores.
    "course-batchnorm": Recipe(
        network=BatchNormNet,
        he_start=False,
        loss="smooth_l1",
        optimizer="adam",
        lr=1e-4,
        one_cycle=False,
        epochs=3,
        batch_size=64,
        expects=EXPECTS_FRAMES,
    ),
    "face-crops": FACE_CROPS,
    "batchnorm-crops": replace(FACE_CROPS, network=BatchNormNet, he_start=False),
    "accurate": shipped(AccurateNet),
    "fast": shipped(FastNet),
    "accurate-frontal": frontal(AccurateNet),
    "fast-frontal": frontal(FastNet),
}
