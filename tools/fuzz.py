"""Feed damaged and odd inputs to the library, tracker and command; anything but a result or DataError is a fault.

    python -m tools.fuzz                     4000 inputs, some minutes
    python -m tools.fuzz --only 1234         one of them, with its traceback

Every input is generated from its number. Faults are: another exception, a crash, more than SECONDS of computing, a
result of a wrong shape, more than MEGABYTES of memory. The inputs are checked in a separate process, which may die.
"""

import argparse
import io
import json
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from PIL import Image

from data_sets.drawn_faces import draw_face
from facial_keypoints import __main__ as command
from facial_keypoints.align import aligned_face
from facial_keypoints.drawing import draw_faces
from facial_keypoints.filters import WEARABLES, wear
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError, read_image
from facial_keypoints.morph import morph, swap_face
from facial_keypoints.pipeline import Face, FacePipeline
from facial_keypoints.pose import head_pose
from facial_keypoints.results import Drawing
from facial_keypoints.tracker import Tracker
from facial_keypoints.video import VIDEOS, track_video

INPUTS, SECONDS, MEGABYTES = 4000, 5, 2000
PATIENCE = 60  # seconds without an answer after which the process is killed; long, since the machine may be busy
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
MODES = "1 L P PA LA La RGB RGBA RGBa RGBX CMYK YCbCr LAB HSV I F I;16".split()
TYPES = "u1 u2 >u2 i1 i4 u8 f2 f4 f8 c8 ? O S3 U2".split()
NUMBERS = (0, 1, -1, 0.5, 1e-30, -1e-30, 1e-5, 1e5, 1e9, 1e30, -1e30, 3e38, 1e300, np.nan, np.inf, -np.inf)
CONTAINERS = {".mp4": "libx264", ".mkv": "libx264", ".avi": "mjpeg", ".mov": "mpeg4"}
PIXELS, KEYPOINTS = draw_face(3)
FACE_BOX = tight_box(KEYPOINTS)


class Fault(Exception):
    """A wrong result."""


def expect(condition: bool, what: str) -> None:
    """Raise Fault unless the condition holds."""
    if not condition:
        raise Fault(what)


# ---- inputs


def picture_bytes(rng: random.Random) -> bytes:
    """A picture file in one of the FORMATS and one of its modes."""
    picture = Image.fromarray(PIXELS if rng.random() < 0.5 else PIXELS[::4, ::4])
    modes, kind = ["RGB", "RGB", "L", "P", "1", "RGBA", "CMYK", "I;16", "F"], rng.choice(FORMATS)
    content = io.BytesIO()
    for mode in (rng.choice(modes), "RGB"):
        try:
            picture.convert(mode).save(content, kind)
            break
        except (OSError, ValueError):  # a mode that the format does not have
            content = io.BytesIO()
    return content.getvalue()


@cache
def video_bytes(kind: str) -> bytes:
    """A video of twelve frames of the drawn face, which moves, with a key frame every four."""
    import av

    content, size = io.BytesIO(), (128, 128)
    with av.open(content, "w", {".mkv": "matroska"}.get(kind, kind[1:])) as file:
        stream = file.add_stream(CONTAINERS[kind], 25, {"g": "4"})
        (stream.width, stream.height), stream.pix_fmt = size, "yuvj420p" if kind == ".avi" else "yuv420p"
        for number in range(12):
            image = cv2.resize(np.roll(PIXELS, number, axis=1), size)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    return content.getvalue()


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The content truncated, with bytes changed, inserted or deleted, or continued by another picture."""
    data, place = bytearray(content), rng.randrange(len(content))
    way = rng.choice(("cut", "flip", "flip", "head", "head", "zeros", "insert", "delete", "splice"))
    if way == "cut":
        del data[place:]
    elif way in ("flip", "head"):
        within = len(data) if way == "flip" else min(len(data), 100)
        for _ in range(rng.choice((1, 3, 30))):
            data[rng.randrange(within)] = rng.choice((0, 255, 127, 128, rng.randrange(256)))
    elif way == "zeros":
        data[place : place + 200] = bytes(len(data[place : place + 200]))
    elif way == "insert":
        data[place:place] = rng.randbytes(rng.choice((1, 100)))
    elif way == "delete":
        del data[place : place + rng.choice((1, 100))]
    else:
        data[place:] = picture_bytes(rng)[place:]
    return bytes(data)


def odd_array(rng: random.Random):
    """An array, or something like one, of any shape and type."""
    shape = tuple(rng.choice((0, 1, 2, 3, 4, 5, 40, 200)) for _ in range(rng.choice((0, 1, 2, 3, 3, 3, 4))))
    if rng.random() < 0.4:
        shape = (*shape[:2], rng.choice((1, 3, 4)))
    numbers = np.random.default_rng(rng.randrange(2**32)).random(shape) * 300
    with np.errstate(all="ignore"):
        array = np.asarray(numbers).astype(rng.choice(("u1", *TYPES)))
    way = rng.choice(("as is", "list", "turned", "strided", "masked", "read only"))
    if way == "list":
        return array.tolist()
    if way == "turned":
        return array.T
    if way == "strided" and array.ndim:
        return array[::-1]
    if way == "masked":
        return np.ma.masked_array(array, mask=False)
    if way == "read only":
        array.flags.writeable = False
    return array


def odd_picture(rng: random.Random):
    """Not an RGB uint8 array of a usual size: other modes and types, long and empty shapes, or no picture at all."""
    way = rng.choice(("mode", "mode", "array", "array", "array", "long", "no picture"))
    if way == "mode":
        size = rng.choice(((1, 1), (3, 200), (60, 50), (0, 7)))
        return Image.new(rng.choice(MODES), size)
    if way == "array":
        return odd_array(rng)
    if way == "long":
        shape = rng.choice(((1, 40_000, 3), (40_000, 2, 3), (33_000, 40), (2, 3, 3), (31, 33, 4)))
        return np.random.default_rng(rng.randrange(99)).integers(0, 256, shape, np.uint8)
    return rng.choice((None, b"bytes", "", "\0", [], [[]], {}, 3, object(), [[1], [1, 2]], "x" * 5000, Path(".")))


def odd_boxes(rng: random.Random):
    """Boxes that are empty, far outside, not finite, of other shapes and types, among valid ones."""
    way = rng.choice(("numbers", "numbers", "numbers", "array", "no boxes"))
    if way == "array":
        return odd_array(rng)
    if way == "no boxes":
        return rng.choice((None, [], "box", [[]], [[1, 2, 3]], np.empty((0, 4)), np.empty((3, 0)), [None] * 4, {}))
    boxes = np.tile(FACE_BOX.astype(float), (rng.choice((1, 2, 20)), 1))
    for _ in range(rng.choice((1, 2, 4))):
        boxes[rng.randrange(len(boxes)), rng.randrange(4)] = rng.choice(NUMBERS)
    return boxes


def odd_keypoints(rng: random.Random):
    """Keypoints of a face, some of them moved anywhere."""
    points = KEYPOINTS.astype(float).copy()
    if rng.random() < 0.2:
        return odd_array(rng)
    if rng.random() < 0.3:
        points[:] = points[0]
    for _ in range(rng.choice((1, 5, 68))):
        points[rng.randrange(68), rng.randrange(2)] = rng.choice(NUMBERS)
    return points


# ---- checks


def check_image(image) -> None:
    """An image is RGB uint8 (H, W, 3)."""
    right = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    expect(right and image.size > 0, f"an image {getattr(image, 'dtype', type(image))} {getattr(image, 'shape', '')}")


def check_faces(faces) -> None:
    """Faces have finite keypoints and confidences between 0 and 1."""
    expect(isinstance(faces, list), f"faces are {type(faces)}")
    for face in faces:
        expect(face.keypoints.shape == (68, 2) and np.isfinite(face.keypoints).all(), "keypoints")
        expect(
            face.confidence.shape == (68,) and ((face.confidence >= 0) & (face.confidence <= 1)).all(), "confidence"
        )
        expect(face.pose is None or np.isfinite(face.pose.rotation).all(), "pose")


def check_file(rng: random.Random, pipeline: FacePipeline, folder: Path) -> None:
    """A damaged file gives an image or a DataError, and the image gives a list of faces."""
    path = folder / f"photo.{rng.choice(('jpg', 'png', 'tif', 'gif', 'eps', 'txt'))}"
    path.write_bytes(damaged(picture_bytes(rng), rng))
    image = read_image(path)
    check_image(image)
    if image.size < 1e6:
        check_faces(pipeline(image))


def check_picture(rng: random.Random, pipeline: FacePipeline, folder: Path) -> None:
    """An odd picture gives a list of faces."""
    picture = odd_picture(rng)
    found = pipeline(picture)
    for faces in found if isinstance(picture, list | tuple) else [found]:
        check_faces(faces)


def check_boxes(rng: random.Random, pipeline: FacePipeline, folder: Path) -> None:
    """Odd boxes give one set of keypoints each, and with odd scores a list of faces."""
    boxes = odd_boxes(rng)
    points = pipeline.keypoints(PIXELS, boxes)
    expect(points.shape == (np.size(boxes) // 4, 68, 2) and np.isfinite(points).all(), f"keypoints {points.shape}")
    check_faces(
        pipeline.faces(PIXELS, boxes, rng.choice((np.ones(len(points)), [1.0], [np.nan] * len(points), [], None)))
    )


def check_uses(rng: random.Random, pipeline: FacePipeline, folder: Path) -> None:
    """Everything that uses keypoints, with odd ones."""
    points = odd_keypoints(rng)
    use = rng.choice((wear, draw_faces, head_pose, aligned_face, swap_face, morph))
    if use is wear:
        result = wear(PIXELS, points, rng.choice(tuple(WEARABLES)))
    elif use is draw_faces and np.shape(points) == (68, 2) and (np.abs(points) < 1e38).all():
        result = draw_faces(PIXELS, [Face(points.astype(np.float32), 1.0)])
    elif use is aligned_face:
        expect(aligned_face(PIXELS, points, 112).shape == (112, 112, 3), "an aligned face")
        return
    elif use is swap_face:
        result = swap_face(PIXELS, *rng.choice(((points, PIXELS, KEYPOINTS), (KEYPOINTS, PIXELS, points))))
    elif use is morph:
        expect(morph(PIXELS, points, PIXELS, KEYPOINTS, 0.5, 200).shape == (200, 200, 3), "a morph")
        return
    else:
        expect(head_pose(points).rotation.shape == (3, 3), "rotation")
        return
    expect(result.shape == PIXELS.shape and result.dtype == np.uint8, f"a picture {result.shape}")


def check_video(rng: random.Random, pipeline: FacePipeline, folder: Path) -> None:
    """A truncated or damaged video gives all its results, for every frame that can be decoded, or none."""
    kind, output = rng.choice(tuple(CONTAINERS)), folder / "output"
    content = video_bytes(kind)
    content = content[: rng.randrange(len(content))] if rng.random() < 0.3 else damaged(content, rng)
    path = folder / f"video{rng.choice((kind, kind, *sorted(VIDEOS)))}"
    path.write_bytes(content)
    drawing = Drawing(keypoints=True) if rng.random() < 0.7 else None
    try:
        with warnings.catch_warnings(action="ignore"):
            summary = track_video(path, output, pipeline, drawing)
    except DataError:
        expect(not output.exists() or not any(output.iterdir()), "half of the results")
        raise
    (table,) = output.glob("*.jsonl")
    numbers = [json.loads(line)["frame"] for line in table.read_text().splitlines()]
    expect(numbers == list(range(summary.frames)) and summary.frames > 0, f"lines {numbers}, {summary.frames} frames")
    expect(len(list(output.iterdir())) == 1 + bool(drawing), "results")


def check_tracker(rng: random.Random, pipeline: FacePipeline, folder: Path) -> None:
    """Odd frames at odd times: no identity twice in a frame, and a rejected frame leaves the tracker unchanged."""
    tracker, seconds = Tracker(pipeline, interval=rng.choice((0, 0.3, 99)), memory=rng.choice((0, 2))), 0.0
    for _ in range(6):
        frame = rng.choice((PIXELS, PIXELS, np.roll(PIXELS, 9, axis=0), PIXELS[::2, ::2], PIXELS[:40], None))
        frame = odd_picture(rng) if frame is None else frame
        step = rng.choice((1 / 30, 1 / 30, 1e-9, 5, 0, -1, np.nan, np.inf))
        try:
            found = tracker(frame, seconds + step)
        except DataError:
            continue
        seconds += step
        check_faces([tracked.face for tracked in found])
        identities = [tracked.identity for tracked in found]
        expect(identities == sorted(set(identities)), f"identities {identities}")


def check_command(rng: random.Random, pipeline: FacePipeline, folder: Path) -> None:
    """A folder of damaged files gives a line for each, and the right exit code."""
    photos, output = folder / "photos", folder / "output"
    photos.mkdir()
    for number in range(6):
        (photos / f"{number}.jpg").write_bytes(damaged(picture_bytes(rng), rng))
    arguments = [str(photos), "--output", str(output), rng.choice(("--draw", "--csv", "--filter=hat"))]
    ours = mock.patch.object(command, "FacePipeline", lambda *_, **__: pipeline)
    with ours, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        code = command.main(arguments)
    lines = [json.loads(line) for line in (output / "keypoints.jsonl").read_text().splitlines()]
    expect(len(lines) == 6, f"{len(lines)} lines")
    errors = [line["error"] for line in lines if "error" in line]
    expect(code == int(bool(errors)), f"exit code {code} and {len(errors)} errors")
    expect(not any("unexpected" in error or "\n" in error for error in errors), f"errors {errors}")


CHECKS = (
    *(check_file, check_file, check_file, check_picture, check_boxes, check_uses, check_command),
    *(check_video, check_tracker),
)


def fault_of(number: int, pipeline: FacePipeline) -> str | None:
    """What is wrong with the result for an input, None if nothing is."""
    rng, start = random.Random(number), time.process_time()
    check = CHECKS[number % len(CHECKS)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(rng, pipeline, Path(folder))
        except DataError as error:
            if "\n" in str(error):
                return f"{check.__name__}: a sentence of several lines: {error}"
        except Exception:
            return f"{check.__name__}: {traceback.format_exc(limit=-6)}"
    seconds = time.process_time() - start
    return f"{check.__name__}: {seconds:.1f} seconds" if seconds > SECONDS else None


# ---- a process that may die


def answer(numbers: range, pipe) -> None:
    """Check inputs and send what is wrong with each, and the memory used so far."""
    import resource  # not on Windows

    pipeline = FacePipeline("fast", threads=1)
    for number in numbers:
        fault = fault_of(number, pipeline)
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
        pipe.send((number, fault, megabytes))


def check_all(numbers: range, report: Callable) -> float:
    """Check inputs; report(number, fault) is called for each. Returns the largest memory of a process, in MB."""
    most = 0.0
    while numbers:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=answer, args=(numbers, theirs))
        process.start()
        theirs.close()
        try:
            while numbers:
                if not ours.poll(PATIENCE):
                    raise TimeoutError
                number, fault, megabytes = ours.recv()
                numbers, most = numbers[1:], max(most, megabytes)
                report(number, fault)
        except (EOFError, TimeoutError) as error:
            process.kill()
            silent = isinstance(error, TimeoutError)
            report(numbers[0], f"no answer in {PATIENCE} seconds" if silent else "it crashed")
            numbers = numbers[1:]
        process.join()
    return most


def main() -> int:
    """Check and report; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--only", type=int, metavar="NUMBER")
    args = parser.parse_args()
    numbers = range(args.inputs) if args.only is None else range(args.only, args.only + 1)
    faults = Counter()

    def report(number, fault):
        faults[number] += fault is not None
        if fault:
            print(f"input {number}: {fault}", flush=True)

    megabytes = check_all(numbers, report)
    print(f"{len(numbers)} inputs, {faults.total()} faults, at most {megabytes:.0f} MB")
    return int(faults.total() > 0 or megabytes > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
