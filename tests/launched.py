"""A short training on drawn faces, in one process or launched in several (test_processes.py).

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
    """The sample with some points unknown; how many differs from face to face."""
    unknown = int(sample["image"].sum()) % 40
    keypoints = sample["keypoints"].clone()
    keypoints[:unknown] = torch.nan
    return sample | {"keypoints": keypoints}


def known_l1(predicted, true):
    """The L1 distance, averaged over the known points."""
    known = true.isfinite()
    return nn.functional.l1_loss(predicted[known], true[known])


class LossWithAccident:
    """A loss that calls `accident` before its 17th value, in the third epoch of `train`."""

    def __init__(self, accident):
        self.calls, self.accident, self.__name__ = 0, accident, known_l1.__name__

    def __call__(self, predicted, true):
        self.calls += 1
        if self.calls == 17:
            self.accident()
        return known_l1(predicted, true)


def interrupt():
    """Ctrl-C."""
    raise KeyboardInterrupt


def kill_one():
    """Kill one of the processes, as if it had run out of memory, unless they were restarted."""
    if index() == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)


def train(drawn: Path, checkpoint: Path | None = None, loss=known_l1) -> tuple[nn.Module, pd.DataFrame]:
    """Train four epochs in float32 without dropout; 26 faces, two of them twice, make six batches, the last of one."""
    device.has_fast_bfloat16 = lambda device: False  # its rounding would depend on the share
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
    """Train; every process writes its weights and its history."""
    accidents = {KILLED: kill_one, INTERRUPTED: interrupt}
    loss = next((LossWithAccident(accidents[option]) for option in options), known_l1)
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
