#!/usr/bin/env python3
"""Fetch the published course data: `python tools/download_data.py [--dest data]`, or `make data`.

Writes training/*.jpg, test/*.jpg and their two CSV files to DEST and leaves other files there unchanged. The archive
is downloaded to and unpacked in a folder .DEST-download beside DEST, checked, and only then moved into place. An
interrupted download stays there, and the same command resumes it.

This uses requests instead of pooch, because pooch cannot resume a download and checks an archive by its SHA-256, which
GitHub's zip does not have: it is packed anew for every request. Here the contents are checked: both CSV files by their
SHA-256, every image by the zip's checksum when it is unpacked and by its own when it is opened. An archive pieced
together from two versions of a file fails these checks and is deleted.
"""

import argparse
import hashlib
import shutil
import sys
import threading
import zipfile
import zlib
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import requests
from PIL import Image
from tqdm import tqdm

BLOCK = 1 << 18  # bytes per read
STALL_SECONDS = 10  # without data for this long, a download counts as broken off
OTHER_DATASETS = (  # name, its owner's address, folder in DEST
    ("IMM Face Database", "http://www2.compute.dtu.dk/~aam/datasets/datasets.html", "imm_face_db"),
    (
        "iBUG 300-W (dlib)",
        "http://dlib.net/files/data/ibug_300W_large_face_landmark_dataset.tar.gz",
        "ibug_300W_large_face_landmark_dataset",
    ),
)


@dataclass(frozen=True)
class Archive:
    """A zip file to fetch: its addresses, in the order in which they are tried, and its required contents."""

    sources: tuple[str, ...]
    csv_sha256: dict[str, str]  # file name -> SHA-256 of its text with \n line ends
    images: dict[str, int]  # folder -> number of .jpg files in it
    patience: float = 4.5  # seconds to wait for each source's answer, so that without a network both fail within 10


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
    """This source cannot be used; the next one is tried."""


class NoNetwork(BadSource):
    """This source cannot be reached."""


def find_fault(folder: Path, archive: Archive) -> str:
    """The first difference between `folder` and the published data, '' if there is none; extra images are allowed."""
    for name, expected in archive.csv_sha256.items():
        if not (folder / name).is_file():
            return f"no {name}"
        if (found := text_sha256(folder / name)) != expected:
            return f"{name} has SHA-256 {found[:12]}..., expected {expected[:12]}..."
    for split, expected in archive.images.items():
        images = sorted((folder / split).glob("*.jpg"))
        if len(images) < expected:
            return f"{len(images)} images in {split}/, expected {expected}"
        if damaged := next((path.name for path in images if not is_sound(path)), None):
            return f"{split}/{damaged} is not a sound image"
    return ""


def is_sound(path: Path) -> bool:
    """Whether Pillow can open the image, and a PNG's checksums are right."""
    try:
        with Image.open(path) as image:
            image.verify()
        return True
    except Exception:  # Pillow raises nearly anything on a damaged file
        return False


def text_sha256(path: Path) -> str:
    """SHA-256 of a text file with \\r\\n line ends counted as \\n (git may have converted them)."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def request(url: str, start: int, patience: float) -> requests.Response:
    """Ask for a file from byte `start` on; raises BadSource when there is no answer within `patience` seconds.

    It runs in a thread because the timeout of requests covers neither the DNS look-up nor all addresses of a host.
    """
    answer, host = Future(), urlsplit(url).netloc

    def ask():
        try:
            headers = {"Range": f"bytes={start}-"} if start else {}
            answer.set_result(requests.get(url, headers=headers, stream=True, timeout=STALL_SECONDS))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        response = answer.result(patience)
    except OSError as error:  # the exceptions of requests, and TimeoutError
        raise NoNetwork(f"{host} cannot be reached ({type(error).__name__})") from None
    if response.status_code not in (200, 206):
        raise BadSource(f"{host} answers {response.status_code} {response.reason}")
    return response


def download(url: str, part: Path, patience: float) -> None:
    """Fetch `url` into `part`, from where an earlier call broke off.

    Raises BadSource if the source does not answer, Problem if the download breaks off or the disk is too small.
    """
    host, start = urlsplit(url).netloc, max(0, part.stat().st_size - 1) if part.exists() else 0
    with request(url, start, patience) as response:  # the last byte is fetched twice: an empty range is an error
        start = start if response.status_code == 206 else 0
        length = int(response.headers.get("Content-Length", 0))
        total, needed = start + length if length else None, start + 2 * length  # PNGs are as large unpacked as packed
        if (free := shutil.disk_usage(part.parent).free) < needed:
            raise Problem(f"Disk full: {needed / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free, make room")
        with (
            part.open("r+b" if start else "wb") as file,
            tqdm(desc=host, total=total, initial=start, unit="B", unit_scale=True, disable=None) as bar,
        ):
            file.seek(start)
            try:
                for block in response.iter_content(BLOCK):
                    file.write(block)
                    bar.update(len(block))
            except requests.RequestException:
                raise Problem(f"{host} broke off after {file.tell()} of {total or 'unknown'} bytes") from None


def unpack(part: Path, folder: Path, archive: Archive) -> None:
    """Unpack only the images and CSV files into `folder`, at whatever depth of the zip they are.

    They are written as plain files under checked names, so no entry can be written outside the folder.
    """
    first_csv = next(iter(archive.csv_sha256))
    with zipfile.ZipFile(part) as zipped:
        entries = {PurePosixPath(entry.filename): entry for entry in zipped.infolist()}
        tops = sorted((path.parent for path in entries if path.name == first_csv), key=lambda top: len(top.parts))
        if not tops:
            raise BadSource(f"no {first_csv} in it")
        for path, entry in tqdm(entries.items(), desc="unpack", unit=" files", disable=None):
            name, images = path.name, path.parent.parent == tops[0] and path.parent.name in archive.images
            if images and path.suffix == ".jpg" and name[0] != "." and not set(name) & set("\\:"):
                target = folder / path.parent.name / name
            elif path.parent == tops[0] and name in archive.csv_sha256:
                target = folder / name
            else:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(entry) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)


def fetch_from(url: str, archive: Archive, work: Path, dest: Path) -> None:
    """Download, unpack, check and install what one source has; a bad archive is deleted."""
    part, new = work / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}.part", work / "new"
    shutil.rmtree(new, ignore_errors=True)
    download(url, part, archive.patience)
    try:
        unpack(part, new, archive)
        if fault := find_fault(new, archive):
            raise BadSource(fault)
    except (BadSource, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        part.unlink()
        raise BadSource(f"archive from {urlsplit(url).netloc}: {error}, deleted") from None
    for path in sorted(new.rglob("*.*"), key=lambda path: path.suffix == ".csv"):  # CSVs last: they mark it complete
        target = dest / path.relative_to(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)  # DEST may be another disk
    shutil.rmtree(work)


def fetch(archive: Archive, dest: Path, work: Path) -> None:
    """Install `archive` in `dest` from the first source that has it; raises Problem that names each one's fault."""
    for name, expected in archive.csv_sha256.items():
        if (dest / name).exists() and text_sha256(dest / name) != expected:
            raise Problem(f"{dest / name} is not the published file and would be overwritten, move it away")
    work.mkdir(parents=True, exist_ok=True)
    (work / ".gitignore").write_text("*\n")
    problems = []
    for url in archive.sources:
        try:
            return fetch_from(url, archive, work, dest)
        except BadSource as problem:
            problems.append(problem)
    what = "No network" if all(isinstance(problem, NoNetwork) for problem in problems) else "No usable archive"
    raise Problem(f"{what}: {', '.join(map(str, problems))}; `make run` continues with drawn faces")


def main(argv: list[str] | None = None, archive: Archive = COURSE) -> int:
    """Fetch the course data into --dest; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dest", type=Path, default=Path("data"), help="folder for the data (default: data)")
    dest = parser.parse_args(argv).dest
    work = dest.resolve().with_name(f".{dest.resolve().name}-download")
    counts = " and ".join(f"{count} {split}" for split, count in archive.images.items())
    try:
        fault = find_fault(dest, archive)
        if not fault:
            print(f"{dest}: already complete ({counts} images)")
            return 0
        print(f"{dest}: {fault}; fetching the published data", flush=True)
        fetch(archive, dest, work)
    except (Problem, OSError, KeyboardInterrupt) as stop:
        shutil.rmtree(work / "new", ignore_errors=True)
        resumes = any(work.glob("*.part"))
        if not resumes:
            shutil.rmtree(work, ignore_errors=True)
        again = "resumes the download" if resumes else "starts again"
        print(f"{str(stop) or 'Stopped'}; the same command {again}.", file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else 1
    print(f"{dest}: complete ({counts} images with their keypoints)")
    for name, page, folder in OTHER_DATASETS:
        if not (dest / folder).exists():
            print(f"Not fetched, its owner has it: {name}, {page} -> {dest / folder}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
