"""The training loop, prediction and evaluation."""

import math
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from tqdm import tqdm

import metrics
from facial_keypoints.images import DataError
from facial_keypoints.network import mirror_averaged
from facial_keypoints.schemes import IBUG_68, TWO_JAWS, with_jaw_3d
from recipes import EXPECTS
from training import processes
from training.batches import training_loader
from training.checkpoints import TrainingState, run_settings
from training.device import autocast, best_device, gradient_scaler, memory_format, to_device
from training.export import TorchNetwork
from training.losses import LOSSES

OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, fused=True),  # a step of Net takes 8 instead of 28 ms of CPU time
    "adamw": partial(torch.optim.AdamW, fused=True),
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}

LOSS_COLUMNS = ("training loss", "validation loss")


def train_one_epoch(model, loader, loss_function, optimizer, scheduler, scaler, progress=False) -> float:
    """One pass over the training data; returns the mean loss per coordinate."""
    device = next(model.parameters()).device
    model.train()
    losses = []  # stay on the device until the end: each read synchronises with the GPU
    for batch in tqdm(loader, leave=False, disable=not progress):
        images, keypoints = to_device(batch, device)
        with autocast(device):
            predicted = model(images)
        loss = loss_function(predicted.float(), keypoints)
        optimizer.zero_grad()
        scaler.scale(loss).backward()  # for float16; does nothing otherwise
        scaler.step(optimizer)
        scaler.update()
        if scheduler:
            scheduler.step()
        losses.append(loss.detach())
    return float(np.average(processes.mean(torch.stack(losses)).tolist(), weights=loader.batch_sampler.sizes))


def locate(model: nn.Module, dataset, batch_size: int = 64, jaw_3d: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Predicted keypoints with their spread (N, K, 3) and true ones (N, K, 2) of a data set, normalised as it is.

    Predictions are mirror averaged if the network's `expects` says so, as in the library. If only 68 points are
    labelled, the predictions of a network with two jaw lines (schemes.TWO_JAWS) are reduced to 68: with the visible
    jaw line, or with the head's own if jaw_3d.
    """
    expects = getattr(model, "expects", EXPECTS)  # a network in training has none yet
    device = next(model.parameters()).device
    network = TorchNetwork(model, expects)
    predicted, true = [], []
    for batch in DataLoader(processes.share(dataset), batch_size):
        with autocast(device):
            points = mirror_averaged(network.locate, batch["image"].numpy(), expects)
        labelled = batch["keypoints"].shape[1]
        if points.shape[1] > labelled:
            points = with_jaw_3d(points) if jaw_3d else points[:, :labelled]
        predicted.append(points)
        true.append(batch["keypoints"].numpy())
    return tuple(processes.gathered(np.concatenate(rows), len(dataset)) for rows in (predicted, true))


def predict(model: nn.Module, dataset, batch_size: int = 64, jaw_3d: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true keypoints (N, K, 2) of a data set, see `locate`."""
    located, true = locate(model, dataset, batch_size, jaw_3d)
    return located[..., :2], true


def mean_face(training_data, dataset) -> tuple[np.ndarray, np.ndarray]:
    """The trivial baseline, in the form of `predict`: the mean of all training keypoints for every face."""
    mean, true = (np.stack([sample["keypoints"] for sample in data]) for data in (training_data, dataset))
    return np.broadcast_to(mean.mean(axis=0), true.shape), true


def evaluate(model: nn.Module, dataset, expects=EXPECTS) -> dict[str, float]:
    """metrics.summary of a network on a data set, in pixels of the network's input.

    A network with two jaw lines is measured on the 68 points if only these are labelled.
    """
    predicted, true = map(expects.in_pixels, predict(model, dataset))
    has_all = true.shape[1] == expects.scheme.num_points
    return metrics.summary(predicted, true, expects.scheme if has_all else IBUG_68)


def validate(model: nn.Module, dataset, loss_function, error, batch_size: int) -> dict[str, float]:
    """The validation columns of the history: mean loss per coordinate and, unless error is None, NME in percent.

    Empty without validation data.
    """
    if dataset is None:
        return {}
    predicted, true = predict(model, dataset, batch_size)
    row = {"validation loss": loss_function(torch.tensor(predicted), torch.tensor(true)).item()}
    return row | ({"validation NME %": 100 * float(error(predicted, true).mean())} if error else {})


def check_points(model: nn.Module, dataset, error) -> None:
    """Raises DataError if the network, or `error`, is for other points than those of the validation data."""
    if dataset is None:
        return
    points = np.asarray(dataset[0]["keypoints"])[None]
    labelled, predicted = points.shape[1], getattr(model, "num_keypoints", points.shape[1])
    if labelled not in (predicted, IBUG_68.num_points if predicted == TWO_JAWS.num_points else predicted):
        raise DataError(f"the network predicts {predicted} keypoints, the validation data has {labelled}")
    try:
        if error:
            error(points, points)
    except DataError as problem:
        advice = "fit(..., error=None), or error=functools.partial(metrics.nme, scheme=...)"
        raise DataError(f"the error of the validation data cannot be measured ({problem}): {advice}") from None


def one_cycle_schedule(optimizer: torch.optim.Optimizer, lr: float, steps: int) -> OneCycleLR:
    """The learning rate rises to lr and falls to zero within `steps` (Smith and Topin, arXiv:1708.07120).

    The first beta of Adam and AdamW falls from 0.95 to 0.85 and rises again; other optimisers keep their momentum.
    """
    return OneCycleLR(optimizer, lr, total_steps=steps, cycle_momentum="betas" in optimizer.defaults)


def check_finite(row: dict, model: nn.Module) -> None:
    """Raises DataError if a loss of this epoch, or any weight after its last step, is not a finite number."""
    wrong = [f"the {name} is {row[name]}" for name in LOSS_COLUMNS if not math.isfinite(row.get(name, 0.0))]
    if not wrong and not all(values.isfinite().all() for values in model.state_dict().values()):
        wrong = ["the weights are no longer finite"]
    if wrong:
        kept = "best weights so far" if row["epoch"] > 1 else "weights it started with"
        raise DataError(
            f"epoch {row['epoch']}: {' and '.join(wrong)}; try a lower learning rate, and check that all images and "
            f"keypoints are finite numbers (the network is left with the {kept})"
        )


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

    Without validation data the last weights are kept. loss: a name in LOSSES or a function of (predicted,
    true); optimizer: a name in OPTIMIZERS or an optimiser made for this model; one_cycle: see one_cycle_schedule. With
    a `checkpoint` path every epoch is saved, and the same call resumes where it stopped (DataError for the checkpoint
    of another call); the result equals an uninterrupted run's, since (seed, epoch) seeds each epoch. Ctrl-C ends
    training early and keeps the best weights so far; so does a loss that is not finite, with a DataError. `progress`
    draws a bar (not in notebooks). error: a function of (predicted, true) that returns the NME per face, (N,), by
    default of the 68 points; None for none (DataError if it is for other points); print_every: in epochs. In several
    processes (training.processes) batch_size is their total.

    Returns the history: one row per epoch, losses as means per coordinate in normalised units.
    """
    check_points(model, validation_data, error)
    device = torch.device(device or best_device())
    model.to(device, memory_format=memory_format(device))
    loss_function = LOSSES[loss]() if isinstance(loss, str) else loss
    if isinstance(optimizer, str):
        optimizer = OPTIMIZERS[optimizer](model.parameters(), lr=lr)
    loader = training_loader(training_data, batch_size, device)
    parts = {"weights": model, "optimizer": optimizer}
    scheduler, scaler = None, gradient_scaler(device)
    if one_cycle:
        scheduler = parts["scheduler"] = one_cycle_schedule(optimizer, lr, epochs * len(loader))
    if scaler.is_enabled():
        parts["scaler"] = scaler
    numbers = {"lr": lr, "epochs": epochs, "one_cycle": one_cycle, "seed": seed}
    settings = run_settings(model, optimizer, training_data, batch_size, loss, **numbers) if checkpoint else {}
    state = TrainingState(parts, checkpoint, settings)
    training = (processes.in_step(model), loader, processes.whole_batch(loss_function), optimizer, scheduler, scaler)
    try:
        for epoch in range(len(state.history) + 1, epochs + 1):
            torch.manual_seed(1_000_003 * seed + epoch)
            start = time.perf_counter()
            row = {"epoch": epoch, "training loss": train_one_epoch(*training, progress and processes.index() == 0)}
            processes.average_buffers(model)
            row |= validate(model, validation_data, loss_function, error, batch_size)
            row["seconds"] = time.perf_counter() - start
            check_finite(row, model)
            state.finish_epoch(row)
            if epoch % print_every == 0 or epoch == epochs:
                print_epoch(row)
    except KeyboardInterrupt:
        kept = f"; {checkpoint} holds them, the same call resumes" if checkpoint and state.history else ""
        print(f"\ninterrupted: {len(state.history)} of {epochs} epochs are done{kept}")
    finally:
        model.load_state_dict(state.best_weights)
    return pd.DataFrame(state.history)
