#!/usr/bin/env python3
"""Fetch the published course data: `python tools/download_data.py [--dest data]`, or `make data`.

DEST gets training/*.jpg, test/*.jpg and their two CSV files; whatever else is in it stays as it is. All is
downloaded to and unpacked in a folder .DEST-download beside DEST, and moved into place when it is checked.
An interrupted download stays there, and the same command goes on with it.
"""

import argparse
import contextlib
import errno
import hashlib
import http.client
import queue
import re
import shutil
import ssl
import stat
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

BLOCK = 1 << 18  # bytes per read
STALL_SECONDS = 10  # a download that stands still for longer has broken off
BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
OTHER_DATASETS = (  # name, where its owner has it, folder in DEST
    ("IMM Face Database", "http://www2.compute.dtu.dk/~aam/datasets/datasets.html", "imm_face_db"),
    (
        "iBUG 300-W (dlib)",
        "http://dlib.net/files/data/ibug_300W_large_face_landmark_dataset.tar.gz",
        "ibug_300W_large_face_landmark_dataset",
    ),
)


@dataclass(frozen=True)
class Archive:
    """A zip file to fetch: its addresses in the order they are tried, and what must come out of it."""

    sources: tuple[str, ...]
    csv_sha256: dict[str, str]  # file name -> SHA-256 of its text with \n line ends
    images: dict[str, int]  # folder -> number of .jpg files in it
    patience: float = 4.5  # seconds each source has to answer: no network is noticed within 10


COURSE = Archive(
    sources=(
        "https://s3.amazonaws.com/video.udacity-data.com/topher/2018/May/5aea1b91_train-test-data/train-test-data.zip",
        "https://codeload.github.com/udacity/P1_Facial_Keypoints/zip/refs/heads/master",
    ),
    csv_sha256={
        "training_frames_keypoints.csv": "9f3d1213429893d4955e2789076f6ce11e297253fed86337cffb6ca85bd61ec8",
        "test_frames_keypoints.csv": "348e5e1a5906001f64d3da627e4f61dc3de90771d6d92f5d93628029b3c85e65",
    },
    images={"training": 3462, "test": 2308},
)


class Problem(Exception):
    """What is wrong, in one sentence."""


class BadSource(Problem):
    """This source is of no use; another one may be."""


class NoNetwork(BadSource):
    """This source cannot be reached."""


def find_fault(folder: Path, archive: Archive, more_images: bool = False) -> str:
    """The first thing in `folder` that is not as published, '' if none; `more_images` may be there or not."""
    for name, expected in archive.csv_sha256.items():
        if not (folder / name).is_file():
            return f"no {name}"
        if (found := text_sha256(folder / name)) != expected:
            return f"{name} has SHA-256 {found[:12]}..., expected {expected[:12]}..."
    for split, expected in archive.images.items():
        count = len(list((folder / split).glob("*.jpg")))
        if count < expected or (count > expected and not more_images):
            return f"{count} images in {split}/, expected {expected}"
    return ""


def text_sha256(path: Path) -> str:
    """SHA-256 of a text file, the same for \\r\\n line ends (copies that went through git may have them)."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def download(url: str, part: Path, patience: float) -> None:
    """Fetch `url` into `part`, from where an earlier call broke off if the file is still the same.

    Raises BadSource when nothing comes, Problem when it breaks off or does not fit on the disk.
    """
    host = urlsplit(url).netloc
    response, start = connect(url, part, patience)
    with response:
        length = int(response.headers.get("Content-Length", 0))
        total = start + length if length else None
        needed = length + (total or 0)  # PNG images: unpacked as large as packed
        free = shutil.disk_usage(part.parent).free
        if free < needed:
            raise Problem(f"Disk full: {needed / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free, make room")
        with (
            part.open("r+b" if start else "wb") as file,
            tqdm(desc=host, total=total, initial=start, unit="B", unit_scale=True, disable=None) as bar,
        ):
            file.seek(start)
            for block in read_blocks(response, host):
                file.write(block)
                bar.update(len(block))
    size = part.stat().st_size
    if total and size < total:
        raise Problem(f"{host} broke off after {size} of {total} bytes")


def read_blocks(response, host: str) -> Iterator[bytes]:
    """The body of `response` in blocks; raises Problem when the connection fails."""
    try:
        while block := response.read(BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise Problem(f"{host} broke off ({error})") from None


def connect(url: str, part: Path, patience: float):
    """Ask for the rest of `part`, or for all of it: (open response, position of its first byte).

    The server's ETag or date of the file is kept beside the part, so that two versions are never glued.
    """
    start, headers = 0, {}
    if part.exists() and part.stat().st_size and tag_of(part).exists():
        start = part.stat().st_size - 1  # one byte twice, so that a part that is complete is no error
        headers = {"Range": f"bytes={start}-", "If-Range": tag_of(part).read_text()}
    response = request(url, headers, patience)
    etag = response.headers.get("ETag", "")
    version = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")  # not W/"weak"
    if response.status == 200:
        forget(part)
        if version:
            tag_of(part).write_text(version)
        return response, 0
    follows = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    if response.status == 206 and headers and follows and version in ("", headers["If-Range"]):
        return response, start
    response.close()
    if headers and response.status in (206, 416):  # another file than the one begun
        forget(part)
        return connect(url, part, patience)
    raise BadSource(f"{urlsplit(url).netloc} answers {response.status} {response.reason}")


def request(url: str, headers: dict, patience: float):
    """The response to a GET, whatever its status; raises NoNetwork when there is none in `patience` seconds.

    In a thread, because urlopen's timeout covers neither the name look-up nor all addresses of a name.
    """
    answers = queue.SimpleQueue()

    def ask():
        try:
            answers.put(urlopen(Request(url, headers=headers), timeout=STALL_SECONDS))
        except Exception as error:  # an HTTPError is a response too
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=patience)
    except queue.Empty:
        answer = TimeoutError(f"no answer within {patience} s")
    if hasattr(answer, "status"):
        return answer
    reason, host = getattr(answer, "reason", answer), urlsplit(url).netloc
    if isinstance(reason, ssl.SSLError):
        raise BadSource(f"{host} has no secure connection ({reason})")
    raise NoNetwork(f"{host} ({getattr(reason, 'strerror', None) or reason})")


def tag_of(part: Path) -> Path:
    """The file beside a part that remembers which version of the server's file it is."""
    return part.with_suffix(".tag")


def forget(part: Path) -> None:
    """Delete a part and its tag."""
    tag_of(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def unpack(part: Path, folder: Path, archive: Archive) -> None:
    """Unpack the images and CSV files into `folder`, at whatever depth of the zip they are.

    Raises BadSource for what is not a zip, is damaged, or has an entry that leads out of its folder.
    """
    try:
        with zipfile.ZipFile(part) as zipped:
            members = select(zipped.infolist(), archive)
            for name, info in tqdm(members.items(), desc="unpack", unit=" files", disable=None):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(info) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except BAD_ZIP as error:
        raise BadSource(f"not a sound zip file ({error})") from None


def select(entries: list[zipfile.ZipInfo], archive: Archive) -> dict[str, zipfile.ZipInfo]:
    """The entries to unpack by their name below DEST; raises BadSource for a dangerous one."""
    for entry in entries:
        path = PureWindowsPath(entry.filename)  # knows / and \ and drive letters
        if path.anchor or ".." in path.parts or stat.S_ISLNK(entry.external_attr >> 16):
            raise BadSource(f"entry {entry.filename!r} may lead out of its folder")
    paths = {PurePosixPath(entry.filename): entry for entry in entries}
    tops = [path.parent for path in paths if path.name in archive.csv_sha256]
    if not tops:
        raise BadSource(f"no {next(iter(archive.csv_sha256))} in it")
    top = min(tops, key=lambda folder: len(folder.parts))
    inside = {str(path.relative_to(top)): entry for path, entry in paths.items() if path.is_relative_to(top)}
    image = re.compile(rf"({'|'.join(archive.images)})/[^./:\\][^/:\\]*\.jpg")
    wanted = [name for name in inside if name in archive.csv_sha256 or image.fullmatch(name)]
    return {name: inside[name] for name in wanted}


def install(new: Path, dest: Path) -> None:
    """Move every file of `new` to its place in `dest`; on any failure take those away that were not there."""
    names = sorted(path.relative_to(new) for path in new.rglob("*") if path.is_file())
    added = [path for path in sorted({(dest / name).parent for name in names}) if not path.exists()]
    try:
        for name in names:
            (dest / name).parent.mkdir(parents=True, exist_ok=True)
            if not (dest / name).exists():
                added.append(dest / name)
            shutil.move(new / name, dest / name)
    except BaseException:
        for path in reversed(added):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise


def fetch(archive: Archive, dest: Path) -> None:
    """Download, check and install `archive` in `dest`; raises Problem with one sentence.

    Nothing is left beside `dest` but the beginning of an interrupted download that can be resumed.
    """
    for name, expected in archive.csv_sha256.items():
        if (dest / name).exists() and text_sha256(dest / name) != expected:
            raise Problem(f"{dest / name} is not the published file and would be overwritten, move it away")
    work = work_folder(dest)
    try:
        work.mkdir(parents=True, exist_ok=True)
        (work / ".gitignore").write_text("*\n")
        fetch_from_any(archive, work, dest)
        shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        shutil.rmtree(work, ignore_errors=True)
        raise Problem(f"Disk full: no room beside {dest} for the archive and its images, make room") from None
    finally:
        tidy(work)


def fetch_from_any(archive: Archive, work: Path, dest: Path) -> None:
    """Try one source after the other; raises Problem with what is wrong with each."""
    problems = []
    for url in archive.sources:
        try:
            return fetch_from(url, archive, work, dest)
        except BadSource as problem:
            problems.append(problem)
    offline = all(isinstance(problem, NoNetwork) for problem in problems)
    raise Problem(
        f"{'No network' if offline else 'No usable archive'}: {', '.join(map(str, problems))}; "
        "`make run` goes on with the drawn faces"
    )


def fetch_from(url: str, archive: Archive, work: Path, dest: Path) -> None:
    """Download, unpack, check and install what one source has; a bad archive is deleted."""
    part, new = work / (re.sub(r"\W+", "-", url)[-80:] + ".part"), work / "new"
    shutil.rmtree(new, ignore_errors=True)
    download(url, part, archive.patience)
    try:
        unpack(part, new, archive)
        if fault := find_fault(new, archive):
            raise BadSource(fault)
    except BadSource as problem:
        forget(part)
        raise BadSource(f"archive from {urlsplit(url).netloc}: {problem}, deleted") from None
    install(new, dest)


def work_folder(dest: Path) -> Path:
    """Where downloads and unpacked files wait: beside DEST, on the same disk."""
    return dest.resolve().with_name(f".{dest.resolve().name}-download")


def tidy(work: Path) -> None:
    """Delete what is half done, keep the beginning of a download that can be resumed."""
    shutil.rmtree(work / "new", ignore_errors=True)
    for part in work.glob("*.part"):
        if not tag_of(part).exists():
            forget(part)
    if not any(work.glob("*.part")):
        shutil.rmtree(work, ignore_errors=True)


def main(argv: list[str] | None = None, archive: Archive = COURSE) -> int:
    """Fetch the course data into --dest; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dest", type=Path, default=Path("data"), help="folder for the data (default: data)")
    dest = parser.parse_args(argv).dest
    counts = " and ".join(f"{count} {split}" for split, count in archive.images.items())
    try:
        fault = find_fault(dest, archive, more_images=True)
        if not fault:
            print(f"{dest}: already complete ({counts} images)")
            return 0
        print(f"{dest}: {fault}; fetching the published data", flush=True)
        fetch(archive, dest)
    except (Problem, OSError, KeyboardInterrupt) as stop:
        again = "resumes the download" if any(work_folder(dest).glob("*.part")) else "starts again"
        print(f"{str(stop) or 'Stopped'}; the same command {again}.", file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else 1
    print(f"{dest}: complete ({counts} images with their keypoints)")
    for name, page, folder in OTHER_DATASETS:
        if not (dest / folder).exists():
            print(f"Not fetched, its owner has it: {name}, {page} -> {dest / folder}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
