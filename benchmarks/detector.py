"""Faces that YuNet and Haar miss, boxes without a labelled face, and what the network's veto is worth.

    python -m benchmarks.detector                 writes results/detector.csv
    python -m benchmarks.detector --splits all    with the network of this training only; other rows stay as they are

On photos of the training parts, where detector_architectures.haar.ATTEMPTS and the pipeline's min_confidence were
chosen, and on the tests of the protocol, with the networks of benchmarks/compare.py. Some of the other boxes hold
other faces.
"""

import argparse

import numpy as np
import pandas as pd
from torch.utils.data import ConcatDataset
from tqdm import tqdm

import metrics
from benchmarks.compare import trained
from benchmarks.tables import RESULTS, merge_rows
from data_sets.find import find_data
from data_sets.ibug_300w import load_ibug, split_photos
from data_sets.splits import HELD_OUT, real_splits
from detector_architectures.haar import ATTEMPTS, HaarDetector
from facial_keypoints.geometry import tight_box
from facial_keypoints.pipeline import FacePipeline
from training.export import TorchNetwork

# In results/detector.csv; Haar's attempts are those of detector_architectures.haar.
TITLES = {"all attempts": "haar", "YuNet": "yunet"}


def count(photos, pipelines: dict[str, FacePipeline]) -> list[dict]:
    """Misses and other boxes on photos of one labelled face each: of each pipeline's detector alone and with the veto.

    Of Haar's detector also with its first attempt alone.
    """
    one, rows = HaarDetector(attempts=ATTEMPTS[:1]), {}
    for sample in tqdm(photos, leave=False):
        answers = {"one attempt": one(sample["image"])[0]}
        for name, pipeline in pipelines.items():
            answers[name], scores = pipeline.detector(sample["image"])
            faces = pipeline.faces(sample["image"], answers[name], scores)
            answers[f"{name}, network's veto"] = np.array([face.box for face in faces]).reshape(-1, 4)
        for name, found in answers.items():
            row = rows.setdefault(name, {"detector": name, "photos": 0, "missed": 0, "other boxes": 0})
            (match,) = metrics.match_boxes(found, tight_box(sample["keypoints"])[None])
            row["photos"] += 1
            row["missed"] += int(match < 0)
            row["other boxes"] += len(found) - int(match >= 0)
    return list(rows.values())


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", nargs="+", choices=("all", "unseen"), default=["all", "unseen"])
    args = parser.parse_args()
    everyone, unseen = real_splits(find_data())
    faces = load_ibug()[0]
    faces, _ = split_photos(faces, HELD_OUT)
    faces = faces.subset(np.flatnonzero(~faces.mirrored))
    photos = {
        "course, training": (unseen, unseen.training[0].subset(range(0, len(unseen.training[0]), 7))),
        "300-W, training": (unseen, faces.subset(range(0, len(faces), 5))),
        "unseen people": (unseen, ConcatDataset(unseen.tests["unseen"].parts)),
        "300-W": (everyone, ConcatDataset(everyone.tests["300-W"].parts)),
    }
    for name, (split, samples) in photos.items():
        if split.name in args.splits:
            network = TorchNetwork(trained("accurate", split))
            rows = count(samples, {title: FacePipeline(network, name) for title, name in TITLES.items()})
            table = pd.DataFrame([{"photos of": name} | row for row in rows])
            merge_rows(table, RESULTS / "detector.csv", ["photos of", "detector"], photos)
            print(table.to_string())


if __name__ == "__main__":
    main()
