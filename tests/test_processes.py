"""Training in two real processes on the CPU (gloo), started as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import launched
import pandas as pd
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def alone(drawn):
    """The network and the history of training in a single process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.device.has_fast_bfloat16", None)  # which train replaces
        return launched.train(drawn)


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node=2")
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1")
ACCELERATE += ("--mixed_precision=no", "--dynamo_backend=no")  # what it would warn about


def launch(drawn, output, *options, launcher=TORCHRUN, restarts=0):
    """Run tests/launched.py in two processes."""
    script = [ROOT / "tests" / "launched.py", drawn, output, *options]
    setting = os.environ | {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "KEYPOINTS_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", *launcher, f"--max_restarts={restarts}", *map(str, script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, env=setting)


def check_same(alone, output):
    """Check that both processes have the history and the weights of training in a single one."""
    model, history = alone
    for number in range(2):
        both = pd.read_csv(output / f"history-{number}.csv")
        pd.testing.assert_frame_equal(both.drop(columns="seconds"), history.drop(columns="seconds"), rtol=1e-5)
        torch.testing.assert_close(torch.load(output / f"weights-{number}.pt"), model.state_dict())


def test_two_processes_have_the_loss_curve_of_one_even_if_one_dies_and_they_restart(alone, drawn, tmp_path):
    """The shares differ in size and in their number of known points, and the last batch has one face."""
    done = launch(drawn, tmp_path, launched.KILLED, restarts=1)
    assert done.returncode == 0, done.stderr
    assert "process 0: ended, since another process of this training did" in done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        *(["epoch", str(number)] for number in range(1, 5)),  # each once: the restart begins with epoch 3
        ["process", "0"],
    ]
    check_same(alone, tmp_path)


def test_one_process_resumes_where_two_of_accelerate_launch_were_interrupted(alone, drawn, tmp_path, monkeypatch):
    done = launch(drawn, tmp_path, launched.INTERRUPTED, launcher=ACCELERATE)
    assert "interrupted: 2 of 4 epochs are done" in done.stdout and done.returncode == 0
    monkeypatch.setattr("training.device.has_fast_bfloat16", None)
    model, history = launched.train(drawn, tmp_path / "run.checkpoint")
    torch.testing.assert_close(model.state_dict(), alone[0].state_dict())
    assert history["training loss"].tolist() == pytest.approx(alone[1]["training loss"].tolist(), rel=1e-5)
