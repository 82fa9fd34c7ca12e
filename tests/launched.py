"""A short training on drawn faces, alone or launched in several processes (test_processes.py).

python -m torch.distributed.run --nproc_per_node 2 tests/launched.py DRAWN OUTPUT [--killed] [--interrupted]
"""

import os
import signal
import sys
from pathlib import Path

import pandas as pd
import torch
from small_nets import small_model
from torch import nn

from data_load import FacialKeypointsDataset
from facial_keypoints.images import DataError
from recipes import FACE_CROP
from training import device
from training.loop import fit
from training.processes import index, joined

KILLED, INTERRUPTED = "--killed", "--interrupted"


def partly_known(sample: dict) -> dict:
    """The sample with some points unknown: of every face others, and not equally many."""
    unknown = int(sample["image"].sum()) % 40
    keypoints = sample["keypoints"].clone()
    keypoints[:unknown] = torch.nan
    return sample | {"keypoints": keypoints}


def known_l1(predicted, true):
    """The mean over the known points of both kinds of network answers."""
    known = true.isfinite()
    return nn.functional.l1_loss(predicted[known], true[known])


class Striking:
    """A loss that does something in place of its 17th call: in the third epoch of `train`."""

    def __init__(self, strike):
        self.calls, self.strike, self.__name__ = 0, strike, known_l1.__name__

    def __call__(self, predicted, true):
        self.calls += 1
        if self.calls == 17:
            self.strike()
        return known_l1(predicted, true)


def interrupt():
    """Ctrl-C."""
    raise KeyboardInterrupt


def kill_one():
    """End one of the processes as if it had run out of memory, the first time that they are launched."""
    if index() == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)


def train(drawn: Path, checkpoint: Path | None = None, loss=known_l1) -> tuple[nn.Module, pd.DataFrame]:
    """Four epochs of six batches, of which the last has one face: 26 with copies, in float32 and without dropout."""
    device.has_fast_bfloat16 = lambda device: False  # whose rounding depends on the share
    model = small_model()
    model.layers[4].p = 0.0
    faces = FacialKeypointsDataset(drawn / "training_frames_keypoints.csv", drawn / "training", in_memory=True)
    training = faces.with_transform(lambda sample: partly_known(FACE_CROP(sample))).subset([*range(24), 3, 4])
    return model, fit(
        model,
        training,
        faces.with_transform(FACE_CROP).subset(range(7)),
        loss,
        lr=1e-3,
        epochs=4,
        batch_size=5,
        one_cycle=True,
        seed=3,
        checkpoint=checkpoint,
    )


def main(drawn: Path, output: Path, *options: str) -> None:
    """Train; the first process writes what came of it."""
    strike = {KILLED: kill_one, INTERRUPTED: interrupt}
    loss = next((Striking(strike[option]) for option in options), known_l1)
    with joined():
        model, history = train(drawn, output / "run.checkpoint", loss)
        print(f"process {index()} is done")
        torch.save(model.state_dict(), output / f"weights-{index()}.pt")
        history.to_csv(output / f"history-{index()}.csv", index=False)


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:3]), *sys.argv[3:])
    except DataError as error:
        raise SystemExit(str(error)) from None
