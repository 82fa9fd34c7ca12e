"""What pip offers instead of this library: dlib's published 68 points and MediaPipe's face mesh, compared with ours.

    python -m benchmarks.peers                  errors that are not in results/peers.csv yet, then all speeds
    python -m benchmarks.peers --again          everything anew (for networks that have changed)
    python -m benchmarks.peers --what errors    these only, since a busy machine does not change them
    python -m benchmarks.peers --answers dlib fast

Each method ("way") is a process in an environment of its own (peer_processes.py). Faces are a seeded sample of each
test. Boxes are "jittered" (protocol.py), converted to the kind that the method's own detector gives, or those of its
"own detector", end to end. The schemes differ: a constant offset of each point, in the frame of the face, is estimated
on training faces and removed.
"""

import argparse
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import skimage.data
from torch.utils.data import ConcatDataset, Subset
from tqdm import tqdm

import metrics
from benchmarks import compare
from benchmarks.peer_processes import BUILD, WAYS, Way, Worker, cold_start, megabytes
from benchmarks.tables import RESULTS, merge_rows
from data_sets.find import find_data
from data_sets.ibug_300w import load_ibug, split_photos
from data_sets.pose_set import YAW_BANDS, load_pose_set
from data_sets.splits import HELD_OUT, check_not_learned, real_splits
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError
from protocol import jittered

FACES, FITTED_ON = 500, 300  # of each test; training faces for offsets and boxes
ROUNDS, STARTS = 15, 5
CROWDS = (1, 4, 16, 64)
PORTRAIT = np.s_[0:256, 96:352]  # of scikit-image's astronaut, in the public domain
POSE, UNSEEN = "turned", "unseen people"
KEYS = ["answer", "test", "boxes"]


# ---- faces


@dataclass(frozen=True)
class Faces:
    """Photos on disk, and the true keypoints (N, 68, 2) of a face in each.

    fit: "frames" or "photos", the training faces whose offsets and boxes apply; network: the folder of our networks
    that were trained without these people, None for the shipped ones.
    """

    photos: list[Path]
    keypoints: np.ndarray
    fit: str
    network: Path | None = None

    def __len__(self):
        return len(self.photos)


def saved(samples, count: int, folder: Path, **about) -> tuple[Faces, np.ndarray]:
    """A seeded sample of a data set with its pictures in a folder, and the positions of the sample."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(samples))[:count])
    folder.mkdir(parents=True)
    photos, keypoints = [], []
    for number, sample in zip(chosen, Subset(samples, chosen.tolist()), strict=True):
        photos.append(folder / f"{number}.npy")
        np.save(photos[-1], sample["image"])
        keypoints.append(sample["keypoints"])
    return Faces(photos, np.stack(keypoints), **about), chosen


def plain(parts):
    """Data sets as one, without a transform."""
    return ConcatDataset([part.with_transform(None) for part in parts])


def training_faces(root: Path) -> dict[str, Faces]:
    """Faces to fit offsets and boxes on: frames of the course's other people, and 300-W's training photos."""
    unseen = real_splits(find_data())[1]
    photos = split_photos(load_ibug()[0], HELD_OUT)[0]
    photos = photos.subset(np.flatnonzero(~photos.mirrored))
    return {
        name: saved(plain([faces]), FITTED_ON, root / name, fit=name)[0]
        for name, faces in (("frames", unseen.training[0]), ("photos", photos))
    }


def test_faces(root: Path) -> dict[str, Faces]:
    """The tests by name; the pose set in bands of yaw."""
    shipped, unseen = real_splits(find_data())
    check_not_learned(shipped.tests["300-W"].groups)
    tests = {
        UNSEEN: saved(
            plain(unseen.tests["unseen"].parts), FACES, root / "unseen", fit="frames", network=compare.BUILD / "unseen"
        )[0],
        "official": saved(plain(shipped.tests["official"].parts), FACES, root / "official", fit="frames")[0],
        "300-W": saved(plain(shipped.tests["300-W"].parts), FACES, root / "300-W", fit="photos")[0],
    }
    if pose := load_pose_set():
        faces, chosen = saved(plain([pose]), len(pose), root / "pose", fit="photos")
        turned = np.abs(pose.yaws[chosen])
        for band, (low, high) in YAW_BANDS.items():
            here = np.flatnonzero((turned >= low) & (turned < high))
            tests[f"{POSE} {band}"] = Faces([faces.photos[i] for i in here], faces.keypoints[here], "photos")
    return tests


# ---- offsets


def turn_and_size(points: np.ndarray, template: np.ndarray) -> np.ndarray:  # (N,) complex
    """The rotation and scale that take a template (68,) to each of points (N, 68), complex, by least squares."""
    centred = points - points.mean(axis=1, keepdims=True)
    return centred @ template.conj() / (template @ template.conj())


def as_complex(points: np.ndarray) -> np.ndarray:
    """Points (..., 2) as complex numbers."""
    return points[..., 0] + 1j * points[..., 1]


@dataclass(frozen=True)
class Fit:
    """The constant differences between a method's points and boxes and ours.

    template: the mean shape that it predicts; offset: the labels' offsets from it, in units of the template; both
    (68,), complex; centre, size: those of its boxes, as fractions of the tight box.
    """

    template: np.ndarray
    offset: np.ndarray
    centre: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, true: np.ndarray, boxes: np.ndarray) -> "Fit":
        """Medians over predicted and true points (N, 68, 2) and the way's boxes (N, 4)."""
        found, right = as_complex(points), as_complex(true)
        shapes = found - found.mean(axis=1, keepdims=True)
        shapes /= np.abs(shapes).mean(axis=1, keepdims=True)
        template = shapes.mean(axis=0)
        off = (right - found) / turn_and_size(found, template)[:, None]
        tight = np.stack([tight_box(face) for face in true])
        centre = (boxes[:, :2] + boxes[:, 2:] / 2 - tight[:, :2]) / tight[:, 2:]
        offset = np.median(off.real, axis=0) + 1j * np.median(off.imag, axis=0)
        return cls(template, offset, np.median(centre, axis=0), np.median(boxes[:, 2:] / tight[:, 2:], axis=0))

    def own_boxes(self, tight: np.ndarray) -> np.ndarray:  # (N, 4)
        """Boxes as the way's detector would give them for tight boxes."""
        size = tight[:, 2:] * self.size
        return np.hstack([tight[:, :2] + tight[:, 2:] * self.centre - size / 2, size])

    def without_offset(self, points: np.ndarray) -> np.ndarray:  # (N, 68, 2)
        """Predicted points, moved to where the labels' scheme has them."""
        found = as_complex(points)
        moved = found + turn_and_size(found, self.template)[:, None] * self.offset
        return np.stack([moved.real, moved.imag], axis=-1)


def find_all(worker: Worker, faces: Faces) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 68, 2) and boxes (N, 4) of the labelled faces by the way's own detector, NaN where it misses."""
    points, boxes = np.full((len(faces), 68, 2), np.nan), np.full((len(faces), 4), np.nan)
    for number, photo in enumerate(tqdm(faces.photos, leave=False)):
        found = worker(photo)
        tight = np.array([tight_box(face) for face in found["points"]]).reshape(-1, 4)
        (match,) = metrics.match_boxes(tight, tight_box(faces.keypoints[number])[None])
        if match >= 0:
            points[number], boxes[number] = found["points"][match], found["boxes"][match]
    return points, boxes


def locate_all(worker: Worker, faces: Faces, boxes: np.ndarray) -> np.ndarray:  # (N, 68, 2)
    """Points in given boxes (N, 4) of the way's kind."""
    pairs = zip(faces.photos, boxes, strict=True)
    return np.concatenate([worker(photo, box[None])["points"] for photo, box in tqdm(pairs, leave=False)])


# ---- errors


def error_row(points: np.ndarray, fit: Fit, true: np.ndarray, turned: bool) -> dict:
    """Errors in percent of the eye distance or, for turned heads, of sqrt(w h) of the tight box; NaN: missed."""
    found = np.isfinite(points).all(axis=(1, 2))
    points, true = points[found], true[found]
    moved = fit.without_offset(points)
    size = metrics.face_size(true) if turned else metrics.ruler_length(true)

    def error(predicted, which=slice(None)):
        return 100 * float((metrics.distances(predicted, true)[:, which].mean(axis=1) / size).mean())

    failed = (metrics.distances(moved, true).mean(axis=1) / size > 0.1).sum() + (~found).sum()
    return {
        "error %": error(moved),
        "inner %": error(moved, slice(17, 68)),
        "offsets left in %": error(points),
        "failures at 10 %": 100 * failed / len(found),
        "faces": len(found),
        "missed": int((~found).sum()),
    }


def network_for(way: Way, faces: Faces) -> dict | None:
    """The options that give a way of ours the network for these faces; None where it has not been trained."""
    if "network" not in way.options or faces.network is None:
        return {}
    from training.export import export
    from training.weights import load_model

    weights = faces.network / f"{way.options['network']}.pt"
    if not weights.is_file():
        return None
    exported = BUILD / f"unseen-{way.options['network']}.onnx"
    export(load_model(weights), exported)
    return {"network": str(exported)}


def measure(name: str, tests: dict[str, Faces], fits: Callable, done: set) -> Iterator[list[dict]]:
    """The rows of one answer, test after test, without those that are done."""
    for test, faces in tests.items():
        if (name, test) in done:
            continue
        options = network_for(WAYS[name], faces)
        if options is None:
            print(f"{name}, {test}: left out; `python -m benchmarks.compare --splits unseen` trains its network")
            continue
        fit, turned = fits(name, faces.fit), test.startswith(POSE)
        tight = jittered(np.stack([tight_box(points) for points in faces.keypoints]))
        with Worker(WAYS[name], **options, jaw_3d=turned) as worker:
            answers = {
                "jittered": locate_all(worker, faces, fit.own_boxes(tight)),
                "own detector": find_all(worker, faces)[0],
            }
        yield [
            {"answer": name, "test": test, "boxes": boxes} | error_row(points, fit, faces.keypoints, turned)
            for boxes, points in answers.items()
        ]


def errors(names: list[str], done: set) -> None:
    """Measure all errors into results/peers.csv."""
    with tempfile.TemporaryDirectory() as folder:
        training, tests = training_faces(Path(folder)), test_faces(Path(folder))

        @cache
        def fits(name, where):
            with Worker(WAYS[name]) as worker:
                points, boxes = find_all(worker, training[where])
            found = np.isfinite(boxes).all(axis=1)
            return Fit.of(points[found], training[where].keypoints[found], boxes[found])

        for name in names:
            for rows in measure(name, tests, fits, done):
                table = pd.DataFrame(rows).round(3)
                merge_rows(table, RESULTS / "peers.csv", KEYS, WAYS)
                print(table.to_string(header=False, index=False), flush=True)


# ---- speed and size


def crowds(folder: Path) -> dict[int, Path]:
    """Photos of 1, 4, 16 and 64 faces: the same portrait in rows and columns."""
    portrait, photos = skimage.data.astronaut()[PORTRAIT], {}
    for faces in CROWDS:
        side = round(faces**0.5)
        photos[faces] = folder / f"{faces}.npy"
        np.save(photos[faces], np.tile(portrait, (side, side, 1)))
    return photos


def speeds(names: list[str]) -> pd.DataFrame:
    """A row for each answer; they are timed one at a time, in turns."""
    times, rows = {}, {name: {"answer": name} for name in names}
    with tempfile.TemporaryDirectory() as folder:
        photos = crowds(Path(folder))
        ones = {name: Worker(WAYS[name], cores=1, threads=1) for name in names}
        twos = {name: Worker(WAYS[name], cores=2) for name in names}
        boxes = {name: worker(photos[1])["boxes"][:1] for name, worker in ones.items()}
        for _ in tqdm(range(ROUNDS), leave=False):
            for name in names:
                times.setdefault((name, "ms a face, one core"), []).append(ones[name](photos[1], boxes[name])["ms"])
                for faces, photo in photos.items():
                    answer = twos[name](photo)
                    times.setdefault((name, f"ms a photo of {faces}, two cores"), []).append(answer["ms"])
                    rows[name] |= {f"found of {faces}": len(answer["points"]), "memory, MB": twos[name].megabytes()}
        for worker in (*ones.values(), *twos.values()):
            worker.__exit__()
        for (name, what), values in times.items():
            rows[name][what] = np.median(values[1:])
        starts = [{name: cold_start(WAYS[name], photos[1]) for name in names} for _ in range(STARTS)]
    for name in names:
        rows[name]["cold start, s"] = np.median([start[name] for start in starts])
        rows[name]["installed, MB"] = megabytes(WAYS[name])
    return pd.DataFrame(rows.values()).round(2)


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--what", nargs="+", choices=("errors", "speeds"), default=["errors", "speeds"])
    parser.add_argument("--again", action="store_true", help="also what is in results/peers.csv")
    args = parser.parse_args()
    file, done = RESULTS / "peers.csv", set()
    if file.is_file() and not args.again:
        done = set(pd.read_csv(file)[["answer", "test"]].itertuples(index=False, name=None))
    if "errors" in args.what:
        errors(args.answers, done)
    if "speeds" in args.what:
        table = speeds(args.answers).assign(**{"measured on": f"2 cores of {platform.machine()}"})
        merge_rows(table, RESULTS / "peers_speed.csv", ["answer"], WAYS)
        print(table.T.to_string())


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        sys.exit(str(error))
