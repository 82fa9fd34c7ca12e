"""Files on any file system, and the Parquet parts that `facial-keypoints-bulk` writes (README.md of this folder)."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from facial_keypoints.images import DataError
from facial_keypoints.pipeline import Face

SETTINGS = "_settings.json"  # readers of Parquet folders skip names that start with _
NUMBERS = pa.list_(pa.float32())
SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("face", pa.int16()),
        ("box", NUMBERS),
        ("score", pa.float32()),
        ("yaw", pa.float32()),
        ("pitch", pa.float32()),
        ("roll", pa.float32()),
        ("keypoints", NUMBERS),
        ("confidence", NUMBERS),
        ("jaw_3d", NUMBERS),
        ("error", pa.string()),
    ]
)


def filesystem(place: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI and the path there: one of pyarrow's, else one of fsspec's.

    Raises DataError for a URI that neither can open.
    """
    if "://" not in place:
        return fs.LocalFileSystem(), os.path.abspath(place).replace(os.sep, "/")
    scheme, _, rest = place.partition("://")
    host, _, path = rest.partition("/")
    system, root = _filesystem(f"{scheme}://{host}/")
    return system, f"{root.rstrip('/')}/{path}"


@lru_cache
def _filesystem(root):
    try:
        return fs.FileSystem.from_uri(root)
    except pa.ArrowInvalid:  # a scheme that pyarrow does not support
        return _filesystem_of_fsspec(root)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{root}: {error}") from None


def _filesystem_of_fsspec(root):
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(root)
    except (ImportError, ValueError, OSError) as error:
        raise DataError(f"{root}: neither pyarrow nor fsspec can open it ({error})") from None
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def read_file(place: str) -> bytes:
    """The content of a file on any file system; raises DataError."""
    try:
        system, path = filesystem(place)
        with system.open_input_stream(path, compression=None) as stream:
            return stream.read()
    except FileNotFoundError:
        raise DataError(f"{place}: no such file") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{place}: cannot be read ({' '.join(str(error).split())})") from None


class Folder:
    """The folder of the parts, on any file system; raises DataError where it cannot be written."""

    def __init__(self, place: str):
        self.place = place
        self.system, self.path = filesystem(place)

    def file(self, name: str) -> str:
        """The path of a file of this folder on its file system."""
        return f"{self.path}/{name}"

    def names(self) -> set[str]:
        """The names of its files, none if there is no folder yet."""
        found = self.system.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return {info.base_name for info in found if info.is_file}

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.system.get_file_info(self.file(name)).is_file

    def delete(self, name: str) -> None:
        """Delete a file."""
        self.system.delete_file(self.file(name))

    def tidy(self) -> None:
        """Delete the files that dead workers left behind."""
        for name in self.names():
            if name.startswith("_part"):
                self.delete(name)

    def create(self) -> None:
        """Create the folder if there is none."""
        try:
            self.system.create_dir(self.path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.place}: cannot be created ({error})") from None

    @contextmanager
    def writing(self, name: str) -> Iterator[pa.NativeFile]:
        """A stream for a file that is written whole or not at all."""
        part = self.file(f"_{name}.{uuid4().hex}")
        try:
            with self.system.open_output_stream(part, compression=None) as stream:
                yield stream
            self.system.move(part, self.file(name))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.place}/{name}: could not be written ({error})") from None

    def write(self, name: str, content) -> None:
        """Write a whole file."""
        with self.writing(name) as stream:
            stream.write(content)

    def settle(self, settings: dict) -> None:
        """Store the settings of the first run; raises DataError if the parts were made with others."""
        if SETTINGS not in self.names():
            return self.write(SETTINGS, json.dumps(settings).encode())
        before = json.loads(read_file(f"{self.place}/{SETTINGS}"))
        if others := [f"{name} {before.get(name)}" for name in settings if before.get(name) != settings[name]]:
            raise DataError(f"{self.place}: made with {', '.join(others)}; name another OUTPUT, or delete it")


def face_rows(source: str, shape: tuple[int, int], faces: list[Face]) -> list[dict]:
    """The rows of a picture of this height and width: one for each face, or one without a face."""
    picture = {"source": source, "width": shape[1], "height": shape[0]}
    return [picture | _face_row(number, face) for number, face in enumerate(faces)] or [picture]


def _face_row(number, face):
    pose = face.pose and {angle: getattr(face.pose, angle) for angle in ("yaw", "pitch", "roll")}
    return {
        "face": number,
        "box": face.box,
        "score": face.score,
        "keypoints": face.keypoints.ravel(),
        "confidence": face.confidence,
        "jaw_3d": None if face.jaw_3d is None else face.jaw_3d.ravel(),
    } | (pose or {})


def encoded(rows: list[dict]) -> pa.Buffer:
    """A Parquet file of such rows; columns that a row lacks are null."""
    table, sink = pa.Table.from_pylist(rows, SCHEMA), pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
