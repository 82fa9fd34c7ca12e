"""Many pictures: found in folders and lists, processed by several threads, only a few in memory at a time."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from facial_keypoints.images import DataError, read_image
from facial_keypoints.pipeline import FacePipeline
from facial_keypoints.results import Crops, Drawing, Journal, face_record, save_picture
from facial_keypoints.threads import in_order
from facial_keypoints.video import VIDEOS

# The endings of pictures in folders; a file that is named directly is a picture unless it has a video's ending.
PICTURES = set(
    ".jpg .jpeg .jpe .jfif .mpo .png .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .pnm .jp2 .avif .heic .heif".split()
)


@dataclass
class Summary:
    """The outcome of a batch, in numbers of pictures.

    before: read by an earlier run; left: not yet read; others: files of other kinds in the folders.
    """

    read: int = 0
    before: int = 0
    faces: int = 0
    with_faces: int = 0
    skipped: int = 0
    left: int = 0
    others: int = 0
    stopped: bool = False

    def add(self, faces: int, before: bool = False) -> None:
        """Count one more picture, with this many faces."""
        self.read += not before
        self.before += before
        self.faces += faces
        self.with_faces += faces > 0

    def __str__(self):
        parts = [
            f"{_some(self.read, 'picture')} read" + (f" and {self.before} before" if self.before else ""),
            f"{_some(self.faces, 'face')} in {self.with_faces} of them",
            f"{self.skipped} skipped" if self.skipped else "",
            f"{self.left} left, which the same command will read" if self.stopped else "",
            f"{_some(self.others, 'file')} of other kinds left alone" if self.others else "",
        ]
        return "; ".join(part for part in parts if part)


def _some(number, what):
    return f"{number} {what}{'' if number == 1 else 's'}"


def find_files(sources: Iterable[Path], leave_out: Path) -> Iterator[tuple[Path, str]]:
    """Every file and its kind: "picture", "video" or "other".

    sources: files, folders (recursively, sorted) and lists (.txt, one path per line);
    leave_out: a folder that is not entered. Raises DataError for a list that cannot be read.
    """
    for source in sources:
        if source.is_dir():
            yield from _walk(source, leave_out)
        elif source.suffix == ".txt":
            yield from ((path, _kind(path, "picture")) for path in _read_list(source))
        else:
            yield source, _kind(source, "picture")


def _kind(path, otherwise="other"):
    ending = path.suffix.lower()
    return "video" if ending in VIDEOS else "picture" if ending in PICTURES else otherwise


def _walk(folder, leave_out):
    unreadable = []
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if os.path.abspath(os.path.join(parent, name)) != str(leave_out))
        for path in (Path(parent, name) for name in sorted(names)):
            yield path, _kind(path)
    yield from ((Path(error.filename), "picture") for error in unreadable)


def _read_list(path):
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as lines:
            yield from (Path(line.strip()) for line in lines if line.strip())
    except OSError as error:
        raise DataError(f"{path}: the list cannot be read ({error.strerror})") from None


def common_folder(sources: Iterable[Path]) -> str:
    """The innermost folder that all sources lie in; drawn pictures keep their paths relative to it."""
    common = None
    for source in sources:
        lies_in = [os.path.abspath(source if source.is_dir() else source.parent)]
        if source.suffix == ".txt" and source.is_file():
            lies_in = [os.path.abspath(path.parent) for path in _read_list(source)]
        try:
            common = os.path.commonpath([*lies_in, *([common] if common else [])]) if lies_in else common
        except ValueError:
            raise DataError(f"{source}: on a different drive than the others, run it separately") from None
    return common or os.getcwd()


def read_picture(path: Path, name: Path, pipeline: FacePipeline, drawings: Sequence[Drawing | Crops]) -> dict:
    """The record of a picture, with "error" where it cannot be read or drawn; drawings are named after `name`."""
    try:
        image = read_image(path)
        faces = pipeline(image)
        for drawing in drawings:
            pictures, paths = drawing.pictures(image, faces), drawing.paths(name, len(faces))
            for picture, drawn in zip(pictures, paths, strict=True):
                save_picture(picture, drawn)
    except DataError as error:
        return {"file": str(path), "error": str(error)}
    except Exception as error:  # one picture never stops the others
        return {"file": str(path), "error": f"{path}: unexpected {type(error).__name__} ({error})"}
    height, width = image.shape[:2]
    return {"file": str(path), "width": width, "height": height, "faces": [face_record(face) for face in faces]}


@contextmanager
def stopped_by_ctrl_c() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets instead of raising KeyboardInterrupt; the second raises it as usual."""
    stopped = threading.Event()

    def stop(*_):
        signal.signal(signal.SIGINT, before)
        stopped.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


class Batch:
    """The pictures of some sources, whose results go into a folder; the videos among them are in `videos`.

    drawings: what is drawn. Raises DataError for a list that cannot be read.
    """

    def __init__(self, sources: list[Path], output: Path, drawings: Sequence[Drawing | Crops] = ()):
        self.sources, self.output, self.drawings = sources, output, drawings
        self.root = common_folder(sources)
        kinds, videos = Counter(), {}  # without duplicates
        for path, kind in self._files():
            kinds[kind] += 1
            if kind == "video":
                videos[path] = kind
        self.total, self.others, self.videos = kinds["picture"], kinds["other"], list(videos)

    def run(self, pipeline: FacePipeline, journal: Journal, threads: int, report: Callable) -> Summary:
        """Read the pictures that the journal lacks; calls report(error) after each, with a sentence or None."""
        summary = Summary(others=self.others)

        def read(job):
            return read_picture(*job, pipeline, self.drawings)

        with stopped_by_ctrl_c() as stopped:
            for record in in_order(read, self._todo(journal, summary, stopped, report), threads):
                self._take(record, journal, summary)
                report(record.get("error"))
            summary.stopped = stopped.is_set()
        summary.left = self.total - summary.read - summary.before - summary.skipped
        return summary

    def _files(self):
        return find_files(self.sources, Path(os.path.abspath(self.output)))

    def _todo(self, journal, summary, stopped, report):
        """Each picture that still has to be processed, once, and the path that its drawing is named after."""
        seen = set()
        for path, kind in self._files():
            if stopped.is_set():
                return
            if kind != "picture":
                continue
            faces, name = journal.done.get(str(path)), self.name(path)
            if str(path) in seen:
                report(None)
            elif faces is not None and self._is_drawn(name, faces):
                summary.add(faces, before=True)
                report(None)
            else:
                yield path, name
            seen.add(str(path))

    def name(self, path: Path) -> Path:
        """The path that a file's results are named after, below the output folder."""
        return self.output / os.path.relpath(path, self.root)

    def _is_drawn(self, name, faces):
        return all(path.exists() for drawing in self.drawings for path in drawing.paths(name, faces))

    def _take(self, record, journal, summary):
        if "error" in record:
            summary.skipped += 1
        else:
            summary.add(len(record["faces"]))
        if record["file"] not in journal.done:  # otherwise it was only drawn again
            journal.add(record)
