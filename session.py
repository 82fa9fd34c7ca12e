"""The setup in the first cell of every notebook: plot defaults, versions, the data, full or quick run."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import torch
from matplotlib_inline.backend_inline import set_matplotlib_formats

from data_sets.find import Kind, find_data
from train import SAVED_MODELS
from training.device import best_device, has_fast_bfloat16, keep_freed_memory


@dataclass(frozen=True)
class Session:
    """The data folder and its kind, whether QUICK=1 asks for a short run, and the weights file of notebook 2."""

    data: Path
    kind: Kind
    quick: bool
    model: Path


def start() -> Session:
    """Set up a notebook; print versions, device and data."""
    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 85})
    plt.rcParams.update({"figure.dpi": 100, "axes.spines.top": False, "axes.spines.right": False})
    data = find_data()
    quick = os.environ.get("QUICK") == "1"
    device = best_device()
    speed = "with bfloat16" if has_fast_bfloat16(device) else "float32"
    print(f"Python {platform.python_version()}, torch {torch.__version__}, OpenCV {cv2.__version__}")
    print(f"device: {device}, {torch.get_num_threads()} threads, {speed}")
    if keep_freed_memory():
        print("memory: this kernel keeps what it frees for the next batch and trains faster")
    print(f"data: {data.about}")
    print("run: QUICK=1, a few batches only; the numbers mean nothing" if quick else "run: in full")
    # A quick run must not replace the weights of a full one.
    return Session(data.path, data.kind, quick, SAVED_MODELS / ("notebook_2_quick.pt" if quick else "notebook_2.pt"))
