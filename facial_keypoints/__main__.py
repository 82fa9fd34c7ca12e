"""Find the faces and keypoints in photos, folders and lists of photos, videos, or the picture of a camera.

facial-keypoints PHOTO | VIDEO | FOLDER | LIST ...        the same as python -m facial_keypoints ...
facial-keypoints --webcam

Folders are searched recursively; a list is a .txt file with one path per line, relative to the current folder.
Everything is written into the folder --output. Pictures and videos with results there are skipped: after Ctrl-C the
same command resumes.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from facial_keypoints.align import CROPS
from facial_keypoints.batch import Batch, Summary
from facial_keypoints.camera import watch
from facial_keypoints.filters import WEARABLES
from facial_keypoints.images import DataError
from facial_keypoints.pipeline import DETECTORS, FacePipeline
from facial_keypoints.results import CSV, JSON, Crops, Drawing, Journal, write_csv
from facial_keypoints.schemes import IBUG_68
from facial_keypoints.video import is_done, results_of, track_video

EXIT_CODES = """exit codes: 0 all files were read, with faces or without; 1 some could not be read or drawn;
2 cannot run: a wrong option, nothing to read, no weights file, a full disk; 130 Ctrl-C, finished results are kept"""


def names(text: str) -> tuple[str, ...]:
    """For argparse: names of filters, separated by commas."""
    if unknown := [name for name in text.split(",") if name not in WEARABLES]:
        raise argparse.ArgumentTypeError(
            f"no filter {', '.join(map(repr, unknown))}; there are {', '.join(WEARABLES)}"
        )
    return tuple(text.split(","))


def jobs(text: str) -> int:
    """For argparse: a whole number from 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, not {text!r}")
    return int(text)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(
        "facial-keypoints",
        description=__doc__,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", type=Path, nargs="*", metavar="PHOTO | VIDEO | FOLDER | LIST")
    parser.add_argument("--webcam", action="store_true", help="faces in front of the camera, in a window; Q ends it")
    parser.add_argument("--output", type=Path, default="keypoints", metavar="FOLDER", help="default: keypoints")
    results = parser.add_argument_group("results, by default --draw")
    results.add_argument("--json", action="store_true", help=f"{JSON}, one line per picture; always written")
    results.add_argument("--csv", action="store_true", help=f"{CSV}, one row per face")
    results.add_argument("--draw", action="store_true", help="pictures with boxes and keypoints")
    results.add_argument("--filter", type=names, metavar="NAMES", help=f"pictures with {','.join(WEARABLES)} on")
    results.add_argument("--crops", type=int, choices=CROPS, help="an aligned crop of every face, size in pixels")
    parser.add_argument("--network", default="accurate", help="accurate (default), fast, or the path of an .onnx file")
    parser.add_argument("--detector", default="yunet", choices=DETECTORS)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--jobs", type=jobs, default=os.cpu_count(), help="pictures at a time; default: one per core")
    args = parser.parse_args(arguments)
    if bool(args.sources) == args.webcam:
        parser.error("expected pictures or videos, or --webcam")
    return args


def drawing(args: argparse.Namespace) -> Drawing | None:
    """What to draw into pictures."""
    draw = args.draw or not (args.json or args.csv or args.filter or args.crops)
    return Drawing(args.filter or (), draw) if draw or args.filter else None


def load(args: argparse.Namespace, threads: int | None) -> FacePipeline:
    """The pipeline; raises DataError for filters and crops that its network has no points for."""
    pipeline = FacePipeline(args.network, args.detector, args.device, threads=threads)
    if (args.filter or args.crops) and pipeline.scheme.name != IBUG_68.name:
        raise DataError(f"--filter and --crops need a network of {IBUG_68.name}, this one has {pipeline.scheme.name}")
    return pipeline


def run(args: argparse.Namespace) -> int:
    """Read pictures, then videos; returns the exit code. Raises DataError or RuntimeError if nothing can be done."""
    drawings = [drawing(args), Crops(args.crops) if args.crops else None]
    batch = Batch(args.sources, args.output, [drawing for drawing in drawings if drawing])
    if not batch.total and not batch.videos:
        raise DataError(f"no pictures or videos in {', '.join(map(str, args.sources))}")
    if not batch.total and (args.csv or args.crops):
        raise DataError("--csv and --crops are for pictures; for videos, --json lists the faces of every frame")
    skipped = 0
    if batch.total:
        summary = read_pictures(batch, args)
        print(f"{summary}; results in {args.output}")
        if summary.stopped:
            return 130
        skipped = summary.skipped
    if batch.videos:
        skipped += follow_videos(batch, args)
    return int(skipped > 0)


def read_pictures(batch: Batch, args: argparse.Namespace) -> Summary:
    """Read the pictures of a batch."""
    threads = min(args.jobs, batch.total)
    if threads > 1:  # each thread works on a picture of its own
        cv2.setNumThreads(1)
    pipeline = load(args, 1 if threads > 1 else None)
    with Journal(args.output, settings(args, pipeline)) as journal, progress_bar(batch.total) as report:
        summary = batch.run(pipeline, journal, threads, report)
    if args.csv:
        write_csv(args.output, pipeline.scheme.num_points)
    return summary


def follow_videos(batch: Batch, args: argparse.Namespace) -> int:
    """Follow the faces of the videos of a batch, one after another; returns how many could not be read.

    The network runs in one thread: the decoder and the encoder use the other cores.
    """
    pipeline, made, failed = load(args, 1), {}, 0
    for source in batch.videos:
        try:
            folder = batch.name(source).parent
            first = made.setdefault(results_of(source, folder)[0], source)
            if first is not source:
                raise DataError(f"{source}: its results have the names of {first}'s; give it an --output of its own")
            print(f"{source}: {follow(source, folder, pipeline, args)}; results in {folder}")
        except DataError as error:
            print(error, file=sys.stderr)
            failed += 1
    return failed


def follow(source: Path, folder: Path, pipeline: FacePipeline, args: argparse.Namespace) -> str:
    """Follow the faces of a video unless it already has results; returns what was found, in words."""
    made_with = settings(args, pipeline)
    if is_done(source, folder, drawing(args), made_with):
        return "read before"
    with progress_bar(None, " frames") as report:
        return str(track_video(source, folder, pipeline, drawing(args), report, made_with))


def settings(args: argparse.Namespace, pipeline: FacePipeline) -> dict:
    """The network and the detector in use (Haar's where YuNet's file is missing), stored with every result."""
    detector = type(pipeline.detector).__name__.removesuffix("Detector").lower()
    return {"network": args.network, "detector": detector}


def show_camera(args: argparse.Namespace) -> int:
    """Follow the faces in front of the camera; returns the exit code."""
    print(watch(0, load(args, 1), Drawing(args.filter or (), args.draw or not args.filter)))
    return 0


@contextmanager
def progress_bar(total: int | None, unit: str = " pictures") -> Iterator[Callable]:
    """A progress bar, on a terminal only; yields the function to call after each picture, with its error or None."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, disable=True if total == 1 else None) as bar:

        def report(error=None):
            if error:
                tqdm.write(error, file=sys.stderr)
            bar.update()

        yield report


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code, see EXIT_CODES."""
    warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)  # one line, no code
    warnings.filterwarnings("ignore", module="PIL")
    args = parse(arguments)
    try:
        return show_camera(args) if args.webcam else run(args)
    except (DataError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
