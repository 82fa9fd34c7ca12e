"""Milliseconds per face of the shipped networks and of dlib's trees, one face at a time on one core.

    python -m benchmarks.speed        writes results/speed.csv

Networks are timed in torch, and in ONNX Runtime in floats and in 8 bits, from crop to points, mirror averaging
included for `accurate`. The trees, if benchmarks/compare.py has trained them, are timed on a crop of the same size as
there; they need `pip install -r benchmarks/requirements.txt`.
"""

import platform
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from benchmarks.compare import BUILD
from benchmarks.tables import RESULTS
from facial_keypoints.network import OnnxNetwork, mirror_averaged
from models import count_parameters
from train import SAVED_MODELS
from training.export import TorchNetwork
from training.weights import load_model

REPEATS = 300


def milliseconds(call: Callable) -> float:
    """The median time of a call after a warm-up."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[REPEATS // 10 :]))


def measure(name: str) -> dict:
    """The row of one shipped network."""
    path = SAVED_MODELS / f"{name}.pt"
    model = load_model(path)
    expects, through_torch = model.expects, TorchNetwork(model)
    floats, int8 = (OnnxNetwork(path.with_name(f"{name}{kind}.onnx"), threads=1) for kind in ("", "-int8"))
    face = np.random.default_rng(0).random((1, 1, expects.size, expects.size), np.float32)
    return {
        "answer": name,
        "parameters": count_parameters(model),
        "file, MB": path.with_name(f"{name}.onnx").stat().st_size / 1e6,
        "file in 8 bits, MB": path.with_name(f"{name}-int8.onnx").stat().st_size / 1e6,
        "torch, ms": milliseconds(lambda: mirror_averaged(through_torch.locate, face, expects)),
        "ONNX Runtime, ms": milliseconds(lambda: mirror_averaged(floats.locate, face, expects)),
        "ONNX Runtime in 8 bits, ms": milliseconds(lambda: mirror_averaged(int8.locate, face, expects)),
    }


def main() -> None:
    """Measure and write the table."""
    torch.set_num_threads(1)
    rows = [measure(name) for name in ("fast", "accurate")]
    trees = BUILD / "all" / "trees.dat"
    if trees.is_file():
        import dlib

        predictor = dlib.shape_predictor(str(trees))
        crop = np.random.default_rng(0).integers(0, 256, (400, 400), np.uint8)
        box = dlib.rectangle(100, 100, 300, 300)
        rows.append({"answer": "dlib's trees", "dlib, ms": milliseconds(lambda: predictor(crop, box))})
    table = pd.DataFrame(rows).round(3)
    table["measured on"] = f"one core of {platform.machine()}, torch {torch.__version__}"
    table.to_csv(RESULTS / "speed.csv", index=False)
    print(table.to_string())


if __name__ == "__main__":
    main()
