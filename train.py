"""Train and evaluate: a visible loop; as a script, the run of any recipe.

python train.py accurate                         # the network that ships; Ctrl-C and run again to resume
python train.py course-mse --epochs 5 --seed 1
"""

import argparse
import ctypes
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import ConcatDataset, DataLoader
from tqdm import tqdm

import metrics
import protocol
from data_load import DataError, Normalize, find_data
from models import network_name, save_model, write_atomically
from recipes import EXPECTS, RECIPES, Recipe, course_data

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
SAVED_MODELS = Path(__file__).resolve().parent / "saved_models"


class SpreadLoss:
    """How surprising the true points are to a models.SureNet: (N, K, 5) against (N, K, 2), mean over the points.

    The negative logarithm of exp(-r) / sqrt(det C), a Laplace distribution in the plane, up to a constant: C is
    the covariance of the map, r the distance of the true point in units of it (Mahalanobis's). A map that is wide
    where, and in the direction in which, its answer is wrong costs least; along a jaw one can be off further than
    across it. Given points alone, as the network returns them when it is evaluated, the mean distance.
    After Kendall and Gal, arXiv:1703.04977, section 3; directions: Zhou et al., "STAR loss", arXiv:2306.02763.
    """

    def __call__(self, predicted, true):
        off = predicted[..., :2] - true
        if predicted.shape[2] == 2:
            return off.norm(dim=2).mean()
        (x, y), (across, down, both) = off.unbind(dim=2), predicted[..., 2:].unbind(dim=2)
        determinant = across * down - both**2
        squared = (down * x**2 - 2 * both * x * y + across * y**2) / determinant
        return ((squared + 1e-8).sqrt() + determinant.log() / 2).mean()  # the root of exactly 0 has no gradient


LOSSES = {"mse": nn.MSELoss, "l1": nn.L1Loss, "smooth_l1": nn.SmoothL1Loss, "spread": SpreadLoss}


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


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next batch, for the rest of the process (Linux; elsewhere nothing).

    glibc gives large blocks back to the system at once, so that every batch pays for fresh pages: 40 % of the
    time that training Net takes on two cores.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the machine has it; everything stays float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device))


def to_device(batch: dict, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and keypoints of a batch on the device; channels_last suits convolution kernels best."""
    images = batch["image"].to(device, memory_format=torch.channels_last, non_blocking=True)
    return images, batch["keypoints"].to(device, non_blocking=True)


def train_one_epoch(model, loader, loss_function, optimizer, scheduler, progress=False) -> float:
    """One pass over the training data; returns the mean loss per coordinate."""
    device = next(model.parameters()).device
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
        if scheduler:
            scheduler.step()
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


def mean_face(training_data, dataset) -> tuple[np.ndarray, np.ndarray]:
    """The trivial answer, in the form of `predict`: the mean of all training keypoints for every face."""
    mean, true = (np.stack([sample["keypoints"] for sample in data]) for data in (training_data, dataset))
    return np.broadcast_to(mean.mean(axis=0), true.shape), true


def evaluate(model: nn.Module, dataset, expects=EXPECTS) -> dict[str, float]:
    """metrics.summary of a network on a data set, in pixels of the network's input."""
    normalize = Normalize(expects.mean, expects.std)
    return metrics.summary(*(normalize.inverse(points) for points in predict(model, dataset)))


def validate(model: nn.Module, dataset, loss_function, error, batch_size: int) -> dict[str, float]:
    """The validation columns of the history: mean loss per coordinate and, unless error is None, NME in percent.

    Empty without validation data.
    """
    if dataset is None:
        return {}
    predicted, true = predict(model, dataset, batch_size)
    row = {"validation loss": loss_function(torch.tensor(predicted), torch.tensor(true)).item()}
    return row | ({"validation NME %": 100 * float(error(predicted, true).mean())} if error else {})


def print_epoch(row: dict) -> None:
    """One line for one epoch."""
    parts = [f"epoch {row['epoch']:3d}", f"training loss {row['training loss']:.4g}"]
    if "validation loss" in row:
        parts.append(f"validation loss {row['validation loss']:.4g}")
    if "validation NME %" in row:
        parts.append(f"validation NME {row['validation NME %']:5.2f} %")
    print("   ".join([*parts, f"{row['seconds']:.0f} s"]), flush=True)


def fit(
    model: nn.Module,
    training_data,
    validation_data=None,
    loss="smooth_l1",
    optimizer="adam",
    lr: float = 1e-4,
    epochs: int = 3,
    batch_size: int = 64,
    one_cycle: bool = False,
    seed: int = 0,
    device: torch.device | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = False,
    error=metrics.nme,
    print_every: int = 1,
) -> pd.DataFrame:
    """Train `model` in place and leave it with the weights of its best validation loss.

    Without validation data the last weights stay: a run whose length was chosen before needs nobody to choose.
    loss: a name in LOSSES or a function of (predicted, true); optimizer: a name in OPTIMIZERS or an optimiser
    made for this model; one_cycle lets the rate rise to lr and fall to zero within the run (Smith and Topin,
    arXiv:1708.07120). With a `checkpoint` path every epoch is saved, and the same call goes on where it
    stopped (DataError for another call's); the result is that of an uninterrupted run: (seed, epoch) seeds each epoch.
    Ctrl-C ends training early and keeps the best weights so far. `progress` draws a bar (not in notebooks).
    error: NME per face of (predicted, true), (N,); None for points that have no eye corners; print_every: epochs.

    Returns the history: one row per epoch, losses as means per coordinate in normalised units.
    """
    keep_freed_memory()
    model.to(device or best_device(), memory_format=torch.channels_last)
    loss_function = LOSSES[loss]() if isinstance(loss, str) else loss
    if isinstance(optimizer, str):
        optimizer = OPTIMIZERS[optimizer](model.parameters(), lr=lr)
    loader = DataLoader(training_data, batch_size, shuffle=True)
    scheduler = OneCycleLR(optimizer, lr, total_steps=epochs * len(loader)) if one_cycle else None
    asked = checkpoint and _asked(model, optimizer, loader, loss, lr=lr, epochs=epochs, one_cycle=one_cycle, seed=seed)
    run = _Run(model, optimizer, scheduler, checkpoint, asked)
    try:
        for epoch in range(len(run.history) + 1, epochs + 1):
            torch.manual_seed(1_000_003 * seed + epoch)
            start = time.perf_counter()
            training_loss = train_one_epoch(model, loader, loss_function, optimizer, scheduler, progress)
            row = {"epoch": epoch, "training loss": training_loss}
            row |= validate(model, validation_data, loss_function, error, batch_size)
            row["seconds"] = time.perf_counter() - start
            run.finish_epoch(row)
            if epoch % print_every == 0 or epoch == epochs:
                print_epoch(row)
    except KeyboardInterrupt:
        kept = f"; {checkpoint} holds them, the same call goes on" if checkpoint and run.history else ""
        print(f"\ninterrupted: {len(run.history)} of {epochs} epochs are done{kept}")
    model.load_state_dict(run.best_weights)
    return pd.DataFrame(run.history)


def _asked(model, optimizer, loader, loss, **numbers) -> dict[str, str]:
    """What tells a run from others, in words: its settings, and of its data the size and the first batch's numbers."""
    torch.manual_seed(numbers["seed"])
    batch = next(iter(loader))
    asked = {
        "network": type(model).__name__,
        "loss": loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__),
        "optimizer": type(optimizer).__name__,
        "batch size": loader.batch_size,
        **numbers,
        "training samples": len(loader.dataset),
        "first batch": f"{batch['image'].std():.4g} and {batch['keypoints'].mean():.4g}",
    }
    return {name: str(value) for name, value in asked.items()}


class _Run:
    """What must survive an interruption: weights, optimiser, schedule, history and the best weights so far."""

    def __init__(self, model, optimizer, scheduler, checkpoint, asked):
        self.parts = {"weights": model, "optimizer": optimizer}
        if scheduler:
            self.parts["scheduler"] = scheduler
        self.checkpoint, self.asked = checkpoint, asked
        self.history, self.best_weights = [], _copy(model.state_dict())
        if checkpoint and Path(checkpoint).exists():
            self._resume()

    def finish_epoch(self, row):
        losses = [r.get("validation loss", 0.0) for r in [*self.history, row]]  # without any the last is the best
        if losses[-1] <= min(losses):
            self.best_weights = _copy(self.parts["weights"].state_dict())
        self.history.append(row)
        if self.checkpoint:
            state = {name: part.state_dict() for name, part in self.parts.items()}
            state |= {"history": self.history, "best_weights": self.best_weights, "asked": self.asked}
            write_atomically(state, self.checkpoint)

    def _resume(self):
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            was = state["asked"]
            if other := [f"{name} {was[name]}, not {now}" for name, now in self.asked.items() if was[name] != now]:
                raise ValueError("; ".join(other))
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            self.history, self.best_weights = state["history"], state["best_weights"]
        except Exception as error:  # torch.load raises nearly anything on a damaged file
            reason = str(error).splitlines()[0]
            raise DataError(f"{self.checkpoint}: not a checkpoint of this run ({reason}); delete it") from None


def _copy(weights):
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def stage_checkpoints(recipe: Recipe, path: str | Path) -> list[Path]:
    """Of each stage: `path` with the ending .checkpoint, then .2.checkpoint."""
    return [Path(path).with_suffix(f"{end}.checkpoint") for end in ("", ".2")[: len(recipe.stages)]]


def delete(files: list[Path]) -> None:
    """Those that are there."""
    for file in files:
        file.unlink(missing_ok=True)


def run_recipe(
    recipe: Recipe, training, validation=None, seed: int = 0, checkpoint: str | Path | None = None, **more
) -> tuple[nn.Module, pd.DataFrame]:
    """Build and train the network of a recipe, stage by stage; `more` goes to `fit`. Returns it with its history.

    training: a data set, or several that are mixed; checkpoint: of the first stage, that of the second lies beside it.
    """
    model, histories = recipe.build(seed), []
    parts = training if isinstance(training, tuple) else (training,)
    paths = stage_checkpoints(recipe, checkpoint) if checkpoint else [None] * len(recipe.stages)
    if checkpoint and not paths[0].is_file():
        delete(paths)  # a second stage that is left alone went on from another first one
    for stage, path in zip(recipe.stages, paths, strict=True):
        data = ConcatDataset([part.with_transform(stage.training_transform) for part in parts])
        held_out = validation and validation.with_transform(stage.transform)
        histories.append(fit(model, data, held_out, **stage.settings(), seed=seed, checkpoint=path, **more))
        if len(histories[-1]) < stage.epochs:  # Ctrl-C
            break
    history = pd.concat(histories, ignore_index=True)
    return model, history.assign(epoch=history.index + 1)


def train_and_save(
    recipe: Recipe, path: Path, training, validation=None, seed: int = 0, dtype=torch.float16
) -> nn.Module | None:
    """run_recipe into a weights file, with its checkpoints beside it until that is written; None after Ctrl-C.

    Half-trained weights never take the place of finished ones. Raises DataError, before it trains, for a network
    that load_model would not know.
    """
    network_name(recipe.network())
    model, history = run_recipe(recipe, training, validation, seed, checkpoint=path, progress=True)
    if len(history) < recipe.total_epochs:
        return None
    save_model(model, path, recipe.expects, dtype)
    delete(stage_checkpoints(recipe, path))
    return model


def default_output(name: str, recipe: Recipe, seed: int) -> Path:
    """saved_models/NAME.pt, which may be a file that ships, for the recipe as it is; else a name that says how not."""
    epochs = "" if recipe.epochs == RECIPES[name].epochs else f"-{recipe.epochs}"
    return SAVED_MODELS / f"{name}{epochs}{f'-seed{seed}' if seed else ''}.pt"


def positive_integer(text: str) -> int:
    """For argparse: a whole number above zero."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def main() -> None:
    """Train a recipe, save the weights, measure them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES, help="; ".join(f"{n}: {r}" for n, r in RECIPES.items()))
    parser.add_argument("--epochs", type=positive_integer, help="instead of the recipe's (of its last stage)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="weights file (default: in saved_models/, named after all this)")
    args = parser.parse_args()
    recipe = RECIPES[args.recipe]
    recipe = replace(recipe, epochs=args.epochs or recipe.epochs)
    output = args.output or default_output(args.recipe, recipe, args.seed)

    root, about = find_data()
    print(f"data: {about}\nrecipe: {recipe}\ncheckpoint: {stage_checkpoints(recipe, output)[0]}")
    if recipe.ships:
        split = protocol.real_splits(root, about)[0]
        print(f"300-W: {split.about}")
        training, validation = split.faces(recipe), None
        tests = {name: test.crops(test.boxes("exact"), recipe.transform) for name, test in split.tests.items()}
    else:
        training, validation, test = course_data(root)
        tests = {"validation": validation, "test": test}
        tests = {name: data.with_transform(recipe.transform) for name, data in tests.items()}
    dtype = torch.float16 if recipe.ships else torch.float32
    model = train_and_save(recipe, output, training, validation, args.seed, dtype)
    if model is None:  # Ctrl-C
        return
    print(f"weights: {output}")
    for name, data in tests.items():
        numbers = evaluate(model, data, recipe.expects)
        print(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in numbers.items()))


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
