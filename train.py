"""Train and evaluate: a visible loop, and the recipes that notebook 2 compares.

python train.py face-crops                       # the notebook's best recipe; Ctrl-C and run again to resume
python train.py course-mse --epochs 5 --seed 1
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import Compose
from tqdm import tqdm

import metrics
from augment import FaceCrop, RandomAffine, RandomBlur, RandomColor, RandomNoise, RandomOcclusion
from data_load import (
    CenterCrop,
    DataError,
    FacialKeypointsDataset,
    Normalize,
    RandomCrop,
    Rescale,
    ToTensor,
    find_data,
    person_split,
)
from models import BatchNormNet, Expects, Net, save_model, write_atomically

LOSSES = {"mse": nn.MSELoss, "l1": nn.L1Loss, "smooth_l1": nn.SmoothL1Loss}
OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}
EXPECTS = Expects()
SAVED_MODELS = Path(__file__).resolve().parent / "saved_models"
NORMALIZE = Normalize(EXPECTS.mean, EXPECTS.std)

to_input = [NORMALIZE, ToTensor()]
WHOLE_FRAME_TRAINING = Compose([Rescale(250), RandomCrop(224), *to_input])
WHOLE_FRAME = Compose([Rescale(250), CenterCrop(224), *to_input])
FACE_CROP_TRAINING = Compose(
    [
        FaceCrop(EXPECTS.size, EXPECTS.margin, RandomAffine()),
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
    training_transform: Compose
    transform: Compose
    loss: str
    optimizer: str
    lr: float
    epochs: int
    batch_size: int

    def __str__(self):
        sees = "face crops, augmented" if self.transform is FACE_CROP else "whole frames"
        return (
            f"{self.network.__name__} on {sees}: {self.loss}, {self.optimizer} at {self.lr:g}, "
            f"batches of {self.batch_size}, {self.epochs} epochs"
        )

    def settings(self) -> dict:
        """The keyword arguments for `fit`."""
        return {k: getattr(self, k) for k in ("loss", "optimizer", "lr", "epochs", "batch_size")}


RECIPES = {
    # The coursework's first answer, as published.
    "course-mse": Recipe(Net, WHOLE_FRAME_TRAINING, WHOLE_FRAME, "mse", "rmsprop", 1e-4, 3, 10),
    # The coursework's most copied better answer; published with 50 epochs.
    "course-batchnorm": Recipe(BatchNormNet, WHOLE_FRAME_TRAINING, WHOLE_FRAME, "smooth_l1", "adam", 1e-4, 4, 64),
    # What the detector's box is worth: the first net again, on face crops.
    "face-crops": Recipe(Net, FACE_CROP_TRAINING, FACE_CROP, "smooth_l1", "adam", 5e-4, 20, 64),
}


def course_data(root: Path) -> tuple:
    """Training, validation (a fifth of the training people) and labelled test frames, decoded once."""
    everyone, test = (
        FacialKeypointsDataset(root / f"{split}_frames_keypoints.csv", root / split, in_memory=True)
        for split in ("training", "test")
    )
    training, validation = (everyone.subset(positions) for positions in person_split(everyone.people))
    return training, validation, test


def best_device() -> torch.device:
    """CUDA, Apple's MPS or the CPU, whichever is there first."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is done in hardware here; emulated, it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the machine has it; everything stays float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device))


def to_device(batch: dict, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and keypoints of a batch on the device; channels_last suits convolution kernels best."""
    images = batch["image"].to(device, memory_format=torch.channels_last, non_blocking=True)
    return images, batch["keypoints"].to(device, non_blocking=True)


def train_one_epoch(model, loader, loss_function, optimizer, device, progress=False) -> float:
    """One pass over the training data; returns the mean loss per coordinate."""
    model.train()
    total = 0.0
    for batch in tqdm(loader, leave=False, disable=not progress):
        images, keypoints = to_device(batch, device)
        with autocast(device):
            predicted = model(images)
        loss = loss_function(predicted.float(), keypoints)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
    return total / len(loader.dataset)


@torch.inference_mode()
def predict(model: nn.Module, dataset, batch_size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true keypoints (N, K, 2) of a data set, normalised as the data set gives them."""
    device = next(model.parameters()).device
    model.eval()
    predicted, true = [], []
    for batch in DataLoader(dataset, batch_size):
        images, keypoints = to_device(batch, device)
        with autocast(device):
            predicted.append(model(images).float().cpu())
        true.append(keypoints.cpu())
    return torch.cat(predicted).numpy(), torch.cat(true).numpy()


def evaluate(model: nn.Module, dataset) -> dict[str, float]:
    """metrics.summary of a network on a data set, in pixels of the network's input."""
    return metrics.summary(*(NORMALIZE.inverse(points) for points in predict(model, dataset)))


def print_epoch(row: dict) -> None:
    """One line for one epoch."""
    print(
        f"epoch {row['epoch']:3d}   training loss {row['training loss']:.4f}   "
        f"validation loss {row['validation loss']:.4f}   validation NME {row['validation NME %']:5.2f} %   "
        f"{row['seconds']:.0f} s",
        flush=True,
    )


def fit(
    model: nn.Module,
    training_data,
    validation_data,
    loss="smooth_l1",
    optimizer="adam",
    lr: float = 1e-4,
    epochs: int = 3,
    batch_size: int = 64,
    seed: int = 0,
    device: torch.device | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train `model` in place and leave it with the weights of its best validation loss.

    loss: a name in LOSSES or a function of (predicted, true); optimizer: a name in OPTIMIZERS or an optimiser
    made for this model. With a `checkpoint` path every epoch is saved, and the same call goes on where it
    stopped; the result is that of an uninterrupted run, since every epoch is seeded by (seed, epoch).
    Ctrl-C ends training early and keeps the best weights so far. `progress` draws a bar (not in notebooks).

    Returns the history: one row per epoch, losses as means per coordinate in normalised units.
    """
    device = device or best_device()
    model.to(device, memory_format=torch.channels_last)
    loss_function = LOSSES[loss]() if isinstance(loss, str) else loss
    if isinstance(optimizer, str):
        optimizer = OPTIMIZERS[optimizer](model.parameters(), lr=lr)
    run = _Run(model, optimizer, checkpoint)
    loader = DataLoader(training_data, batch_size, shuffle=True)
    try:
        for epoch in range(len(run.history) + 1, epochs + 1):
            torch.manual_seed(1_000_003 * seed + epoch)
            start = time.perf_counter()
            training_loss = train_one_epoch(model, loader, loss_function, optimizer, device, progress)
            predicted, true = predict(model, validation_data, batch_size)
            row = {
                "epoch": epoch,
                "training loss": training_loss,
                "validation loss": loss_function(torch.tensor(predicted), torch.tensor(true)).item(),
                "validation NME %": 100 * float(metrics.nme(predicted, true).mean()),
                "seconds": time.perf_counter() - start,
            }
            run.finish_epoch(row)
            print_epoch(row)
    except KeyboardInterrupt:
        kept = f"; {checkpoint} holds them, the same call goes on" if checkpoint and run.history else ""
        print(f"\ninterrupted: {len(run.history)} of {epochs} epochs are done{kept}")
    model.load_state_dict(run.best_weights)
    return pd.DataFrame(run.history)


class _Run:
    """What must survive an interruption: weights, optimiser, history and the best weights so far."""

    def __init__(self, model, optimizer, checkpoint):
        self.model, self.optimizer, self.checkpoint = model, optimizer, checkpoint
        self.history, self.best_weights = [], _copy(model.state_dict())
        if checkpoint and Path(checkpoint).exists():
            self._resume()

    def finish_epoch(self, row):
        if row["validation loss"] <= min((r["validation loss"] for r in self.history), default=np.inf):
            self.best_weights = _copy(self.model.state_dict())
        self.history.append(row)
        if self.checkpoint:
            names = ("history", "best_weights")
            state = {name: getattr(self, name) for name in names}
            state |= {"weights": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
            write_atomically(state, self.checkpoint)

    def _resume(self):
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            self.model.load_state_dict(state["weights"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.history, self.best_weights = state["history"], state["best_weights"]
        except Exception as error:  # torch.load raises nearly anything on a damaged file
            reason = str(error).splitlines()[0]
            raise DataError(f"{self.checkpoint}: not a checkpoint of this run ({reason}); delete it") from None


def _copy(weights):
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def main() -> None:
    """The notebook's training run as a script: train, save, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES, help="; ".join(f"{n}: {r}" for n, r in RECIPES.items()))
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="weights file (default: saved_models/RECIPE.pt)")
    args = parser.parse_args()
    recipe = RECIPES[args.recipe]
    if args.epochs:
        recipe = replace(recipe, epochs=args.epochs)
    output = args.output or SAVED_MODELS / f"{args.recipe}.pt"
    checkpoint = output.with_suffix(".checkpoint")

    root, about = find_data()
    print(f"data: {about}\nrecipe: {recipe}\ncheckpoint: {checkpoint}")
    training, validation, test = course_data(root)
    torch.manual_seed(args.seed)
    model = recipe.network()
    fit(
        model,
        training.with_transform(recipe.training_transform),
        validation.with_transform(recipe.transform),
        **recipe.settings(),
        seed=args.seed,
        checkpoint=checkpoint,
        progress=True,
    )
    save_model(model, output, EXPECTS)
    print(f"weights: {output}")
    for name, data in (("validation", validation), ("test", test)):
        numbers = evaluate(model, data.with_transform(recipe.transform))
        print(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in numbers.items()))


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
