"""The pictures that `facial-keypoints-bulk` reads, as shards: Parquet files of paths or of encoded pictures.

A chunk is a slice of a shard's row group, and its part is named after its position there: reading a chunk again writes
the same file again.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain, islice

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from facial_keypoints.batch import PICTURES
from facial_keypoints.images import DataError
from facial_keypoints.parts import Folder, filesystem

LISTED = "_pictures.parquet"  # in the output: the paths of a folder or list, as a shard
LISTED_ROWS = 65536  # per row group of LISTED


@dataclass(frozen=True)
class Shard:
    """A Parquet file of pictures: their paths, or the pictures themselves with their names.

    number: its index among the shards; path, content: the names of these columns, None if it has no such column;
    groups: the number of rows in each row group; chunk: pictures per part.
    """

    number: int
    place: str
    path: str | None
    content: str | None
    groups: tuple[int, ...]
    chunk: int

    def parts(self) -> dict[str, int]:
        """The number of pictures in each part, by the part's name."""
        return {name: size for group in range(len(self.groups)) for name, size in self._parts(group).items()}

    def _parts(self, group):
        rows = self.groups[group]
        return {
            f"part-{self.number:05}-{group:05}-{number:05}.parquet": min(self.chunk, rows - start)
            for number, start in enumerate(range(0, rows, self.chunk))
        }

    def read(self, done: set[str]) -> Iterator[pa.Table]:
        """The chunks whose parts are missing, each a table of one row: part, sources and contents (null for paths).

        Only one chunk is in memory at a time; finished row groups are not read.
        """
        system, path = filesystem(self.place)
        with system.open_input_file(path) as stream:
            table = pq.ParquetFile(stream, buffer_size=1 << 20)
            columns = [column for column in (self.path, self.content) if column]
            for group in range(len(self.groups)):
                names = self._parts(group)
                if done.issuperset(names):
                    continue
                batches = table.iter_batches(self.chunk, row_groups=[group], columns=columns)
                for number, (name, batch) in enumerate(zip(names, batches, strict=True)):
                    if name not in done:
                        yield self._row(name, batch, f"{self.place}:{group}:", number * self.chunk)

    def _row(self, name, batch, place, start):
        if self.path:
            sources = batch.column(self.path).cast(pa.string())
        else:
            sources = pa.array([f"{place}{start + row}" for row in range(len(batch))])
        contents = batch.column(self.content) if self.content else pa.nulls(len(batch), pa.binary())
        if pa.types.is_struct(contents.type):
            contents = contents.field("bytes")
        return pa.table(
            {"part": [name], "sources": _in_a_row(sources), "contents": _in_a_row(contents.cast(pa.large_binary()))}
        )


def _in_a_row(values):
    return pa.LargeListArray.from_arrays([0, len(values)], values)


def find_shards(place: str, output: Folder, chunk: int, column: str | None = None) -> list[Shard]:
    """The shards of a Parquet file, a folder of such files, a folder of pictures, or a list (.txt, one path per line).

    Folders and lists are read once; their paths are kept in `output` for the run that resumes.
    column: the column of paths or encoded pictures; by default the only one of bytes, else "path", else the only one
    of text. Raises DataError if there are no pictures.
    """
    if LISTED in output.names():
        return _listed(place, output, chunk)
    if place.endswith(".parquet"):
        return _shards([place], chunk, column)
    found = _lines(place) if place.endswith(".txt") else _files(place, output)
    first = next(found, None)
    if first is None:
        raise DataError(f"{place}: no pictures in it")
    found = chain([first], found)
    if _is_parquet(first):
        files = list(found)
        if not all(map(_is_parquet, files)):
            raise DataError(f"{place}: has both Parquet files and pictures, process them separately")
        return _shards(files, chunk, column)
    with output.writing(LISTED) as stream, pq.ParquetWriter(stream, _list_schema(place), compression="zstd") as table:
        while rows := list(islice(found, LISTED_ROWS)):
            table.write_table(pa.table({"path": rows}, table.schema))
    return _listed(place, output, chunk)


def _is_parquet(place):
    return place.lower().endswith(".parquet")


def _list_schema(place):
    return pa.schema([("path", pa.string())], metadata={"input": place})


def _listed(place: str, output: Folder, chunk: int) -> list[Shard]:
    """The pictures that an earlier run has listed; raises DataError if that run had another input."""
    system, path = filesystem(output.place)
    before = pq.read_schema(f"{path}/{LISTED}", filesystem=system).metadata
    if before != _list_schema(place).metadata:
        raise DataError(f"{output.place}: made from {before[b'input'].decode()}; name another OUTPUT, or delete it")
    return _shards([f"{output.place.rstrip('/')}/{LISTED}"], chunk, "path")


def _lines(place: str) -> Iterator[str]:
    try:
        system, path = filesystem(place)
        with TextIOWrapper(system.open_input_stream(path), "utf-8", "replace") as lines:
            yield from (line.strip() for line in lines if line.strip())
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{place}: the list cannot be read ({' '.join(str(error).split())})") from None


def _files(place: str, output: Folder) -> Iterator[str]:
    """The pictures and Parquet files of a folder and its subfolders, sorted; one folder in memory at a time."""
    system, path = filesystem(place)
    if system.get_file_info(path).type != fs.FileType.Directory:
        raise DataError(f"{place}: neither a folder, nor a list (.txt), nor a Parquet file (.parquet)")
    endings = PICTURES | {".parquet"}

    def below(folder):
        for info in sorted(system.get_file_info(fs.FileSelector(folder)), key=lambda info: info.path):
            if info.type == fs.FileType.Directory:
                if info.path != output.path:
                    yield from below(info.path)
            elif f".{info.extension.lower()}" in endings:
                yield place.rstrip("/") + info.path[len(path.rstrip("/")) :]

    yield from below(path)


def _shards(files: list[str], chunk: int, column: str | None) -> list[Shard]:
    """The shards of these files; raises DataError for damaged ones and if no column has paths or pictures."""

    def metadata(place):
        try:
            system, path = filesystem(place)
            return pq.read_metadata(path, filesystem=system)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{place}: not a Parquet file that can be read ({' '.join(str(error).split())})") from None

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(metadata, files))
    groups = [tuple(table.row_group(group).num_rows for group in range(table.num_row_groups)) for table in found]
    path, content = _columns(files[0], found[0].schema.to_arrow_schema(), column)
    return [
        Shard(number, place, path, content, sizes, chunk)
        for number, (place, sizes) in enumerate(zip(files, groups, strict=True))
    ]


def _columns(place: str, schema: pa.Schema, column: str | None) -> tuple[str | None, str | None]:
    """The columns of paths and of encoded pictures, one of them may be None."""

    def is_content(field):
        kind = field.type
        if pa.types.is_struct(kind):  # as Hugging Face's datasets store pictures
            return kind.get_field_index("bytes") >= 0
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    contents = [f.name for f in schema if is_content(f)]
    path = "path" if "path" in texts else texts[0] if len(texts) == 1 else None
    if column in contents or (column is None and len(contents) == 1):
        return path, column or contents[0]
    if column in texts or (column is None and not contents and path):
        return column or path, None
    raise DataError(f"{place}: name the column of paths or pictures with --column ({', '.join(schema.names)})")
