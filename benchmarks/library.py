"""The cost of the library: wheel size, installation time, import time, and time per photo.

    python -m benchmarks.library        writes results/library.csv; a minute or two, needs a package index

The wheel is built and installed into a fresh environment without torch, and used from another folder. YuNet's file
must be in the cache or named by KEYPOINTS_YUNET.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numpy as np
import pandas as pd
import skimage.data
from PIL import Image

from benchmarks.tables import RESULTS
from data_sets.find import ROOT
from facial_keypoints.pipeline import NETWORKS

REPEATS = 7

USE = """
import sys, time
start = time.perf_counter()
import facial_keypoints
imported = time.perf_counter() - start
pipeline = facial_keypoints.FacePipeline(sys.argv[1])
assert len(pipeline(sys.argv[2])) == 1 and "YuNet" in type(pipeline.detector).__name__
first, photo = time.time(), facial_keypoints.read_image(sys.argv[2])
boxes, _ = pipeline.detector(photo)
times = {"photo": [], "face": []}
for _ in range(20):
    start = time.perf_counter()
    pipeline(photo)
    times["photo"].append(time.perf_counter() - start)
    start = time.perf_counter()
    pipeline.keypoints(photo, boxes)
    times["face"].append(time.perf_counter() - start)
print(imported, first, *(1000 * sorted(times[name])[len(times[name]) // 2] for name in ("photo", "face")))
"""


def use(python: Path, network: str, photo: Path) -> np.ndarray:
    """Seconds to import; seconds from process start to the first photo's faces; ms per photo and per face.

    Each is the median over REPEATS fresh processes.
    """
    rows = []
    for _ in range(REPEATS):
        start = time.time()
        done = subprocess.run(
            [python, "-c", USE, network, photo], cwd=photo.parent, check=True, capture_output=True, text=True
        )
        imported, first, *milliseconds = map(float, done.stdout.split())
        rows.append([imported, first - start, *milliseconds])
    return np.median(rows, axis=0)


def measure(folder: Path) -> list[dict]:
    """A row for each shipped network."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    photo, python = folder / "photo.png", folder / "venv" / "bin" / "python"
    Image.fromarray(skimage.data.astronaut()).save(photo)
    venv.create(folder / "venv", with_pip=True)
    start = time.perf_counter()
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", wheel], check=True)
    installing = time.perf_counter() - start
    listed = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True)
    rows = []
    for network in NETWORKS:
        imported, first, photo_ms, face_ms = use(python, network, photo)
        rows.append(
            {
                "network": network,
                "wheel, MB": wheel.stat().st_size / 1e6,
                "packages": len(listed.stdout.splitlines()),
                "installation, s": installing,
                "import, s": imported,
                "first photo, s": first,
                "each photo, ms": photo_ms,
                "each photo, its box given, ms": face_ms,
            }
        )
    return rows


def main() -> None:
    """Measure and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        table = pd.DataFrame(measure(Path(folder))).round(2)
    table["measured on"] = f"{os.cpu_count()} cores of {platform.machine()}, Python {platform.python_version()}"
    table.to_csv(RESULTS / "library.csv", index=False)
    print(table.T.to_string(header=False))


if __name__ == "__main__":
    main()
