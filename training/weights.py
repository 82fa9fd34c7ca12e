"""Saving and loading weights."""

import os
import pickle
from pathlib import Path

import torch
from torch import nn

from facial_keypoints.images import DataError
from facial_keypoints.network import Expects
from models import NETWORKS


def write_atomically(content: dict, path: str | Path) -> None:
    """torch.save that leaves the old file or the new one, never half of one.

    Raises DataError when the disk is full or the folder cannot be written.
    """
    part = Path(f"{path}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch tells a full disk by a RuntimeError
        raise DataError(f"{path}: could not be written ({str(error).splitlines()[0]})") from None
    finally:
        part.unlink(missing_ok=True)


def network_name(model: nn.Module) -> str:
    """The name by which load_model finds the network's class; raises DataError for one that it would not find."""
    name = type(model).__name__
    if NETWORKS.get(name) is not type(model):
        raise DataError(f"{name}: load_model does not know this network, add it to models.NETWORKS")
    return name


def save_model(model: nn.Module, path: str | Path, expects: Expects, dtype=torch.float32) -> None:
    """Save weights (torch.float16 for those that ship), the network's name and what it expects.

    Raises DataError for a network that is not in NETWORKS and when the file cannot be written.
    """
    weights = {k: v.detach().cpu().to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}
    content = {
        "network": network_name(model),
        "num_keypoints": model.num_keypoints,
        "expects": expects.to_dict(),
        "weights": weights,
    }
    write_atomically(content, path)


def load_model(path: str | Path) -> nn.Module:
    """The network of a weights file, in evaluation mode, with `.expects`; needs nothing but the path.

    Raises DataError for a missing file and for one that save_model did not write.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        model = NETWORKS[content["network"]](content["num_keypoints"])
        model.load_state_dict(content["weights"])  # copies into float32 parameters, whatever was saved
        older = {"mirror_shift": getattr(model, "mirror_shift", None)}  # files of before November 2026 do not say it
        model.expects = Expects.from_dict(older | content["expects"])
    except FileNotFoundError:
        raise DataError(f"{path}: no such weights file; `python train.py RECIPE` makes one") from None
    except Exception as error:  # torch.load raises nearly anything on a damaged file
        # Of an unreadable file torch says how to load it unsafely; nobody should.
        unreadable = isinstance(error, pickle.UnpicklingError)
        reason = "torch cannot read it" if unreadable else f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{path}: not a weights file of this project ({reason})") from None
    return model.eval()
