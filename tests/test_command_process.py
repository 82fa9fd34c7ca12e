"""The command as a process: exit codes, Ctrl-C and a full disk."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_files import NOBODY, files, lines, save

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = [sys.executable, "-m", "facial_keypoints"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
QUICKLY = ("--network", "fast", "--detector", "haar")


def start(*arguments, **settings):
    settings = {"env": ENVIRONMENT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | settings
    return subprocess.Popen([*SCRIPT, *map(str, arguments)], **settings)


def finish(*arguments, **settings):
    process = start(*arguments, **settings)
    said, complaints = process.communicate(timeout=60)
    return process.returncode, said, complaints


def test_exit_codes_of_the_process(here):
    save("photo.png"), save("nobody.png", NOBODY)
    code, said, complaints = finish("photo.png", "nobody.png", *QUICKLY)
    assert (code, complaints) == (0, "") and said.startswith("2 pictures read; 1 face in 1 of them")
    code, said, complaints = finish("photo.png", "none.png", *QUICKLY)
    assert (code, complaints) == (1, "none.png: no such file\n") and "1 before" in said
    for wrong, sentence in (
        (("--network", "none.onnx"), "none.onnx: no such weights file"),
        (("--output", "photo.png"), "photo.png"),
    ):
        code, said, complaints = finish("photo.png", *QUICKLY, *wrong)
        assert (code, said) == (2, "") and sentence in complaints.splitlines()[-1]
        assert "Traceback" not in complaints


def test_ctrl_c_keeps_finished_results_and_the_same_command_resumes(here):
    save("photos/00.png")
    for number in range(1, 80):
        os.link("photos/00.png", f"photos/{number:02}.png")
    process, part = start("photos", *QUICKLY), Path("keypoints/keypoints.jsonl.part")
    until = time.monotonic() + 60
    while not (part.is_file() and part.read_bytes().count(b"\n") >= 3) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (130, "")
    done = len(lines())
    assert 3 <= done < 80 and f"{80 - done} left, which the same command will read" in said
    assert len(files("keypoints")) == done + 1, "a drawn picture for each line and nothing half written"
    for number in range(done + 4, 80):
        Path(f"photos/{number:02}.png").unlink(missing_ok=True)
    code, said, _ = finish("photos", *QUICKLY)
    assert code == 0 and f"and {done} before" in said and len(lines()) == len(os.listdir("photos"))


@pytest.mark.skipif(os.name == "nt", reason="there are no such limits")
def test_a_full_disk_is_one_sentence(here):
    import resource

    save("photo.png")

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    code, said, complaints = finish("photo.png", "--json", *QUICKLY, preexec_fn=small_files)
    assert (code, said) == (2, "")
    assert "keypoints.jsonl.part: could not be written" in complaints and len(complaints.splitlines()) == 1
