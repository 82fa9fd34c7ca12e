"""Find the faces in large collections of pictures with many workers, on one machine or on a Ray cluster.

facial-keypoints-bulk INPUT OUTPUT        the same as python -m facial_keypoints.bulk ...

INPUT is a folder of pictures, a list (.txt, one path per line), or Parquet (a file or a folder of them) with a column
of paths or of encoded pictures; OUTPUT is a folder of Parquet parts. Both may be URIs (s3://, gs://, hdfs://, ...).
After Ctrl-C or a crash the same command resumes.
"""

import argparse
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import cv2
from tqdm import tqdm

from facial_keypoints.__main__ import jobs
from facial_keypoints.images import DataError, decode_image
from facial_keypoints.pipeline import DETECTORS, FacePipeline

MEGABYTES_WAITING = 100  # per worker, of chunks that are read ahead
MISSING = 'bulk extraction needs Ray and pyarrow: pip install "facial-keypoints[bulk]"'
EXIT_CODES = """exit codes: 0 all pictures were read, with faces or without; 1 some could not be read;
2 cannot run: a wrong option, no pictures, no weights file, a full disk; 130 Ctrl-C, finished parts are kept"""


@dataclass
class Report:
    """What a run did.

    before: pictures that an earlier run had read; left: pictures not read yet, in the end those of failed chunks;
    core_seconds: CPU time of the workers, without start-up; seconds: wall-clock time to the last chunk, with start-up.
    """

    pictures: int = 0
    faces: int = 0
    unreadable: int = 0
    before: int = 0
    left: int = 0
    core_seconds: float = 0.0
    seconds: float = 0.0

    def add(self, numbers: dict, seconds: float) -> None:
        """Count one more chunk: the numbers that a Worker returns, and the seconds since the start."""
        self.pictures += numbers["pictures"]
        self.left -= numbers["pictures"]
        self.faces += numbers["faces"]
        self.unreadable += numbers["unreadable"]
        self.core_seconds += numbers["core_seconds"]
        self.seconds = seconds

    def __str__(self):
        parts = [
            f"{self.pictures:,} pictures read" + (f" and {self.before:,} before" if self.before else ""),
            f"{self.faces:,} faces",
            f"{self.unreadable:,} unreadable",
        ]
        if self.left:
            parts.append(f"{self.left:,} left, which the same command tries again")
        if self.pictures:
            rates = self.pictures / self.seconds, self.pictures / max(self.core_seconds, 1e-9)
            parts.append("{:.1f} pictures a second, {:.1f} a core-second".format(*rates))
        return "; ".join(parts)


class Worker:
    """Finds the faces in chunks and writes their parts; a Ray actor with its own network, on one thread."""

    def __init__(self, output: str, network: str, detector: str, base: str):
        from facial_keypoints.parts import Folder

        cv2.setNumThreads(1)
        self.output, self.base = Folder(output), base
        self.pipeline = FacePipeline(network, detector, threads=1)

    def __call__(self, chunk) -> dict:
        """chunk: a table of one row from shards.Shard.read; returns a row of numbers for the report.

        If a worker has died on this chunk, every picture is marked while it is read. If the second worker dies too, a
        third one finds the mark and leaves that picture out.
        """
        from facial_keypoints.parts import encoded

        start, part, rows = time.process_time(), chunk["part"][0].as_py(), []
        sources, contents = chunk["sources"][0].as_py(), chunk["contents"][0].values
        tried = f"_{part}.tried"
        try:
            again = self.output.has(tried)  # a worker died on it
            self.output.write(tried, b"")
            for number, picture in enumerate(zip(sources, contents, strict=True)):
                rows += self._marked(f"_{part}.{number}", *picture) if again else self._rows(*picture)
            self.output.write(part, encoded(rows))
            self.output.delete(tried)
        except DataError as error:
            return {"failed": [str(error)]}
        return {
            "pictures": [len(sources)],
            "faces": [sum("face" in row for row in rows)],
            "unreadable": [sum("error" in row for row in rows)],
            "core_seconds": [time.process_time() - start],
        }

    def _marked(self, mark, source, content):
        """The rows of a picture, marked in the output while it is read; a picture already marked is left out."""
        if self.output.has(mark):
            return [{"source": source, "error": f"{source}: the worker that read it died"}]
        self.output.write(mark, b"")
        rows = self._rows(source, content)
        self.output.delete(mark)
        return rows

    def _rows(self, source, content):
        from facial_keypoints.parts import face_rows, read_file

        try:
            place = source if "://" in source else os.path.join(self.base, source)
            image = decode_image(content.as_py() if content.is_valid else read_file(place), source)
            return face_rows(source, image.shape[:2], self.pipeline(image))
        except DataError as error:
            return [{"source": source, "error": str(error)}]
        except Exception as error:  # one picture never stops the others
            return [{"source": source, "error": f"{source}: unexpected {type(error).__name__} ({error})"}]


def import_ray():
    """The module ray; raises DataError if it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import pyarrow  # noqa: F401
        import ray
        import ray.data
    except ImportError:
        raise DataError(MISSING) from None
    return ray


def connect(ray, address: str | None, workers: int | None) -> int:
    """Join the cluster at an address, else start Ray on this machine; returns the number of workers.

    One more of Ray's CPU slots is left for reading chunks.
    """
    quiet = {"log_to_driver": False, "logging_level": "CRITICAL"}
    if address:
        try:
            ray.init(address, **quiet)
        except (ConnectionError, ValueError) as error:
            raise DataError(f"--address {address}: no Ray cluster there ({error})") from None
        return workers or max(1, int(ray.cluster_resources()["CPU"]) - 1)
    workers = workers or os.cpu_count()
    store = max(500, 2 * MEGABYTES_WAITING * workers) * 1_000_000
    try:
        ray.init("local", num_cpus=workers + 1, object_store_memory=store, include_dashboard=False, **quiet)
    except Exception as error:  # of many types, for instance if the machine is too busy
        raise DataError(f"Ray did not start on this machine ({error})") from None
    return workers


def chunk_reader(ray, shards: list, done: set[str]):
    """A Ray datasource of the chunks whose parts are not written yet: a read task for each shard."""

    class Chunks(ray.data.Datasource):
        def estimate_inmemory_data_size(self):
            return None

        def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
            known = ray.data.block.BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
            names = [(shard, shard.parts().keys()) for shard in shards]
            return [ray.data.ReadTask(partial(shard.read, own & done), known) for shard, own in names if own - done]

    return Chunks()


def run_workers(ray, chunks, workers: int, *settings) -> Iterator[dict]:
    """What Worker(*settings) returns for each chunk, in order of completion.

    A worker that dies is replaced, and another one reads its chunk. Raises DataError if a part cannot be written.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.print_on_execution_start = False, False
    context.target_max_block_size = 1  # every chunk, one row, is a block of its own
    context.max_errored_blocks = -1
    context.execution_options.resource_limits = ray.data.ExecutionResources(
        object_store_memory=MEGABYTES_WAITING * workers * 1_000_000
    )
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    counted = ray.data.read_datasource(chunks, num_cpus=0.1).map_batches(
        Worker,
        fn_constructor_args=settings,
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    try:
        for batch in counted.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in batch.to_pylist():
                if "failed" in row:
                    raise DataError(row["failed"])
                yield row
    except ray.exceptions.RayError as error:
        raise DataError(f"Ray gave up: {str(error).strip().splitlines()[-1]}") from None


def extract(
    source: str,
    output: str,
    network: str = "accurate",
    detector: str = "yunet",
    workers: int | None = None,
    chunk: int = 100,
    column: str | None = None,
    address: str | None = None,
    progress: Callable = lambda total, report: None,
) -> Report:
    """Find the faces in all pictures of `source` and write them to Parquet parts in the folder `output`.

    workers: by default one per core of this machine, or all but one of a cluster's cores; chunk: pictures per part;
    column: see shards.find_shards; address: of a Ray cluster; progress: called after each chunk, with the number of
    all pictures and the Report so far. Raises DataError if nothing can be done.
    """
    start, ray = time.perf_counter(), import_ray()
    from facial_keypoints.parts import Folder
    from facial_keypoints.shards import find_shards

    detector = type(FacePipeline(network, detector, threads=1).detector).__name__.removesuffix("Detector").lower()
    folder = Folder(output)
    folder.create()
    shards = find_shards(source, folder, chunk, column)
    total = sum(sum(shard.groups) for shard in shards)
    settings = {"input": source, "network": network, "detector": detector, "chunk": chunk, "pictures": total}
    folder.settle(settings)
    folder.tidy()
    done = folder.names()
    before = sum(size for shard in shards for name, size in shard.parts().items() if name in done)
    report = Report(before=before, left=total - before)
    try:
        if report.left:
            workers = connect(ray, address, workers)
            chunks = chunk_reader(ray, shards, done)
            for numbers in run_workers(ray, chunks, workers, output, network, detector, os.getcwd()):
                report.add(numbers, time.perf_counter() - start)
                progress(total, report)
    finally:
        ray.shutdown()
    folder.tidy()
    return report


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(
        "facial-keypoints-bulk",
        description=__doc__,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="INPUT", help="a folder, a list (.txt), or Parquet")
    parser.add_argument("output", metavar="OUTPUT", help="the folder for the parts")
    parser.add_argument("--network", default="accurate", help="accurate (default), fast, or the path of an .onnx file")
    parser.add_argument("--detector", default="yunet", choices=DETECTORS)
    parser.add_argument("--workers", type=jobs, help="default: one for each core")
    parser.add_argument("--chunk", type=jobs, default=100, help="pictures per part (default: 100)")
    parser.add_argument("--column", help="the column of paths or encoded pictures, if Parquet has several")
    parser.add_argument("--address", help="a Ray cluster, as ray.init takes it: auto, ray://HOST:10001, HOST:6379")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code, see EXIT_CODES."""
    warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)  # one line, no code
    args = vars(parse(arguments))
    args["source"] = args.pop("input")
    try:
        with tqdm(unit=" pictures", disable=None) as bar:

            def progress(total, report):
                bar.total = total
                bar.set_postfix(faces=report.faces, unreadable=report.unreadable, refresh=False)
                bar.update(report.before + report.pictures - bar.n)

            report = extract(**args, progress=progress)
    except (DataError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        return 130
    print(f"{report}; results in {args['output']}")
    return int(report.unreadable + report.left > 0)


if __name__ == "__main__":
    sys.exit(main())
