"""Every row of the comparison in results/: train what is not trained yet, measure by the protocol, write the table.

    python -m benchmarks.compare                       everything; a day on two cores, can be interrupted and resumed
    python -m benchmarks.compare --rows fast accurate  these rows; trained networks are only measured

Needs the real data and `pip install -r benchmarks/requirements.txt`. Trained networks are kept in build/compare/.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import ConcatDataset

import metrics
from benchmarks.tables import RESULTS, merge_rows
from data_sets.face_cuts import transform_box
from data_sets.find import ROOT, find_data
from data_sets.splits import HeldOut, Split, check_not_learned, real_splits
from facial_keypoints.geometry import crop_matrix, tight_box, transform_points, warp
from facial_keypoints.images import DataError
from facial_keypoints.pipeline import DETECTORS, NETWORKS, FacePipeline
from protocol import boxes, table_row
from recipes import FACE_CROP, RECIPES
from train import SAVED_MODELS, train_and_save, training_data
from training.device import keep_freed_memory
from training.export import TorchNetwork
from training.loop import predict
from training.weights import load_model

BUILD = ROOT / "build" / "compare"
PERCENT = range(101)
WITHOUT_DETECTOR = ("exact", "jittered")
BOXES = (*WITHOUT_DETECTOR, *DETECTORS)
# Fewer epochs than the recipe's for a network that is trained only to measure unseen people: two hours of one core.
UNSEEN_EPOCHS = {"accurate": 18}


@dataclass(frozen=True)
class Answer:
    """One row of the table: `ask` takes a test and boxes and returns predicted and true keypoints (N, 68, 2).

    sees_boxes: False for networks of whole frames; model: the network, if FacePipeline can run it; then a detector's
    boxes are measured end to end, through the pipeline; looks_twice: exact and jittered boxes are measured through the
    pipeline too, with its second pass.
    """

    ask: Callable[[HeldOut, np.ndarray], tuple[np.ndarray, np.ndarray]]
    sees_boxes: bool = True
    model: torch.nn.Module | None = None
    looks_twice: bool = False


def trained(name: str, split: Split, epochs: int | None = None) -> torch.nn.Module:
    """The network of a recipe trained on this split, loaded if it exists; for split "all" the shipped weights.

    Raises DataError if a shipped network would be measured on photos that it was trained on.
    """
    recipe, stem = RECIPES[name], f"{name}-{epochs}" if epochs else name
    ships = name in NETWORKS and split.name == "all"
    if split.name == "unseen":
        epochs = epochs or UNSEEN_EPOCHS.get(name)
    recipe = recipe.lasting(epochs) if epochs else recipe
    if ships:
        check_not_learned(split.tests["300-W"].groups)
    path = (SAVED_MODELS if ships else BUILD / split.name) / f"{stem}.pt"
    if not path.is_file() and train_and_save(recipe, path, training_data(recipe, split)) is None:
        raise SystemExit(1)  # Ctrl-C; fit has printed how many epochs are done
    return load_model(path)


def network(name: str, split: Split, epochs: int | None = None) -> Answer:
    """The answers of a recipe's network."""
    model, transform = trained(name, split, epochs), RECIPES[name].transform
    sees_boxes = RECIPES[name].expects.margin is not None
    return Answer(lambda test, boxes: predict(model, test.crops(boxes, transform)), sees_boxes, sees_boxes and model)


def second_look(name: str, split: Split) -> Answer:
    """A recipe's network with the pipeline's second pass, on the tight box of its first keypoints."""
    return replace(network(name, split), looks_twice=True)


def end_to_end(model: torch.nn.Module, test: HeldOut, boxes: np.ndarray) -> tuple:
    """The pipeline's answers in boxes (N, 4): predicted and true keypoints in photo pixels (F, 68, 2), and a mask (N,)
    of these faces; faces whose box is NaN or that the pipeline rejects are left out."""
    pipeline, predicted, true, hit = FacePipeline(TorchNetwork(model), "haar"), [], [], np.zeros(len(boxes), bool)
    photos = ConcatDataset([part.with_transform(None) for part in test.parts])
    for number in np.flatnonzero(np.isfinite(boxes).all(axis=1)):
        sample = photos[int(number)]
        for face in pipeline.faces(sample["image"], boxes[number][None], [0.0]):
            predicted.append(face.keypoints)
            true.append(sample["keypoints"])
            hit[number] = True
    return np.stack(predicted), np.stack(true), hit


def mean_face(split: Split) -> Answer:
    """The mean of the training faces in the face crop, for every face."""
    training = ConcatDataset([part.with_transform(FACE_CROP) for part in split.training])
    mean = np.mean([sample["keypoints"].numpy() for sample in training], axis=0)

    def ask(test, boxes):
        true = np.stack([sample["keypoints"].numpy() for sample in test.crops(boxes, FACE_CROP)])
        return np.broadcast_to(mean, true.shape), true

    return Answer(ask)


def tree_input(sample: dict, size: int = 400) -> tuple[np.ndarray, list[int], np.ndarray]:
    """dlib's input for a sample: a gray crop, the box (left, top, right, bottom) and the points in its pixels.

    The crop is large because dlib rounds coordinates to whole pixels.
    """
    box = sample.get("box", tight_box(sample["keypoints"]))
    matrix = crop_matrix(box, size, margin=0.5)
    x, y, w, h = transform_box(matrix, box)
    gray = cv2.cvtColor(warp(sample["image"], matrix, (size, size)), cv2.COLOR_RGB2GRAY)
    sides = np.rint([x, y, x + w, y + h]).astype(int).tolist()
    return gray, sides, transform_points(matrix, sample["keypoints"])


def train_trees(split: Split, path: Path) -> None:
    """Train dlib's regression trees on this split in exact boxes: dlib's defaults, but an oversampling of five."""
    import dlib  # from benchmarks/requirements.txt; only this row needs it

    options = dlib.shape_predictor_training_options()
    options.oversampling_amount = 5
    options.num_threads, options.random_seed, options.be_verbose = torch.get_num_threads(), "0", True
    images, faces = [], []
    for sample in ConcatDataset([part.with_transform(None) for part in split.training]):
        gray, sides, points = tree_input(sample)
        images.append(gray)
        points = [dlib.point(*point) for point in np.rint(points).astype(int).tolist()]
        faces.append([dlib.full_object_detection(dlib.rectangle(*sides), points)])
    path.parent.mkdir(parents=True, exist_ok=True)
    dlib.train_shape_predictor(images, faces, options).save(str(path))


def trees(split: Split) -> Answer:
    """dlib's regression trees, trained on the same faces as the shipped networks.

    Kazemi and Sullivan, "One millisecond face alignment with an ensemble of regression trees", CVPR 2014.
    """
    import dlib

    path = BUILD / split.name / "trees.dat"
    if not path.is_file():
        train_trees(split, path)
    predictor = dlib.shape_predictor(str(path))

    def ask(test, boxes):
        inputs = [tree_input(sample) for sample in test.crops(boxes, None)]
        found = [predictor(gray, dlib.rectangle(*sides)).parts() for gray, sides, _ in inputs]
        predicted = np.array([[(point.x, point.y) for point in points] for points in found], np.float32)
        return predicted, np.stack([points for _, _, points in inputs])

    return Answer(ask)


ROWS = {
    "mean face": mean_face,
    "course-mse, 3 epochs": partial(network, "course-mse"),
    "course-batchnorm, 50 epochs": partial(network, "course-batchnorm", epochs=50),
    "face-crops": partial(network, "face-crops"),
    "batchnorm-crops": partial(network, "batchnorm-crops"),
    "dlib's trees": trees,
    "fast, no turned heads": partial(network, "fast-frontal"),
    "accurate, no turned heads": partial(network, "accurate-frontal"),
    "fast": partial(network, "fast"),
    "accurate": partial(network, "accurate"),
    "fast, second look": partial(second_look, "fast"),
    "accurate, second look": partial(second_look, "accurate"),
}


def measure(name: str, split: Split, boxes_of: dict) -> tuple[list[dict], list[dict]]:
    """The rows of one answer, for the table and for the error curves, for every test and kind of boxes.

    The table has two rows for each: on labels with their constant offset removed ("centred") and "as published".
    """
    answer, rows, curves = ROWS[name](split), [], []
    for (test_name, kind), found in boxes_of.items():
        if not answer.sees_boxes and (kind != "exact" or test_name == "300-W"):
            continue  # such a network sees no box, and 300-W's photos are not frames
        if answer.looks_twice and kind not in WITHOUT_DETECTOR:
            continue  # that is the row of the network itself
        test, hit = split.tests[test_name], np.isfinite(found).all(axis=1)
        if answer.looks_twice or (kind not in WITHOUT_DETECTOR and answer.model):
            predicted, true, hit = end_to_end(answer.model, test, found)
        else:
            predicted, true = answer.ask(test, found)
        row = {"answer": name, "test": test_name, "boxes": kind if answer.sees_boxes else "none"}
        published = metrics.shifted(true, test.label_shift[hit])
        rows += [
            row | {"labels": labels} | table_row(predicted, points, test.groups[hit], missed=int((~hit).sum()))
            for labels, points in (("centred", true), ("as published", published))
        ]
        errors = np.append(metrics.nme(predicted, true), np.full((~hit).sum(), np.inf))
        reached = 100 * np.percentile(errors, PERCENT, method="lower")
        curves += [
            row | {"faces %": part, "NME % at most": error} for part, error in zip(PERCENT, reached, strict=True)
        ]
    return rows, curves


def write(rows: list[dict], curves: list[dict]) -> None:
    """Write the table and the error curves; other rows in the files are kept."""
    keys = ["answer", "test", "boxes"]
    table = pd.DataFrame(rows).round(3).assign(measured=f"{datetime.now(UTC):%Y-%m-%d %H:%M}")
    merge_rows(table, RESULTS / "comparison.csv", [*keys, "labels"], ROWS)
    merge_rows(pd.DataFrame(curves).round(3), RESULTS / "error_curves.csv", [*keys, "faces %"], ROWS)


def main() -> None:
    """Train missing networks, measure, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--boxes", nargs="+", choices=BOXES, default=list(BOXES))
    parser.add_argument("--splits", nargs="+", choices=("all", "unseen"), default=["all", "unseen"])
    args = parser.parse_args()
    keep_freed_memory()
    data = find_data()
    print(f"data: {data.about}")
    for split in (split for split in real_splits(data) if split.name in args.splits):
        found = {(name, kind): boxes(test, kind) for name, test in split.tests.items() for kind in args.boxes}
        for name in args.rows:
            rows, curves = measure(name, split, found)
            write(rows, curves)
            print(
                pd.DataFrame(rows).to_string(columns=["answer", "test", "boxes", "labels", "NME %", "failures at 8 %"])
            )


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        raise SystemExit(str(error)) from None
