"""Saving and loading weights."""

import inspect
import os
from pathlib import Path

import torch
from torch import nn

from facial_keypoints.images import DataError
from facial_keypoints.network import Expects
from facial_keypoints.schemes import IBUG_68, TWO_JAWS
from models import NETWORKS
from training.processes import from_first


def write_atomically(content: dict, path: str | Path) -> None:
    """torch.save to a temporary file that then replaces `path`, so that no half-written file is left.

    Of several processes (training.processes) the first writes, the others wait for it. Raises DataError if the disk
    is full or the folder is not writable.
    """
    from_first(lambda: _write(content, path))


def _write(content, path):
    part = Path(f"{path}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a full disk
        raise DataError(f"{path}: could not be written ({str(error).splitlines()[0]})") from None
    finally:
        part.unlink(missing_ok=True)


def network_name(model: nn.Module) -> str:
    """The name under which load_model finds the network's class; raises DataError if it is not in NETWORKS."""
    name = type(model).__name__
    if NETWORKS.get(name) is not type(model):
        raise DataError(
            f"{name}: load_model makes the networks of models.NETWORKS only; add it to models.NETWORKS, or keep its "
            "weights alone with torch.save(model.state_dict(), path)"
        )
    return name


def constructor_arguments(model: nn.Module) -> dict:
    """The arguments that the network was constructed with, read from its attributes of the same names.

    Raises DataError for a network that lacks one of these attributes.
    """
    names = list(inspect.signature(type(model)).parameters)
    if missing := [name for name in names if not hasattr(model, name)]:
        raise DataError(
            f"{type(model).__name__}: keeps no attribute {missing[0]}, so a weights file could not restore it"
        )
    return {name: getattr(model, name) for name in names}


def save_model(model: nn.Module, path: str | Path, expects: Expects, dtype=torch.float32) -> None:
    """Save the weights (torch.float16 for the shipped ones), the network's name and arguments and its Expects.

    Raises DataError for a network that is not in NETWORKS and if the file cannot be written.
    """
    weights = {k: v.detach().cpu().to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}
    content = {
        "network": network_name(model),
        "arguments": constructor_arguments(model),
        "expects": expects.to_dict(),
        "weights": weights,
    }
    write_atomically(content, path)


def load_model(path: str | Path) -> nn.Module:
    """The network of a weights file, in evaluation mode, with its `.expects`; no other argument is needed.

    Raises DataError for a missing file and for one that save_model did not write.
    """
    content = _read(path)
    try:
        model = NETWORKS[content["network"]](**_arguments(content))
        model.load_state_dict(content["weights"])  # copies into float32 parameters, whatever was saved
        older = {"mirror_shift": getattr(model, "mirror_shift", None)}  # files from before November 2026 lack it
        model.expects = Expects.from_dict(older | content["expects"])
    except Exception as error:  # other content may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{path}: not a weights file of this project ({reason})") from None
    return model.eval()


def _read(path):
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such weights file; `python train.py RECIPE` makes one") from None
    except Exception:  # its message would advise loading the file unsafely
        raise DataError(f"{path}: not a weights file of this project (damaged, or of another program)") from None


def _arguments(content):
    """The constructor's arguments; files from before November 2026 only hold the number of keypoints."""
    return content.get("arguments") or {"num_keypoints": content["num_keypoints"]}


def start_from(model: nn.Module, path: str | Path) -> str:
    """Copy the weights of a file into a network of the same class, for fine-tuning; returns a line that describes it.

    Layers whose shape differs, like the last one for another number of points, keep their initialisation. Between the
    68 points and two jaws no layer starts afresh: the head's jaw starts as a copy of the visible one, or is left out.
    Raises DataError if the file holds another class of network.
    """
    start = load_model(path)
    if type(start) is not type(model):
        raise DataError(f"{path}: holds {type(start).__name__}, this recipe trains {type(model).__name__}")
    own, weights = model.state_dict(), start.state_dict()
    if {start.num_keypoints, model.num_keypoints} == {IBUG_68.num_points, TWO_JAWS.num_points}:
        for name in ("head.weight", "head.bias"):
            weights[name] = torch.cat([weights[name][:68], weights[name][:17]])[: model.num_keypoints]
        start.num_keypoints = model.num_keypoints
    model.load_state_dict({k: v for k, v in weights.items() if v.shape == own[k].shape}, strict=False)
    if start.num_keypoints == model.num_keypoints:
        return f"{path}, all layers"
    return f"{path}; its last layer has {start.num_keypoints} points, that for {model.num_keypoints} starts afresh"
