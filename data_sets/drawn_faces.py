"""Drawn faces with exact 68-point keypoints, in the layout of the course data: the embedded data set.

A Person (head shape, skin, hair, clothes) and a Scene (pose, expression, light, camera) are drawn from separate
seeds. The 3D points of face_drawing.shape.DRAWN_FACE are deformed, posed and projected, and the picture is painted
from the projected points (face_drawing/), so the keypoints are exact by construction.

    python -m data_sets.drawn_faces DEST
"""

import contextlib
import csv
import hashlib
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np

from data_sets.face_drawing.people import (
    Face,
    Person,
    Scene,
    draw_person,
    draw_scene,
    express,
    rotation_of,
    slide_outline,
)
from data_sets.face_drawing.portrait import paint
from facial_keypoints.schemes import IBUG_68

FRAMES_PER_PERSON = 3

FACE_WIDTH = (0.30, 0.58)  # of the frame's width

FRAME_SIDES = (100, 300)  # pixels

CANVAS_SIDE = 400  # pixels; pictures are painted about this large, then downsampled

MARKER = "synthetic.json"  # records how a data set was made, so that an identical call need not write it again


def place(face: Face, width: float, height: float, rng) -> None:
    """Choose scale and position of the face on the canvas at random, roughly centred (sets face.unit, face.offset)."""
    low, high = face.points.min(0), face.points.max(0)
    span = high - low
    face.unit = min(rng.uniform(*FACE_WIDTH) * width / span[0], 0.72 * height / span[1])
    span, frame = span * face.unit, np.array((width, height))
    centre = rng.normal((0.5, 0.56), 0.05) * frame
    centre = np.clip(centre, span / 2 + 0.04 * frame, 0.96 * frame - span / 2)
    face.offset = centre - (low + high) / 2 * face.unit


def draw_frame(person: Person, scene: Scene, rng, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A person in a scene: RGB uint8 (height, width, 3) and keypoints float32 (68, 2)."""
    shape = express(person.shape, scene)
    slide_outline(shape, scene.angles[0])
    face = Face(person, scene, shape, rotation_of(scene.angles))
    zoom = np.clip(CANVAS_SIDE / max(width, height), 1.5, 3)
    canvas_width, canvas_height = round(width * zoom), round(height * zoom)
    place(face, canvas_width, canvas_height, rng)
    canvas = paint((canvas_height, canvas_width), face, rng)
    image = photograph(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), rng)
    ratio = np.array((width / canvas_width, height / canvas_height))
    return image, ((face.points + 0.5) * ratio - 0.5).astype(np.float32)


def photograph(image: np.ndarray, rng) -> np.ndarray:
    """Blur, noise and JPEG artefacts of a camera: float32 in, uint8 out."""
    image = np.where(image < 195, image, 255 - 60 * np.exp((195 - image) / 60))  # highlights roll off
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.2, 1.2))
    noise = rng.uniform(0, 8) if rng.random() < 0.7 else 0
    image = image + noise * rng.standard_normal(image.shape, dtype=np.float32)
    image = np.clip(image, 0, 255).astype(np.uint8)
    quality = int(rng.uniform(35, 95))
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def draw_face(seed: int, size: int = 192) -> tuple[np.ndarray, np.ndarray]:
    """A face: RGB uint8 (size, size, 3) and its exact keypoints, float32 (68, 2), pixel centres at whole numbers."""
    person = draw_person(np.random.default_rng((seed, 0)))
    rng = np.random.default_rng((seed, 1))
    return draw_frame(person, draw_scene(rng), rng, size, size)


def person_name(number: int) -> str:
    """A made-up name, different for every number."""
    first = ("Ada", "Ben", "Cleo", "Dana", "Emil", "Fay", "Gus", "Hana", "Ivo", "Juno", "Kofi", "Lena", "Milo")
    starts = ("Bar", "Col", "Dom", "Fal", "Gar", "Hol", "Kam", "Lor", "Mor", "Tal")
    ends = ("berg", "dano", "ez", "ford", "ini", "kova", "man", "son", "uri", "well")
    rest, end = divmod(number, len(ends))
    last = "".join(starts[int(digit)] for digit in str(rest)).capitalize() + ends[end]
    return f"{first[number % len(first)]}_{last}"


def write_split(folder: Path, csv_file: Path, first_person: int, count: int, seed: int) -> int:
    """Write count frames and their CSV; returns how many people are in them."""
    folder.mkdir(parents=True)

    def write_frame(number: int) -> list:
        who, frame = first_person + number // FRAMES_PER_PERSON, number % FRAMES_PER_PERSON
        person = draw_person(np.random.default_rng((seed, who, 0)))
        rng = np.random.default_rng((seed, who, 1 + frame))
        width = rng.integers(FRAME_SIDES[0], FRAME_SIDES[1], endpoint=True)
        height = np.clip(round(width * rng.uniform(0.9, 1.25)), *FRAME_SIDES)
        image, keypoints = draw_frame(person, draw_scene(rng), rng, int(width), int(height))
        rgba = cv2.cvtColor(image, cv2.COLOR_RGB2BGRA)
        name = f"{person_name(who)}_{frame}0.jpg"
        (folder / name).write_bytes(cv2.imencode(".png", rgba, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())
        return [name, *(f"{value:.3f}" for value in keypoints.ravel())]

    with ThreadPoolExecutor(os.cpu_count()) as pool, open(csv_file, "w", newline="") as file:
        rows = pool.map(write_frame, range(count))
        csv.writer(file, lineterminator="\n").writerows([["", *range(2 * IBUG_68.num_points)], *rows])
    return -(-count // FRAMES_PER_PERSON)


def fingerprint(**parameters) -> str:
    """What a drawn data set depends on, as text: its parameters and a hash of the drawing code."""
    here = Path(__file__)
    modules = [here, *sorted(here.with_name("face_drawing").glob("*.py"))]
    code = b"".join(module.read_bytes() for module in modules)
    return json.dumps({**parameters, "code": hashlib.sha256(code).hexdigest()})


def write_once(root, wanted: str, write) -> Path:
    """Fill the folder root by `write(folder)`, atomically, unless it holds the data set that `wanted` describes.

    If several processes do so at once, all use the folder of the first one. An older drawn data set is replaced;
    raises FileExistsError for any other non-empty folder.
    """
    root = Path(root)
    if holds(root, wanted):
        return root
    if root.exists() and any(root.iterdir()) and not (root / MARKER).exists():
        raise FileExistsError(f"{root}: not empty and not drawn faces; choose another folder or remove it")
    work = root.absolute().with_name(f".{root.name}-{uuid4().hex[:8]}")
    work.mkdir(parents=True)
    try:
        write(work)
        (work / MARKER).write_text(wanted)
        put_in_place(work, root, wanted)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return root


def holds(root: Path, wanted: str) -> bool:
    """Whether the folder is the data set that `wanted` describes."""
    with contextlib.suppress(OSError):  # another process may be replacing the folder
        return (root / MARKER).read_text() == wanted
    return False


def put_in_place(work: Path, root: Path, wanted: str) -> None:
    """Rename the folder `work` to root, unless another process did so first; replace an older data set."""
    while not holds(root, wanted):
        try:
            work.rename(root)
        except OSError:  # there is a folder already
            old = work.with_name(f"{work.name}-old")
            with contextlib.suppress(FileNotFoundError):  # another process has just moved it away
                root.rename(old)
            if holds(old, wanted):  # another process had just put it there
                with contextlib.suppress(OSError):
                    old.rename(root)
            shutil.rmtree(old, ignore_errors=True)


def write_dataset(root, num_training: int = 240, num_test: int = 96, seed: int = 0) -> Path:
    """Write drawn faces in the layout of the course data and return root.

    training/, test/ (RGBA PNG files named .jpg) and two CSV files; nobody is in both splits. See `write_once`.
    """

    def write(folder):
        people = write_split(folder / "training", folder / "training_frames_keypoints.csv", 0, num_training, seed)
        write_split(folder / "test", folder / "test_frames_keypoints.csv", people, num_test, seed)

    return write_once(root, fingerprint(num_training=num_training, num_test=num_test, seed=seed), write)


def main(arguments: list[str]) -> str | None:
    """The command line; returns None or what is wrong."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        return "usage: python -m data_sets.drawn_faces DEST   (writes drawn faces with keypoints into the folder DEST)"
    try:
        root = write_dataset(arguments[0])
    except OSError as error:
        return str(error)
    counts = [len(list((root / split).iterdir())) for split in ("training", "test")]
    print(f"{counts[0]} training and {counts[1]} test frames of drawn faces are in {root}")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
