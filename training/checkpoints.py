"""Checkpoints: what must survive an interrupted training."""

from pathlib import Path

import torch

from facial_keypoints.images import DataError
from recipes import Recipe
from training.weights import write_atomically


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
