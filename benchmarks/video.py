"""How well and how fast faces are tracked in videos: drawn heads and moved photos, with ground truth for every frame.

    python -m benchmarks.video        writes video.csv, video_filters.csv and video_speed.csv in results/; some minutes

Two drawn people stay still, turn, tilt, talk, move, and leave and come back: three seconds each at 30 frames a second
and 320x240 pixels with a camera's noise, faces about 100 pixels wide. Held-out photos of 300-W (2012
cut-outs from AFW, HELEN, LFPW) are shown in such frames at rest, zoomed, panned and shaken; their truth is the labels,
moved with them. Tracker follows them with `fast`. Filters are compared with the same filters on the true keypoints.
"""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd

from benchmarks.detector import held_out
from benchmarks.filters import keypoints_of, places
from benchmarks.tables import RESULTS
from data_sets.face_drawing.people import Face, Scene, draw_person, draw_scene, express, rotation_of, slide_outline
from data_sets.face_drawing.portrait import paint
from facial_keypoints import FacePipeline, Tracker
from facial_keypoints.geometry import tight_box, transform_points, warp
from facial_keypoints.results import Drawing
from facial_keypoints.video import track_video

PEOPLE = (1, 2)  # seeds: a dark face in little light, and a light one
RATE, SECONDS = 30, 3
WIDTH, HEIGHT = 320, 240
EYES = 66  # pixels between the outer eye corners
ZOOM = 1.5  # frames are painted larger, then reduced
NOISE = 4  # the camera's: standard deviation in gray levels of 255
SETTLED = 10  # frames before jitter is measured
WORN = ("sunglasses", "hat")
EVERY, FACE = 40, 100  # photos of 300-W that are moved; pixels of the longer side of their faces


def wave(seconds: float, period: float = 2.0) -> float:
    """A sine of time, between -1 and 1."""
    return float(np.sin(2 * np.pi * seconds / period))


# Movements of a head: its scene and its middle, as a fraction of the picture, at a time in seconds.


def still(scene, seconds):
    """A head that does not move."""
    return scene, (0.5, 0.5)


def turn(scene, seconds):
    """The head turns to both sides by 35 degrees and nods by 10."""
    return replace(scene, angles=np.radians([35 * wave(seconds), 10 * wave(seconds, 1.5), 0])), (0.5, 0.5)


def tilt(scene, seconds):
    """The head tilts to both sides by 35 degrees."""
    return replace(scene, angles=np.radians([0, 0, 35 * wave(seconds)])), (0.5, 0.5)


def talk(scene, seconds):
    """The mouth opens and closes five times a second; the eyes blink once."""
    lids = np.full(2, 0.1 if seconds % 1 < 0.1 else 1.0)
    return replace(scene, gape=0.5 * wave(seconds, 0.4) ** 2, lids=lids), (0.5, 0.5)


def move(scene, seconds):
    """From side to side, at up to two box widths a second."""
    return scene, (0.5 + 0.2 * wave(seconds), 0.5)


def leave(scene, seconds):
    """Out of the picture for a second, and back on the same side."""
    return scene, (0.5 - 0.9 * min(0.0, np.cos(2 * np.pi * seconds / SECONDS)), 0.5)


PATHS = (still, turn, tilt, talk, move, leave)


# Movements of a camera: scale, shift as a fraction of the picture, and degrees, at a time in seconds.


def rest(seconds):
    """No movement."""
    return 1.0, (0.0, 0.0), 0.0


def zoom(seconds):
    """In and out by a factor of 1.4."""
    return 1.4 ** wave(seconds), (0.0, 0.0), 0.0


def pan(seconds):
    """From side to side by a fifth of the picture, up and down by a twentieth."""
    return 1.0, (0.2 * wave(seconds), 0.05 * wave(seconds, 1.5)), 0.0


def shake(seconds):
    """As by hand: three to six times a second, by about 1 % of the picture and a degree."""
    return 1.0, (0.01 * wave(seconds, 0.31), 0.01 * wave(seconds + 0.1, 0.23)), wave(seconds, 0.17)


CAMERAS = (rest, zoom, pan, shake)


def photo_frames(photo: np.ndarray, keypoints: np.ndarray, camera: Callable) -> Iterator[tuple]:
    """Frames of a photo, as from `frames`; the face is in the middle of the picture when the camera is at rest."""
    noise, box = np.random.default_rng(0), tight_box(keypoints)
    for number in range(RATE * SECONDS):
        scale, shift, degrees = camera(number / RATE)
        factor = scale * FACE / box[2:].max() * np.exp(1j * np.radians(degrees))
        turn = np.array([(factor.real, -factor.imag), (factor.imag, factor.real)])
        place = (0.5 + np.array(shift)) * (WIDTH, HEIGHT) - turn @ (box[:2] + box[2:] / 2)
        matrix = np.column_stack([turn, place])
        image = warp(photo, matrix, (WIDTH, HEIGHT)) + NOISE * noise.standard_normal((HEIGHT, WIDTH, 3))
        yield np.clip(image, 0, 255).astype(np.uint8), number / RATE, transform_points(matrix, keypoints)


def quiet(scene: Scene) -> Scene:
    """The scene with a level head, eyes open and mouth closed."""
    calm = {"angles": np.zeros(3), "lids": np.ones(2), "gape": 0.0, "smile": 0.2, "brow_lift": 0.0, "frown": 0.0}
    return replace(scene, **calm, distance=10.0)


def frames(seed: int, path: Callable) -> Iterator[tuple[np.ndarray, float, np.ndarray]]:
    """RGB uint8 frames of somebody, their times in seconds, and the keypoints (68, 2)."""
    person, scene = draw_person(np.random.default_rng((seed, 0))), quiet(draw_scene(np.random.default_rng((seed, 1))))
    noise, size = np.random.default_rng((seed, 2)), np.array((WIDTH, HEIGHT))
    for number in range(RATE * SECONDS):
        moved, middle = path(scene, number / RATE)
        shape = express(person.shape, moved)
        slide_outline(shape, moved.angles[0])
        face = Face(person, moved, shape, rotation_of(moved.angles), ZOOM * EYES)
        face.offset = middle * size * ZOOM - face.project(np.zeros((1, 3)))[0]
        height, width = (int(side * ZOOM) for side in (HEIGHT, WIDTH))
        wide = 2 if path is leave else 1  # the painter needs room outside the picture
        canvas = paint((height, wide * width), face, np.random.default_rng((seed, 3)))  # the same strokes every time
        image = cv2.resize(canvas[:, :width], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        image = np.clip(image + NOISE * noise.standard_normal(image.shape), 0, 255).astype(np.uint8)
        yield image, number / RATE, (face.points + 0.5) / ZOOM - 0.5


def follow(film: list, tracker: Tracker) -> tuple[np.ndarray, list]:
    """Keypoints (T, 68, 2) of the tracked face, NaN where there is none, and its identities."""
    points, identities = np.full((len(film), 68, 2), np.nan), []
    for number, (image, seconds, _) in enumerate(film):
        for tracked in tracker(image, seconds)[:1]:
            points[number] = tracked.face.keypoints
            identities.append(tracked.identity)
    return points, identities


@dataclass(frozen=True)
class Followed:
    """Keypoints (T, 68, 2) of the face of a film: true, as tracked without smoothing, and as tracked.

    NaN where the face is lost; identities: those of the tracked face.
    """

    truth: np.ndarray
    raw: np.ndarray
    smooth: np.ndarray
    identities: list

    @property
    def size(self) -> float:
        """One percent of the box's longer side, in the first frame."""
        return np.ptp(self.truth[0], axis=0).max() / 100


def follow_twice(film: list, pipeline: FacePipeline) -> Followed:
    """The face of a film, with and without smoothing."""
    truth = np.array([keypoints for _, _, keypoints in film])
    raw, _ = follow(film, Tracker(pipeline, cutoff=np.inf))
    return Followed(truth, raw, *follow(film, Tracker(pipeline)))


def in_view(keypoints: np.ndarray) -> bool:
    """Whether all of a face is in the picture."""
    x, y, w, h = tight_box(keypoints)
    return bool(x >= 0 and y >= 0 and x + w < WIDTH and y + h < HEIGHT)


def moves(truth: np.ndarray) -> bool:
    """Whether keypoints (T, 68, 2) change."""
    return bool(np.ptp(truth, axis=0).max() > 1e-6)


def measure(face: Followed, rigid: bool) -> dict:
    """The columns of the table for one film; lengths in % of the box's longer side.

    rigid: the face does not change its shape, so that any movement of its points against the truth is jitter.
    """
    truth, raw, smooth, size = face.truth, face.raw, face.smooth, face.size
    seen = np.array([in_view(keypoints) for keypoints in truth])
    row = {
        "frames": int(seen.sum()),
        "lost": int((seen & np.isnan(smooth[:, 0, 0])).sum()),
        "identity switches": int(np.count_nonzero(np.diff(face.identities))),
        "error, not smoothed": error(raw, truth, seen) / size,
        "error": error(smooth, truth, seen) / size,
    }
    if rigid:
        (sway_raw, jitter_raw), (sway, steps) = jitter(raw - truth) / size, jitter(smooth - truth) / size
        row |= {"sway, not smoothed": sway_raw, "sway": sway, "jitter, not smoothed": jitter_raw, "jitter": steps}
    return row | {"lag, frames": lag(smooth, truth)} if moves(truth) and seen.all() else row


def photo_row(faces: list[Followed]) -> dict:
    """The row of a camera: means over all photos, and sums of the counts."""
    table = pd.DataFrame([measure(face, rigid=True) for face in faces])
    counts = table[["frames", "lost", "identity switches"]].sum()
    return table.mean().to_dict() | {name: int(count) for name, count in counts.items()}


def worn_places(name: str, keypoints: np.ndarray) -> np.ndarray:  # (T, P, 2)
    """The points of a filter on keypoints (T, 68, 2), NaN where the face is lost."""
    lost = np.full_like(places(name, keypoints_of(0)), np.nan)
    return np.array([lost if np.isnan(points).any() else places(name, points) for points in keypoints])


def filter_rows(face: Followed) -> Iterator[dict]:
    """A row for each filter: its jitter against the filter on the true keypoints, in % of the box, and its lag."""
    for name in WORN:
        truth, raw, smooth = (worn_places(name, points) for points in (face.truth, face.raw, face.smooth))
        jitters = {"jitter, not smoothed": jitter(raw - truth)[1], "jitter": jitter(smooth - truth)[1]}
        row = {"filter": name} | {column: steps / face.size for column, steps in jitters.items()}
        yield row | {"lag, frames": lag(smooth, truth)} if moves(face.truth) else row


def error(points, truth, seen) -> float:
    """The mean distance to the truth."""
    return float(np.nanmean(np.linalg.norm(points - truth, axis=2)[seen]))


def jitter(points) -> np.ndarray:  # (2,)
    """Sway and jitter of points against the truth: their standard deviation, and the mean step between frames."""
    points = points[SETTLED:]
    steps = np.linalg.norm(np.diff(points, axis=0), axis=2)
    return np.array([np.sqrt(np.nanvar(points, axis=0).sum(axis=1).mean()), np.nanmean(steps)])


def lag(points, truth) -> float:
    """How many frames the points are behind the truth: the multiple of its velocity that fits the difference best."""
    velocity = np.gradient(truth, axis=0)
    behind = truth - points
    behind = behind - np.nanmean(behind, axis=0)
    return float(np.nansum(behind * velocity) / (velocity**2)[~np.isnan(points)].sum())


def write_film(path: Path, images: list) -> None:
    """RGB images as an H.264 video."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", RATE)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))


def speed(films: list, pipeline: FacePipeline) -> list[dict]:
    """Milliseconds a frame of 640x480 from file to drawn file, with one face and with four."""
    one, rows = [cv2.resize(image, (2 * WIDTH, 2 * HEIGHT)) for image, _, _ in films[0]], []
    four = [np.tile(image, (2, 2, 1)) for image, _, _ in films[0]]
    with tempfile.TemporaryDirectory() as folder:
        for faces, images in ((1, one), (4, four)):
            source = Path(folder, f"{faces}.mp4")
            write_film(source, images)
            start = time.perf_counter(), time.process_time()
            summary = track_video(source, Path(folder), pipeline, Drawing(keypoints=True))
            wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
            assert len(summary.identities) == faces and summary.frames == len(images)
            rows.append({"faces": faces, "ms a frame": 1e3 * wall / len(images), "CPU ms": 1e3 * cpu / len(images)})
    return rows


def main() -> None:
    """Measure and write the tables."""
    pipeline, rows, worn, films = FacePipeline("fast", threads=1), [], [], []
    for path in PATHS:
        for seed in PEOPLE:
            films.append(list(frames(seed, path)))
            face = follow_twice(films[-1], pipeline)
            rows.append({"what": path.__name__, "person": seed} | measure(face, path is still))
            if path is not leave:
                worn += [{"what": path.__name__} | row for row in filter_rows(face)]
    photos = list(held_out("300-W", EVERY))
    for camera in CAMERAS:
        what = {"what": f"photo, {camera.__name__}"}
        faces = [follow_twice(list(photo_frames(*photo, camera)), pipeline) for photo in photos]
        rows.append(what | {"person": f"{len(photos)} photos"} | photo_row(faces))
        worn += [what | row for face in faces for row in filter_rows(face)]
    table = pd.DataFrame(rows).round(3)
    table.to_csv(RESULTS / "video.csv", index=False)
    print(table.to_string())
    table = pd.DataFrame(worn).groupby(["what", "filter"], sort=False).mean().round(3)
    table.to_csv(RESULTS / "video_filters.csv")
    print(table.to_string())
    table = pd.DataFrame(speed(films[len(PEOPLE) :], pipeline)).round(1)
    machine = f"{os.cpu_count()} cores of {platform.machine()}, load {os.getloadavg()[0]:.0f}"
    table["measured on"] = machine
    table.to_csv(RESULTS / "video_speed.csv", index=False)
    print(table.to_string())


if __name__ == "__main__":
    main()
