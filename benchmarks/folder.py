"""How fast the command reads a folder of 640 x 480 photos, and whether memory grows with their number.

    python -m benchmarks.folder        writes results/folder.csv

The photos are IMM's, repeated under other names. The command is a process of its own; the time includes its start.
On a busy machine the CPU time of all its threads says more than the wall-clock time.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks.tables import RESULTS
from data_sets.find import find_folder

FILES = (100, 400)
COMMAND = [sys.executable, "-m", "facial_keypoints", "--json", "--network", "fast"]


def measure(jobs: int, files: int, photos: list[Path]) -> dict:
    """The row of one run; raises CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(files):  # each a file of its own: one path is read once
            os.symlink(photos[number % len(photos)], Path(folder, f"{number:05}.jpg"))
        command = [*COMMAND, "--jobs", str(jobs), "--output", f"{folder}/out", folder]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, code, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    if code:
        raise subprocess.CalledProcessError(code, command)
    return {
        "network": "fast",
        "jobs": jobs,
        "photos": files,
        "photos a second": round(files / seconds, 1),
        "CPU ms a photo": round(1000 * (used.ru_utime + used.ru_stime) / files, 1),
        "peak memory, MB": round(used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)),
    }


def main() -> None:
    """Measure and write the table."""
    photos = sorted(find_folder("imm_face_db").glob("*.jpg"))
    load = os.getloadavg()[0]
    rows = [measure(jobs, files, photos) for jobs in (1, 2) for files in FILES]
    table = pd.DataFrame(rows)
    table["other load"] = round(load, 1)  # processes that wanted a core when the runs began
    table["measured on"] = f"{os.cpu_count()} cores of {platform.machine()}"
    table.to_csv(RESULTS / "folder.csv", index=False)
    print(table.to_string())


if __name__ == "__main__":
    main()
