"""Checkpoints: saving the state of training and resuming from it."""

from pathlib import Path

import torch
from torch.utils.data import DataLoader

from facial_keypoints.images import DataError
from recipes import Recipe
from training.processes import from_first
from training.weights import write_atomically


def run_settings(model, optimizer, data, batch_size: int, loss, **numbers) -> dict[str, str]:
    """The settings, as text, by which a run recognises its own checkpoint; `numbers`: arguments of fit with the seed.

    The training data is identified by its size and by two statistics of its first batch. The device and the number of
    processes may change.
    """
    torch.manual_seed(numbers["seed"])
    batch = next(iter(DataLoader(data, batch_size, shuffle=True)))
    settings = {
        "network": type(model).__name__,
        "loss": loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__),
        "optimizer": type(optimizer).__name__,
        "batch size": batch_size,
        **numbers,
        "starting weights": f"{sum(values.detach().double().abs().sum().item() for values in model.parameters()):.6g}",
        "training samples": len(data),
        "first batch": f"{batch['image'].std():.4g} and {batch['keypoints'].mean():.4g}",
    }
    return {name: str(value) for name, value in settings.items()}


class TrainingState:
    """The state of a training run: weights, optimiser, schedule, history and the best weights so far.

    parts: by name, the objects with a state_dict; "weights" is the network.

    With a `checkpoint` path it is saved after every epoch, and read back at the start if the file exists.
    Raises DataError for a file that is damaged or has other `settings` (run_settings).
    """

    def __init__(self, parts: dict, checkpoint: str | Path | None, settings: dict[str, str]):
        self.parts, self.checkpoint, self.settings = parts, checkpoint, settings
        self.history, self.best_weights = [], _copy(parts["weights"].state_dict())
        if checkpoint and (state := from_first(self._saved)):
            for name, part in parts.items():
                part.load_state_dict(state[name])
            self.history, self.best_weights = state["history"], state["best_weights"]

    def finish_epoch(self, row: dict) -> None:
        """Add an epoch's row to the history; its weights are the best if no validation loss was lower."""
        losses = [r.get("validation loss", 0.0) for r in [*self.history, row]]  # without them the last is the best
        if losses[-1] <= min(losses):
            self.best_weights = _copy(self.parts["weights"].state_dict())
        self.history.append(row)
        if self.checkpoint:
            state = {name: part.state_dict() for name, part in self.parts.items()}
            state |= {"history": self.history, "best_weights": self.best_weights, "settings": self.settings}
            write_atomically(state, self.checkpoint)

    def _saved(self):
        """The content of the checkpoint; None if there is no such file."""
        if not Path(self.checkpoint).exists():
            return None
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            reason = _differences(state["settings"], self.settings)
        except Exception:  # torch.load raises nearly anything on a damaged file, and advises loading it unsafely
            reason = "damaged, or of another program"
        if reason:
            raise DataError(f"{self.checkpoint}: not a checkpoint of this run ({reason}); delete it")
        return state


def _differences(saved: dict[str, str], asked: dict[str, str]) -> str:
    return "; ".join(f"{name} {saved[name]}, not {asked[name]}" for name in asked if saved[name] != asked[name])


def _copy(weights):
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def stage_checkpoints(recipe: Recipe, path: str | Path) -> list[Path]:
    """The checkpoint of each stage: `path` with the ending .checkpoint, then .2.checkpoint."""
    return [Path(path).with_suffix(f"{end}.checkpoint") for end in ("", ".2")[: len(recipe.stages)]]


def delete_checkpoints(recipe: Recipe, path: str | Path) -> None:
    """Delete the checkpoints of the recipe's stages that exist."""
    for file in stage_checkpoints(recipe, path):
        file.unlink(missing_ok=True)
