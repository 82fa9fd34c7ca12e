"""Milliseconds per face of the shipped networks and of dlib's trees, one face at a time on one core.

    python -m benchmarks.speed        writes results/speed.csv

Networks are timed in torch, and in ONNX Runtime in floats and in 8 bits, from crop to points, mirror averaging
included for `accurate`; `fast` also with fewer and more channels (those of benchmarks/turned_ablation.py). The trees,
if benchmarks/compare.py has trained them, are timed on a crop of the size used there; they need `pip install -r
benchmarks/requirements.txt`.
"""

import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.compare import BUILD
from benchmarks.tables import RESULTS
from benchmarks.turned_ablation import fast_of_width
from facial_keypoints.network import Expects, OnnxNetwork, mirror_averaged
from models import count_parameters
from train import SAVED_MODELS
from training.export import TorchNetwork, onnx_model
from training.quantize import quantize
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


def measure(answer: str, model: nn.Module, path: Path) -> dict:
    """The row of a network with `.expects`; path: its .onnx file, beside -int8.onnx."""
    expects, through_torch = model.expects, TorchNetwork(model)
    int8_path = path.with_name(f"{path.stem}-int8.onnx")
    floats, int8 = (OnnxNetwork(file, threads=1) for file in (path, int8_path))
    face = np.random.default_rng(0).random((1, 1, expects.size, expects.size), np.float32)
    return {
        "answer": answer,
        "parameters": count_parameters(model),
        "file, MB": path.stat().st_size / 1e6,
        "file in 8 bits, MB": int8_path.stat().st_size / 1e6,
        "torch, ms": milliseconds(lambda: mirror_averaged(through_torch.locate, face, expects)),
        "ONNX Runtime, ms": milliseconds(lambda: mirror_averaged(floats.locate, face, expects)),
        "ONNX Runtime in 8 bits, ms": milliseconds(lambda: mirror_averaged(int8.locate, face, expects)),
    }


def measure_width(width: int, expects: Expects) -> dict:
    """The row of an untrained `fast` of another width."""
    model = fast_of_width(width)(expects.scheme.num_points).half().float().eval()  # halves, as shipped files have
    model.expects = expects
    crops = np.random.default_rng(0).random((8, 1, expects.size, expects.size), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fast.onnx"
        path.write_bytes(onnx_model(model).SerializeToString())
        quantize(model, path.with_name("fast-int8.onnx"), crops)
        return measure(f"fast with {width} channels, untrained", model, path)


def main() -> None:
    """Measure and write the table."""
    torch.set_num_threads(1)
    models = {name: load_model(SAVED_MODELS / f"{name}.pt") for name in ("fast", "accurate")}
    rows = [measure(name, model, SAVED_MODELS / f"{name}.onnx") for name, model in models.items()]
    rows += [measure_width(width, models["fast"].expects) for width in (12, 24)]
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
