"""Results on disk: JSON Lines, CSV and drawn pictures, each written whole or not at all (README.md of this folder)."""

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from facial_keypoints.align import aligned_face
from facial_keypoints.drawing import draw_faces
from facial_keypoints.filters import wear
from facial_keypoints.images import DataError
from facial_keypoints.pipeline import Face

JSON, CSV = "keypoints.jsonl", "keypoints.csv"
ENDINGS_KEPT = (".jpg", ".jpeg", ".png", ".webp")  # others are drawn as .jpg


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file to write: it replaces `path` if the block succeeds, otherwise it is deleted.

    Raises DataError if nothing can be written.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path}: could not be written ({error.strerror or error})") from None
    finally:
        with suppress(OSError):
            part.unlink()


def save_picture(image: np.ndarray, path: Path) -> None:
    """Write RGB uint8 in the format of the path's ending; raises DataError if it cannot be written."""
    try:
        with whole(path) as part:
            Image.fromarray(image).save(part, quality=95)
    except ValueError as error:
        raise error if isinstance(error, DataError) else DataError(f"{path}: could not be written ({error})") from None


def face_record(face: Face) -> dict:
    """A face as stored in JSON: pixels to 2 decimals, degrees to 1, confidence to 3."""
    confidence, pose = face.confidence, face.pose
    return {
        "box": _rounded(face.box, 2),
        "score": _rounded(face.score, 3),
        "pose": pose and {angle: _rounded(getattr(pose, angle), 1) for angle in ("yaw", "pitch", "roll")},
        "keypoints": _rounded(face.keypoints, 2),
        "confidence": None if confidence is None else _rounded(confidence, 3),
        "jaw_3d": None if face.jaw_3d is None else _rounded(face.jaw_3d, 2),
    }


def _rounded(numbers, decimals: int):
    return np.round(np.asarray(numbers, float), decimals).tolist()


class Journal:
    """The lines of keypoints.jsonl in a folder, one per picture; those of an earlier run are kept, see `done`.

    A context: inside it, the lines are in keypoints.jsonl.part; a run that fails or is killed leaves that file behind,
    and the next run continues it.
    settings: written to every line; raises DataError if existing lines have other settings.
    done: the number of faces of every picture that has been read. Lines of unreadable pictures are dropped, so that
    these are tried again.
    """

    def __init__(self, folder: Path, settings: dict):
        self.path, self.settings, self.done = folder / JSON, settings, {}
        self.part = self.path.with_name(f"{JSON}.part")
        with whole(self.part) as new, new.open("w", encoding="utf-8") as lines:
            for record in read_lines(self.part if self.part.is_file() else self.path):
                self._keep(record, lines)
        self.lines = self.part.open("a", encoding="utf-8")

    def _keep(self, record, lines):
        if "error" in record:
            return
        check_settings(self.path, record, self.settings)
        self.done[record["file"]] = len(record["faces"])
        lines.write(json.dumps(record) + "\n")

    def add(self, record: dict) -> None:
        """Append a line; raises DataError if it cannot be written."""
        try:
            self.lines.write(json.dumps({"file": record["file"], **self.settings, **record}) + "\n")
            self.lines.flush()
        except OSError as error:
            raise DataError(f"{self.part}: could not be written ({error.strerror})") from None
        if "faces" in record:
            self.done[record["file"]] = len(record["faces"])

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        with suppress(OSError) if kind else nullcontext():
            self.lines.close()
        if kind is None:
            self.part.replace(self.path)


def check_settings(path: Path, record: dict, settings: dict) -> None:
    """Raise DataError if a line of the file `path` was made with other settings."""
    if others := {key: record.get(key) for key in settings if record.get(key) != settings[key]}:
        made = " and ".join(f"{key} {value}" for key, value in others.items())
        raise DataError(f"{path}: made with {made}; name another --output, or delete it")


def read_lines(path: Path) -> Iterator[dict]:
    """The lines of keypoints.jsonl, none if there is no such file; broken lines of a killed run are skipped."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and "file" in record and ("faces" in record or "error" in record):
                yield record


def write_csv(folder: Path, num_points: int) -> None:
    """keypoints.csv from the folder's keypoints.jsonl: one row per face."""
    with whole(folder / CSV) as part, part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.writer(file)
        names = ["file", "face", "x", "y", "w", "h", "score", "confidence", "yaw", "pitch", "roll"]
        table.writerow(names + [f"{what}{point}" for point in range(num_points) for what in ("x", "y", "confidence")])
        for record in read_lines(folder / JSON):
            for number, face in enumerate(record.get("faces", ())):
                table.writerow([record["file"], number, *_cells(face)])


def _cells(face: dict) -> list:
    """The cells of a face; unknown values are empty."""
    confidences = face["confidence"] or [None] * len(face["keypoints"])
    points = [(x, y, confidence) for (x, y), confidence in zip(face["keypoints"], confidences, strict=True)]
    mean = round(float(np.mean(confidences)), 3) if face["confidence"] else None
    pose = face["pose"] or dict.fromkeys(("yaw", "pitch", "roll"))
    return [*face["box"], face["score"], mean, *pose.values(), *(number for point in points for number in point)]


@dataclass(frozen=True)
class Drawing:
    """What is drawn into pictures: things to wear, then boxes and keypoints.

    Like Crops it has `pictures` of a photo's faces and the `paths` they are written to.
    """

    filters: tuple[str, ...] = ()
    keypoints: bool = False

    def __call__(self, image: np.ndarray, faces: list[Face]) -> np.ndarray:
        for name in self.filters:
            image = wear(image, np.stack([face.keypoints for face in faces]), name)
        return draw_faces(image, faces) if self.keypoints else image

    def pictures(self, image: np.ndarray, faces: list[Face]) -> list[np.ndarray]:
        """The drawn picture; none for a photo without faces."""
        return [self(image, faces)] if faces else []

    def paths(self, name: Path, faces: int) -> list[Path]:
        """Where they go: "a/b.jpg" to "a/b_keypoints.jpg", "b.tif" to "b_keypoints.tif.jpg"."""
        return [_named(name, self.what)] if faces else []

    @property
    def what(self) -> str:
        """What is drawn, for the names of files."""
        return "_".join([*self.filters, *(["keypoints"] if self.keypoints else [])])


@dataclass(frozen=True)
class Crops:
    """The aligned crops of all faces of a photo, of 112 or 256 pixels (align.py)."""

    size: int

    def pictures(self, image: np.ndarray, faces: list[Face]) -> list[np.ndarray]:
        """One crop per face."""
        return [aligned_face(image, face.keypoints, self.size) for face in faces]

    def paths(self, name: Path, faces: int) -> list[Path]:
        """Where they go: "a/b.jpg" to "a/b_112_0.jpg", "a/b_112_1.jpg" and so on, the most certain face first."""
        return [_named(name, f"{self.size}_{number}") for number in range(faces)]


def _named(name: Path, what: str) -> Path:
    """The path of a picture made from another one."""
    ending = name.suffix if name.suffix.lower() in ENDINGS_KEPT else f"{name.suffix}.jpg"
    return name.with_name(f"{name.stem}_{what}{ending}")
