"""How `facial-keypoints-bulk` scales with workers and pictures, and what 100 million pictures would cost.

    python -m benchmarks.bulk        writes results/bulk.csv and bulk_forecast.csv; ten minutes on two idle cores

The photos are IMM's (640 x 480, one face each), repeated under other names; the network is `fast`. Every run is a
process of its own that starts Ray. The model is T = start + (pictures * each + chunks * overhead) / (workers *
efficiency); its four parameters come from the runs marked as fitted, the others check it. Two processes without Ray
show how much of the loss is due to the machine.
"""

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import pandas as pd
import psutil
from tqdm import tqdm

from benchmarks.tables import RESULTS
from data_sets.find import find_folder

RUN = """
import json, sys
from dataclasses import asdict
from facial_keypoints.bulk import extract
source, output, workers, chunk = sys.argv[1:]
print(json.dumps(asdict(extract(source, output, "fast", workers=int(workers), chunk=int(chunk)))))
"""
BARE = """
import sys, time, cv2
from facial_keypoints import FacePipeline
cv2.setNumThreads(1)
pipeline = FacePipeline("fast", threads=1)
pipeline(sys.argv[1])
input()  # all begin together
start = time.perf_counter()
for path in sys.argv[1:]:
    pipeline(path)
print(len(sys.argv[1:]) / (time.perf_counter() - start))
"""
# Workers, pictures, pictures per chunk, and the parameter of the model that is fitted to the run.
RUNS = [
    (1, 10, 100, "start of one"),
    (2, 10, 100, "start"),
    (1, 1000, 100, "each picture"),
    (2, 1000, 100, "efficiency"),
    (2, 1000, 10, "overhead"),
    (2, 100, 100, ""),
    (2, 10000, 100, ""),
]
MANY, CHUNK = 100_000_000, 1000
MACHINES = [(1, 16), (10, 16), (100, 16), (100, 64)]  # their number, and the cores of each


def peak_memory(process: subprocess.Popen) -> dict[str, float]:
    """Wait until the process ends; returns its peak resident memory and that of its largest worker, in MB."""
    peak = {"driver, MB": 0.0, "worker, MB": 0.0}

    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(process.pid)
            workers = [child for child in parent.children(recursive=True) if "MapWorker" in child.name()]
            for name, some in (("driver, MB", [parent]), ("worker, MB", workers)):
                peak[name] = max([peak[name], *(one.memory_info().rss / 1e6 for one in some)])
        time.sleep(0.5)
    return peak


def measure(workers: int, pictures: int, chunk: int, photos: list[Path]) -> dict:
    """The row of one run; raises CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "list.txt"), Path(folder, "out")
        links = Path(folder, "photos")
        links.mkdir()
        for number, photo in enumerate(islice(cycle(photos), pictures)):
            os.symlink(photo, links / f"{number:06}.jpg")
        source.write_text("\n".join(map(str, sorted(links.iterdir()))))
        command = [sys.executable, "-c", RUN, str(source), str(output), str(workers), str(chunk)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        memory = peak_memory(process)
        said, _ = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        report = json.loads(said.splitlines()[-1])
        written = sum(part.stat().st_size for part in output.glob("part-*"))
        read = sum(photo.stat().st_size for photo in islice(cycle(photos), pictures))
    return {
        "workers": workers,
        "pictures": pictures,
        "chunk": chunk,
        "seconds": report["seconds"],
        "pictures a second": pictures / report["seconds"],
        "pictures a core-second": pictures / report["core_seconds"],
        "faces": report["faces"],
        **memory,
        "bytes in, a picture": read / pictures,
        "bytes out, a picture": written / pictures,
    }


def bare_speed(processes: int, photos: list[Path]) -> float:
    """The mean pictures a second of one process when several run at once without Ray."""
    command = [sys.executable, "-c", BARE, *map(str, photos)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, **pipes) for _ in range(processes)]
    time.sleep(5)  # they load the network
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in running) / processes


@dataclass(frozen=True)
class Model:
    """Four parameters: seconds to start, per picture and per chunk with one worker, and the efficiency of several."""

    start: float
    each: float
    overhead: float
    efficiency: float

    @classmethod
    def of(cls, rows: dict[str, dict]) -> "Model":
        """Fit one parameter at a time, until they converge; rows: the runs by the parameter that each determines."""
        names = ("start of one", "start", "each picture", "efficiency", "overhead")
        few_of_one, few, one, two, small = (rows[name]["seconds"] for name in names)
        few_pictures, pictures = rows["start"]["pictures"], rows["each picture"]["pictures"]
        chunks, more = (pictures // rows[name]["chunk"] for name in ("efficiency", "overhead"))
        each = overhead = 0.0
        for _ in range(20):
            start_of_one, start = (seconds - few_pictures * each - overhead for seconds in (few_of_one, few))
            speedup = (one - start_of_one) / (two - start)
            overhead = max(0.0, (small - two) * speedup / (more - chunks))
            each = (one - start_of_one - chunks * overhead) / pictures
        return cls(start, each, overhead, speedup / 2)

    def seconds(self, pictures: int, workers: int, chunk: int) -> float:
        """The wall-clock time; one worker has efficiency 1, and no more workers are busy than there are chunks."""
        chunks = math.ceil(pictures / chunk)
        busy = min(workers, chunks)
        work = pictures * self.each + chunks * self.overhead
        return self.start + work / busy / (self.efficiency if busy > 1 else 1.0)


def forecast(model: Model, row: dict) -> pd.DataFrame:
    """What MANY pictures take on clusters of machines like this one."""
    rows = []
    for machines, cores in MACHINES:
        seconds = model.seconds(MANY, machines * cores, CHUNK)
        rows.append(
            {
                "pictures": MANY,
                "machines": machines,
                "cores each": cores,
                "hours": round(seconds / 3600, 1),
                "pictures a second": round(MANY / seconds),
                "reads, MB a second": round(MANY / seconds * row["bytes in, a picture"] / 1e6),
                "writes, GB in all": round(MANY * row["bytes out, a picture"] / 1e9),
                "chunks a second": round(MANY / CHUNK / seconds, 1),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Measure, fit, write both tables."""
    photos = sorted(find_folder("imm_face_db").glob("*.jpg"))
    rows = [measure(*run, photos) | {"fitted": what} for *run, what in tqdm(RUNS)]
    model = Model.of({row["fitted"]: row for row in rows})
    for row in rows:
        row["model, seconds"] = model.seconds(row["pictures"], row["workers"], row["chunk"])
    table = pd.DataFrame(rows).round(2)
    for name in ("driver, MB", "worker, MB", "bytes in, a picture", "bytes out, a picture"):
        table[name] = table[name].round().astype(int)
    numbers = (
        f"start {model.start:.1f} s, {1000 * model.each:.1f} ms a picture, {1000 * model.overhead:.0f} ms a chunk"
    )
    bare = bare_speed(2, photos) / bare_speed(1, photos)
    table["model"] = f"{numbers}, efficiency of two {model.efficiency:.2f} (of two processes without Ray {bare:.2f})"
    table["measured on"] = f"{os.cpu_count()} cores of {platform.machine()}"
    table.to_csv(RESULTS / "bulk.csv", index=False)
    forecast(model, rows[-1]).to_csv(RESULTS / "bulk_forecast.csv", index=False)
    print(table.to_string(), forecast(model, rows[-1]).to_string(), sep="\n")


if __name__ == "__main__":
    main()
