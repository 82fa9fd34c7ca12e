"""Measure constant offsets of the labels: LABEL_SHIFT of data_sets/course.py and of data_sets/ibug_300w.py.

    python -m benchmarks.label_shift        needs the real data; ten minutes on two cores

Networks are trained on hand-labelled faces of 300-W alone, labels as published, each without a quarter of the photos.
Half of their training faces are mirrored, and predictions are averaged with those for the mirror image, so they have
no left-right bias. A vertical offset, however, is learned from the labels.
300-W means 2012 cut-outs from three of its sources (AFW, HELEN, LFPW).

results/first_pixel.csv: the mean of label minus prediction on the photos that each network was not trained on, in
pixels of the picture and in percent of the face size, by part of the face, by source, and for cut-outs that were
scaled (to a longer side of 384 pixels) and unscaled ones.
results/first_pixel_trends.csv: what that offset depends on. An offset that is constant in pixels is larger, in
percent, on small faces; an offset along the image axes rotates relative to a tilted face. Both can separate a vertical
offset of the labels from a learned one, though with less certainty.
results/label_shift.csv: the mean of label minus prediction of one of these networks on the course's training frames,
in percent of the face size, beside half the pitch of the lattice that the labels lie on.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

import metrics
from benchmarks.tables import RESULTS
from data_load import FacialKeypointsDataset
from data_sets.course import LABEL_SHIFT
from data_sets.face_cuts import FaceCuts
from data_sets.find import find_data
from data_sets.ibug_300w import twins
from data_sets.splits import real_splits
from facial_keypoints.schemes import IBUG_68
from models import FastNet
from recipes import SMALL_CROP, frontal
from train import run_recipe
from training.device import keep_freed_memory
from training.loop import predict
from transfer.networks import with_mirror_image
from transforms import RandomAffine

FOLDS, EPOCHS = 4, 12
LONGEST_SIDE = 384  # pixels, of scaled cut-outs
TURNED = RandomAffine(rotation=25, scale=0.08, shift=0.05)  # strong enough to hide the photo's own tilt
RECIPE = replace(frontal(FastNet).first, epochs=EPOCHS, affine=TURNED)
PITCHES = np.linspace(0.02, 0.045, 501)  # as fractions of the face size


def folds(photos: np.ndarray) -> np.ndarray:  # (N,) int
    """The fold of each face; faces of one photo, also under another name (`twins`), share a fold."""
    same = {name: min(names) for names in twins() for name in names}
    groups = np.array([same.get(photo, photo) for photo in photos])
    names, member = np.unique(groups, return_inverse=True)
    return np.random.default_rng(0).permutation(len(names))[member] % FOLDS


def offsets(cuts: FaceCuts) -> tuple[np.ndarray, nn.Module]:
    """Labels minus cross-validated predictions, (N, 68, 2) in face sizes; and the last of the networks."""
    off, fold = np.empty((len(cuts), IBUG_68.num_points, 2)), folds(cuts.photos)
    for number in range(FOLDS):
        model, _ = run_recipe(RECIPE, cuts.subset(np.flatnonzero(fold != number)), seed=number, progress=True)
        others = np.flatnonzero(fold == number)
        off[others] = relative_offsets(with_mirror_image(model), cuts.subset(others))
    return off, with_mirror_image(model)


def relative_offsets(model, faces) -> np.ndarray:  # (N, 68, 2)
    """Labels minus predictions, in face sizes."""
    predicted, labels = predict(model, faces.with_transform(SMALL_CROP))
    return (labels - predicted) / metrics.face_size(labels)[:, None, None]


def was_scaled(cuts: FaceCuts) -> np.ndarray:  # (N,) bool
    """Whether each face's picture has a longer side of LONGEST_SIDE pixels."""
    return np.array([max(Image.open(cuts.root_dir / cuts.names[i]).size) == LONGEST_SIDE for i in cuts.indices])


def first_pixel(off: np.ndarray, sizes: np.ndarray, scaled: np.ndarray, sources: np.ndarray) -> pd.DataFrame:
    """The mean offset (N, 68, 2), in face sizes, and its standard error: a row for each group of faces or points."""
    rows = {"all": offset_row(off, sizes)}
    rows |= {part: offset_row(off[:, list(points)], sizes) for part, points in IBUG_68.parts.items()}
    for name, mask in (("scaled", scaled), ("not scaled", ~scaled)):
        rows[name] = offset_row(off[mask], sizes[mask])
        for source in np.unique(sources[mask]):
            own = mask & (sources == source)
            if own.sum() > 10:
                rows[f"{name}, {source}"] = offset_row(off[own], sizes[own])
    return pd.DataFrame(rows).T.astype({"faces": int})


def offset_row(off: np.ndarray, sizes: np.ndarray) -> dict[str, float]:
    """The mean over the faces of offsets (N, K, 2), in face sizes, and its standard error."""
    row = {"faces": len(off), "size, pixels": sizes.mean()}
    for axis, name in enumerate(("right", "down")):
        own = off[..., axis].mean(axis=1)
        for unit, values in (("pixels", own * sizes), ("%", 100 * own)):
            row[f"{name}, {unit}"] = values.mean()
            row[f"{name}, {unit}, error"] = values.std(ddof=1) / np.sqrt(len(off))
    return row


def fitted(columns: list[np.ndarray], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of values on columns, with heteroscedasticity-consistent standard errors (White, 1980)."""
    matrix = np.stack(columns, axis=1)
    inverse = np.linalg.inv(matrix.T @ matrix)
    found = inverse @ matrix.T @ values
    weighted = matrix * (values - matrix @ found)[:, None]
    return found, np.sqrt(np.diag(inverse @ weighted.T @ weighted @ inverse))


def trends(off: np.ndarray, sizes: np.ndarray, tilt: np.ndarray) -> pd.DataFrame:
    """How the offset (N, 68, 2) depends on the face's size in pixels and on its tilt (N,) in radians."""
    mean, rows = off.mean(axis=1), {}
    for axis, name in enumerate(("right", "down")):
        found, error = fitted([1 / sizes, np.full(len(sizes), 0.01)], mean[:, axis])
        rows[f"{name}, by the face's size: constant, pixels"] = found[0], error[0]
        rows[f"{name}, by the face's size: in proportion, %"] = found[1], error[1]
    across = sizes * (mean * np.stack([np.cos(tilt), np.sin(tilt)], axis=1)).sum(axis=1)  # along the line of the eyes
    found, error = fitted([np.cos(tilt), np.sin(tilt)], across)
    rows |= {f"{name}, by the tilt, pixels": (found[i], error[i]) for i, name in enumerate(("right", "down"))}
    return pd.DataFrame(rows, index=["estimate", "standard error"]).T


def lattice_pitch(keypoints: np.ndarray) -> float:
    """The pitch, as a fraction of the face size, of the lattice that fits one face's coordinates (K, 2) best."""
    size = metrics.face_size(keypoints[None])[0]
    agreement = [np.abs(np.exp(2j * np.pi * keypoints / (pitch * size)).mean(axis=0)).sum() for pitch in PITCHES]
    return float(PITCHES[np.argmax(agreement)])


def course_shift(model, frames: FacialKeypointsDataset) -> pd.DataFrame:
    """The course's labels minus predictions, by part of the face."""
    off = 100 * relative_offsets(model, frames)
    rows = {part: off[:, list(points)].mean(axis=(0, 1)) for part, points in IBUG_68.parts.items()}
    rows["all 68 points"] = off.mean(axis=(0, 1))
    large = frames.keypoints[metrics.face_size(frames.keypoints) > 90]  # on small faces rounding hides the lattice
    rows["half a cell of the lattice"] = np.repeat(50 * np.median([lattice_pitch(k) for k in large[::3]]), 2)
    rows["LABEL_SHIFT"] = np.repeat(100 * LABEL_SHIFT, 2)
    return pd.DataFrame(rows, index=["right, % of the face", "down, % of the face"]).T


def main() -> None:
    """Train the networks, measure the offsets, write the tables."""
    keep_freed_memory()
    data = find_data()
    frames = FacialKeypointsDataset(
        data.path / "training_frames_keypoints.csv", data.path / "training", in_memory=True
    )
    cuts = real_splits(data)[0].training[1]
    cuts = cuts.centred(-cuts.label_shift)
    off, model = offsets(cuts)
    points = cuts.photo_keypoints[cuts.indices]
    sizes, eyes = metrics.face_size(points), points[:, 45] - points[:, 36]
    sources = np.array([cuts.names[index].split("/")[0].upper() for index in cuts.indices])
    for name, label, table in (
        ("first_pixel", "faces or points", first_pixel(off, sizes, was_scaled(cuts), sources)),
        ("first_pixel_trends", "offset", trends(off, sizes, np.arctan2(eyes[:, 1], eyes[:, 0]))),
        ("label_shift", "points", course_shift(model, frames)),
    ):
        table.round(2).to_csv(RESULTS / f"{name}.csv", index_label=label)
        print(table.round(2).to_string())


if __name__ == "__main__":
    main()
