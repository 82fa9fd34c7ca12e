"""Other packages that find 68 keypoints, each as a process in an environment of its own (peers.py compares them).

Environments are made under build/peers/, which needs a package index once; the processes run peer_worker.py.
"""

import json
import os
import subprocess
import time
import venv
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import psutil

from data_sets.find import ROOT
from facial_keypoints.images import DataError

BUILD = ROOT / "build" / "peers"


@dataclass(frozen=True)
class Way:
    """A method: a class of peer_worker.py, the packages that pip installs for it, and its options."""

    name: str
    packages: tuple[str, ...]
    options: dict = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """The interpreter of its environment, which is made on first use."""
        return environment(self.name, self.packages)


DLIB = ("dlib-bin>=20.0,<21", "face_recognition_models==0.3.0", "setuptools<81", "numpy>=2,<3")
OURS = (str(ROOT),)
WAYS = {
    "dlib": Way("dlib", DLIB),
    "MediaPipe": Way("mediapipe", ("mediapipe==0.10.21",)),  # the last whose wheel includes its models
    "fast, one look": Way("ours", OURS, {"network": "fast", "looks": 1}),
    "fast": Way("ours", OURS, {"network": "fast"}),
    "accurate, one look": Way("ours", OURS, {"network": "accurate", "looks": 1}),
    "accurate": Way("ours", OURS, {"network": "accurate"}),
}


@cache
def environment(name: str, packages: tuple[str, ...]) -> Path:
    """The interpreter of an environment with these packages; ours is installed anew by every run."""
    folder = BUILD / name
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    ready = (folder / "ready").is_file()
    if not ready:
        venv.create(folder, with_pip=True, clear=True)
    if not ready or packages == OURS:
        again = ["--force-reinstall", "--no-deps"] if ready else []
        subprocess.run([python, "-m", "pip", "install", "--quiet", *again, *packages], check=True)
        (folder / "ready").touch()
    return python


class Worker:
    """A method as a running process, called with the requests of peer_worker.py; as a context manager it ends it."""

    def __init__(self, way: Way, **options):
        script = Path(__file__).with_name("peer_worker.py")
        command = [way.python, script, way.name, json.dumps(way.options | options)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=BUILD,
            env=os.environ | ({"OMP_NUM_THREADS": "1"} if options.get("threads") == 1 else {}),
        )

    def __call__(self, photo: Path, boxes=None, repeats: int = 1) -> dict:
        request = {"what": "find" if boxes is None else "locate", "photo": str(photo), "repeats": repeats}
        if boxes is not None:
            request["boxes"] = np.asarray(boxes, float).tolist()
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise DataError(f"{self.process.args[2]}: ended with {self.process.wait()}; run it by hand to see why")
        answer = json.loads(answer)
        return answer | {"points": np.array(answer["points"]).reshape(-1, 68, 2)}

    def megabytes(self) -> float:
        """Its current resident memory."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def megabytes(way: Way) -> float:
    """The size of what pip has installed for a way, without pip itself."""
    folder = next((way.python.parent.parent).rglob("site-packages"))
    files = [file for part in folder.iterdir() if not part.name.startswith("pip") for file in [part, *part.rglob("*")]]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def cold_start(way: Way, photo: Path) -> float:
    """Seconds from the start of the process to the faces of the first photo."""
    start = time.perf_counter()
    with Worker(way) as worker:
        worker(photo)
        return time.perf_counter() - start
