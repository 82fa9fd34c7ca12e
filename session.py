"""The setup in the first cell of every notebook: plot defaults, versions, the data, how long to train.

`show_source` shows code from the modules in a notebook.
"""

import inspect
import os
import platform
import textwrap
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown
from matplotlib_inline.backend_inline import set_matplotlib_formats

from data_sets.find import ROOT, Kind, find_data
from train import SAVED_MODELS
from training.device import best_device, has_fast_bfloat16, keep_freed_memory


class Length(Enum):
    """How long the notebooks train; the values describe it in the first cell's output."""

    FULL = "in full"
    SHORT = "short trainings, since on drawn faces no number means anything (FULL=1 trains in full)"
    QUICK = "QUICK=1, a few batches only; the numbers mean nothing"


@dataclass(frozen=True)
class Session:
    """The data folder and its kind, how long to train, and the weights file of notebook 2."""

    data: Path
    kind: Kind
    length: Length
    model: Path

    @property
    def quick(self) -> bool:
        """Whether to use only a few samples."""
        return self.length is Length.QUICK

    def epochs(self, full: int, short: int = 2) -> int:
        """The number of epochs to train for: 1 in a quick run."""
        return {Length.FULL: full, Length.SHORT: min(short, full), Length.QUICK: 1}[self.length]


def run_length(kind: Kind) -> Length:
    """The length that QUICK=1 or FULL=1 asks for; otherwise short on drawn faces, full on real ones."""
    if os.environ.get("QUICK") == "1":
        return Length.QUICK
    drawn = kind is Kind.DRAWN and os.environ.get("FULL") != "1"
    return Length.SHORT if drawn else Length.FULL


def start() -> Session:
    """Set up a notebook; print versions, device and data."""
    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 70})
    plt.rcParams.update({"figure.dpi": 100, "axes.spines.top": False, "axes.spines.right": False})
    data = find_data()
    length = run_length(data.kind)
    device = best_device()
    speed = "with bfloat16" if has_fast_bfloat16(device) else "float32"
    print(f"Python {platform.python_version()}, torch {torch.__version__}, OpenCV {cv2.__version__}")
    print(f"device: {device}, {torch.get_num_threads()} threads, {speed}")
    if keep_freed_memory():
        print("memory: this kernel keeps what it frees for the next batch and trains faster")
    print(f"data: {data.about}")
    print(f"run: {length.value}")
    # A short run must not replace the weights of a full one.
    weights = "notebook_2.pt" if length is Length.FULL else "notebook_2_short.pt"
    return Session(data.path, data.kind, length, SAVED_MODELS / weights)


def show_source(*objects) -> Markdown:
    """The code of functions, methods or classes, highlighted, each below the name of its file."""
    code = "\n\n".join(
        f"# {Path(inspect.getsourcefile(thing)).resolve().relative_to(ROOT).as_posix()}: {thing.__qualname__}\n"
        + textwrap.dedent(inspect.getsource(thing))
        for thing in objects
    )
    return Markdown(f"```python\n{code}```")
