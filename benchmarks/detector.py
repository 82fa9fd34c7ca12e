"""Misses and false positives of each detector by head turn, face size and tilt, with and without the veto of
the network, which drops faces with low confidence and rotates photos in which nobody was found.

    python -m benchmarks.detector                    writes results/detector.csv
    python -m benchmarks.detector --photos 300-W     these photos only; other rows are kept

The network is the shipped `accurate`. Every photo has one labelled face, so some "other boxes" are real faces without
labels. Times are processor times per photo on one core, without reading the file.
300-W means 2012 cut-outs from three of its sources (AFW, HELEN, LFPW).
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import skimage
from tqdm import tqdm

import metrics
from benchmarks.tables import RESULTS, merge_rows
from data_sets.find import find_data
from data_sets.ibug_300w import load_ibug, split_photos
from data_sets.pose_set import FOLDERS, load_pose_set
from data_sets.splits import Split, check_not_learned, real_splits
from detector_architectures.haar import HaarDetector
from detector_architectures.yunet import YuNetDetector
from facial_keypoints.geometry import resize, resize_matrix, tight_box, transform_points
from facial_keypoints.images import DataError, read_image
from facial_keypoints.pipeline import FacePipeline

DETECTORS = {"haar": HaarDetector, "yunet": YuNetDetector}
TURNS = {"0 to 30": (0, 30), "30 to 60": (30, 60), "60 and more": (60, 181)}  # degrees to the side
SIZES = (16, 24, 32, 64, 128)  # pixels, the longer side of the face's box
TILTS = (15, 30, 45, 60, 90, 180)  # degrees
LARGE = (1920, 1440)
PEOPLE = ("astronaut", "camera", "coins")  # scikit-image's pictures that show people, or faces on coins

Photo = tuple[np.ndarray, np.ndarray | None]  # an image and the tight box of its face


@cache
def everyone() -> Split:
    """The split that the shipped networks were trained on."""
    split = real_splits(find_data())[0]
    check_not_learned(split.tests["300-W"].groups)
    return split


def labelled(faces) -> Iterator[Photo]:
    """Photos of a data set, each with the box of its face."""
    return ((sample["image"], tight_box(sample["keypoints"])) for sample in (faces[i] for i in range(len(faces))))


def held_out(name: str, every: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and keypoints of a test of `everyone`."""
    for part in everyone().tests[name].parts:
        for i in range(0, len(part), every):
            yield part[i]["image"], part[i]["keypoints"]


def tests(name: str) -> Iterator[Photo]:
    """The photos of a test of the protocol."""
    return ((image, tight_box(points)) for image, points in held_out(name))


def course_training() -> Iterator[Photo]:
    """Every twentieth training frame."""
    frames = everyone().training[0]
    return labelled(frames.subset(range(0, len(frames), 20)))


def ibug_training() -> Iterator[Photo]:
    """Every tenth training photo of 300-W."""
    faces = split_photos(load_ibug()[0])[0]
    faces = faces.subset(np.flatnonzero(~faces.mirrored))
    return labelled(faces.subset(range(0, len(faces), 10)))


def turned(low: float, high: float) -> Iterator[Photo]:
    """Faces of the pose set with a yaw in the given range of degrees."""
    faces = load_pose_set()
    if faces is None:
        raise DataError(f"the data folder has no {' or '.join(FOLDERS)}")
    yaw = np.abs(faces.yaws)
    return labelled(faces.subset(np.flatnonzero((low <= yaw) & (yaw < high))))


def small(size: int) -> Iterator[Photo]:
    """Every twentieth held-out photo of 300-W, its face made `size` pixels large, in a large gray picture."""
    rng = np.random.default_rng(size)
    for image, keypoints in held_out("300-W", 20):
        scale = size / tight_box(keypoints)[2:].max()
        new = tuple(max(1, round(scale * side)) for side in image.shape[1::-1])
        x, y = (int(rng.integers(0, large - side)) for large, side in zip(LARGE, new, strict=True))
        photo = np.full((*LARGE[::-1], 3), 127, np.uint8)
        photo[y : y + new[1], x : x + new[0]] = resize(image, new)
        box = tight_box(transform_points(resize_matrix(image.shape[1::-1], new), keypoints))
        yield photo, box + np.array([x, y, 0, 0], np.float32)


def tilted(degrees: float) -> Iterator[Photo]:
    """Every tenth held-out photo of 300-W, turned in the plane, in a black picture that holds all of it."""
    for image, keypoints in held_out("300-W", 10):
        side = int(np.ceil(np.hypot(*image.shape[:2])))
        matrix = cv2.getRotationMatrix2D(((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2), degrees, 1)
        matrix[:, 2] += (side - image.shape[1]) / 2, (side - image.shape[0]) / 2
        yield cv2.warpAffine(image, matrix, (side, side)), tight_box(transform_points(matrix, keypoints))


def nobody() -> Iterator[Photo]:
    """200 pictures without people: the 100 backgrounds of scikit-image's lfw_subset, enlarged eight times, its sample
    pictures, and tiles of 256 pixels of these."""
    folder = Path(skimage.__file__).parent / "data"
    files = sorted(file for file in folder.iterdir() if file.suffix in (".png", ".jpg") and file.stem not in PEOPLE)
    whole = [read_image(file) for file in files]
    tiles = [
        image[y : y + 256, x : x + 256]
        for image in whole
        for y in range(0, image.shape[0] - 255, 192)
        for x in range(0, image.shape[1] - 255, 192)
    ]
    patches = (255 * np.load(folder / "lfw_subset.npy")[100:]).astype(np.uint8)
    patches = [cv2.cvtColor(resize(patch, (200, 200)), cv2.COLOR_GRAY2RGB) for patch in patches]
    for image in [*patches, *whole, *tiles][:200]:
        yield np.ascontiguousarray(image), None


PHOTOS: dict[str, Callable[[], Iterator[Photo]]] = {
    "course, training": course_training,
    "300-W, training": ibug_training,
    "course, official": partial(tests, "official"),
    "300-W": partial(tests, "300-W"),
    **{f"heads turned by {name} degrees": partial(turned, *limits) for name, limits in TURNS.items()},
    **{f"faces of {size} pixels in {LARGE[0]} x {LARGE[1]}": partial(small, size) for size in SIZES},
    **{f"photos tilted by {degrees} degrees": partial(tilted, degrees) for degrees in TILTS},
    "nobody": nobody,
}


def count(photos: list[Photo], find: Callable) -> dict[str, float]:
    """Faces missed, other boxes and milliseconds a photo; find: image -> boxes (N, 4)."""
    missed, others, seconds = 0, 0, 0.0
    for image, box in photos:
        start = time.process_time()
        found = np.reshape(find(image), (-1, 4))
        seconds += time.process_time() - start
        match = -1 if box is None else metrics.match_boxes(found, box[None])[0]
        missed += int(box is not None and match < 0)
        others += len(found) - int(match >= 0)
    faces = sum(box is not None for _, box in photos)
    part = {"found %": round(100 * (1 - missed / faces), 2)} if faces else {}
    return {"photos": len(photos), "missed": missed, **part, "other boxes": others, "ms": 1000 * seconds / len(photos)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", nargs="+", choices=PHOTOS, default=list(PHOTOS))
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    args = parser.parse_args()
    cv2.setNumThreads(1)
    pipelines = {name: FacePipeline(detector=DETECTORS[name](), threads=1) for name in args.detectors}
    for name in tqdm(args.photos):
        photos, rows = list(PHOTOS[name]()), []
        for detector, pipeline in pipelines.items():
            ways = {"no": lambda image, p=pipeline: p.detector(image)[0]}
            ways["yes"] = lambda image, p=pipeline: [face.box for face in p(image)]
            for veto, find in ways.items():
                rows.append({"photos of": name, "detector": detector, "veto": veto} | count(photos, find))
        table = pd.DataFrame(rows).round({"ms": 1})
        merge_rows(table, RESULTS / "detector.csv", ["photos of", "detector", "veto"], PHOTOS)
        tqdm.write(table.to_string(index=False))


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":
        print("OMP_NUM_THREADS=1 is not set: times may add up those of several cores")
    main()
