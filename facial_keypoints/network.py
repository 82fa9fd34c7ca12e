"""The input and output of a network (Expects), mirror averaging, and networks run by onnxruntime."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from facial_keypoints.images import DataError
from facial_keypoints.schemes import IBUG_68, Scheme

FACES_AT_ONCE = 16  # batch size; larger ones are no faster on a CPU and take more memory


@dataclass(frozen=True)
class Expects:
    """The format of a network's input and output; saved in its weights file.

    size: the input is size x size pixels; margin: of the face crop (geometry.crop_matrix), None for whole frames;
    mean, std: of the keypoint normalisation (transforms.Normalize); scheme: the landmark scheme; color: RGB, not gray;
    mirror_shift: predictions are averaged with those for the mirror image, shifted right and down by this many pixels
    (see mirror_averaged); None for no averaging.
    """

    size: int = 224
    margin: float | None = 0.25
    mean: float = 100.0
    std: float = 50.0
    scheme: Scheme = IBUG_68
    color: bool = False
    mirror_shift: int | None = None

    def in_pixels(self, points):
        """Normalised points (..., 2), an array or a tensor, in pixels of the network's input."""
        return points * self.std + self.mean

    def to_dict(self) -> dict:
        """As a dict of plain numbers, text and lists, for weights files."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict) -> "Expects":
        """The Expects of such a dict; in older weights files the scheme is only a name."""
        scheme = content.get("scheme", IBUG_68.name)
        return cls(**content | {"scheme": Scheme.from_dict(scheme) if isinstance(scheme, dict) else IBUG_68})


class Network(Protocol):
    """Anything that finds keypoints in face crops: an OnnxNetwork, or a torch module in training.export.TorchNetwork.

    locate takes crops (N, 1 or 3, size, size), float32 in [0, 1], and returns (N, K, 3) float32: x and y, normalised
    as `expects` says, and their spread in the same unit (the standard deviation along an axis), NaN where the network
    does not estimate it. It may be called from several threads.
    """

    expects: Expects

    def locate(self, crops: np.ndarray) -> np.ndarray: ...


def mirror_averaged(locate: Callable, crops: np.ndarray, expects: Expects) -> np.ndarray:  # (N, K, 3)
    """The predictions of `locate` for crops (N, C, size, size), averaged with those for their mirror images.

    The mirror image is shifted by expects.mirror_shift pixels with wrap-around (np.roll). Narrow heatmaps pull
    predictions towards cell centres; a shift by half a cell makes the two errors point in different directions.
    Without averaging, `locate(crops)`, if mirror_shift is None or the scheme has no mirror table.
    """
    answer, shift = locate(crops), expects.mirror_shift
    if shift is None or expects.scheme.mirror is None:
        return answer
    mirrored = expects.scheme.swap_sides(locate(np.roll(crops[..., ::-1], (shift, shift), axis=(2, 3))))
    middle = (expects.size - 1) / 2 - expects.mean
    mirrored[..., 0] = (2 * middle + shift) / expects.std - mirrored[..., 0]
    mirrored[..., 1] -= shift / expects.std
    return (answer + mirrored) / 2


class OnnxNetwork:
    """A network from an ONNX file that `python -m training.export` wrote, run by onnxruntime.

    device: "cpu", or "cuda" with the package onnxruntime-gpu; threads: for inference, None for one per core. Safe to
    share between threads. Raises DataError for a file that cannot be used or a device that is not available.
    """

    def __init__(self, path: str | Path, device: str = "cpu", threads: int | None = None):
        self.session = _session(path, device, threads)
        try:
            self.expects = Expects.from_dict(json.loads(self.session.get_modelmeta().custom_metadata_map["expects"]))
        except (KeyError, ValueError, TypeError):
            raise DataError(f"{path}: does not say what it expects; `python -m training.export` writes it") from None

    def locate(self, crops: np.ndarray) -> np.ndarray:  # (N, K, 3)
        """See Network; crops are run in batches of FACES_AT_ONCE, which bounds the memory."""
        if not len(crops):
            return np.empty((0, self.expects.scheme.num_points, 3), np.float32)
        chunks = (crops[start : start + FACES_AT_ONCE] for start in range(0, len(crops), FACES_AT_ONCE))
        return np.concatenate([self.session.run(None, {"crops": chunk})[0] for chunk in chunks])


def _session(path, device, threads):
    """An onnxruntime session for a file; onnxruntime is imported here, since that takes longer than all the rest."""
    import onnxruntime

    providers = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    if device not in providers:
        raise DataError(f'device "{device}": expected "cpu" or "cuda"')
    if not Path(path).is_file():
        raise DataError(f"{path}: no such weights file")
    missing = DataError(
        'device "cuda": onnxruntime finds none; it needs an NVIDIA GPU and the package onnxruntime-gpu'
    )
    if providers[device] not in onnxruntime.get_available_providers():
        raise missing
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4  # errors are raised below
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[providers[device]])
    except Exception:  # onnxruntime raises many types for a damaged file
        raise DataError(f"{path}: not an ONNX file that onnxruntime {onnxruntime.__version__} can run") from None
    if session.get_providers()[0] != providers[device]:  # the package is installed, but there is no GPU
        raise missing
    return session
