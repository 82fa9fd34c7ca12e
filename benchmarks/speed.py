"""Milliseconds a face: the networks that ship, one face at a time on one core, beside dlib's trees in the same run.

    python -m benchmarks.speed        writes results/speed.csv; pip install -r benchmarks/requirements.txt first

Each through torch and through ONNX Runtime; the time is that of the network alone, from a crop to its points. The
trees are those of benchmarks/compare.py, on a crop of the size that they are given there.
"""

import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import dlib
import numpy as np
import onnxruntime
import pandas as pd
import torch

from benchmarks.compare import BUILD
from benchmarks.tables import RESULTS
from models import count_parameters
from train import SAVED_MODELS
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


def onnx_session(model: torch.nn.Module, face: torch.Tensor) -> onnxruntime.InferenceSession:
    """The network for ONNX Runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own exporter
        path = str(Path(folder) / "net.onnx")
        torch.onnx.export(model, (face,), path, dynamo=False, input_names=["face"])
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@torch.inference_mode()
def measure(name: str) -> dict:
    """The row of one shipped network."""
    path = SAVED_MODELS / f"{name}.pt"
    model = load_model(path)
    face = torch.rand(1, 1, model.expects.size, model.expects.size)
    session, array = onnx_session(model, face), face.numpy()
    (answer,) = session.run(None, {"face": array})
    np.testing.assert_allclose(answer, model(face).numpy(), atol=1e-4)
    return {
        "answer": name,
        "parameters": count_parameters(model),
        "file, MB": path.stat().st_size / 1e6,
        "torch, ms": milliseconds(lambda: model(face)),
        "ONNX Runtime, ms": milliseconds(lambda: session.run(None, {"face": array})),
    }


def main() -> None:
    """Measure and write the table."""
    torch.set_num_threads(1)
    rows = [measure(name) for name in ("fast", "accurate")]
    trees = BUILD / "all" / "trees.dat"
    if trees.is_file():
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
