"""The experiments of notebook 6: inputs, training settings, and errors in pixels of the photos."""

import copy
import time

import numpy as np
import pandas as pd
import torch
from torch import nn

import metrics
import protocol
from data_load import KeypointsDataset
from data_sets.face_cuts import FaceCuts
from data_sets.ibug_300w import load_ibug, split_photos
from facial_keypoints.geometry import crop_matrix, invert, similarity_matrix, tight_box, transform_points, warp
from facial_keypoints.network import Expects, mirror_averaged
from facial_keypoints.pipeline import Face, FacePipeline
from recipes import face_input
from training.device import best_device
from training.export import TorchNetwork
from training.loop import fit, predict
from training.losses import HeatmapLoss
from transfer.networks import HeatmapUNet, TransferNet, face_crop
from transforms import RandomAffine, RandomBlur, RandomColor, RandomOcclusion

MIRROR_HALF = RandomAffine(rotation=0, scale=0, shift=0, mirror=0.5)

MIRROR_ALL = RandomAffine(rotation=0, scale=0, shift=0, mirror=1.0)

# Arguments of `train` in notebook 6. RESNET: as published; PRETRAINING: on the course's video frames; UNET: heatmaps;
# BEST: heatmaps trained through soft-argmax, with rotation, colour, blur and occlusion. The boxes of 300-W are exact,
# as in the published runs, so shift and scale are small; PRETRAINING has larger ones, since the tight boxes of the
# video frames differ from those of 300-W.
RESNET = {"loss": "l1", "optimizer": "adam", "lr": 1e-3, "batch_size": 16, "one_cycle": True}

AUGMENTED = {"affine": MIRROR_HALF, "augmentations": (RandomColor(),)}

PRETRAINING = RESNET | {
    "affine": RandomAffine(rotation=10, scale=0.1, shift=0.05),
    "augmentations": (RandomColor(),),
}

SIGMA = 1.0  # of the target heatmaps, in cells

UNET = {"loss": HeatmapLoss(SIGMA), "optimizer": "adamw", "lr": 1e-3, "batch_size": 16, "one_cycle": True} | AUGMENTED

BEST = UNET | {
    "loss": HeatmapLoss(SIGMA, points_weight=100.0),
    "lr": 2e-3,
    "affine": RandomAffine(rotation=10, scale=0.02, shift=0.007),
    "augmentations": (RandomColor(), RandomBlur(), RandomOcclusion()),
}


def train(
    model: nn.Module,
    training: KeypointsDataset,
    validation: KeypointsDataset,
    affine: RandomAffine | None = None,
    augmentations: tuple = (),
    **settings,
) -> pd.DataFrame:
    """training.loop.fit on face crops, augmented for training only; returns the history."""
    training = training.with_transform(face_input(model.expects, affine, *augmentations))
    return fit(model, training, validation.with_transform(face_input(model.expects)), **settings)


def build(name: str, weights: dict | None = None, size: int | None = None) -> nn.Module:
    """The untrained network "resnet18", "resnet34" or "unet".

    weights: of its ResNet (see networks.imagenet_weights); size: of its input in pixels, None for the notebook's.
    """
    if name == "unet":
        return HeatmapUNet("resnet18", weights, size or 128)
    return TransferNet(name, weights, size or regression_size())


def regression_size() -> int:
    """The side of the ResNets' input: 224 pixels as published where there is a GPU, half of that elsewhere."""
    return 224 if best_device().type == "cuda" else 112


def build_and_train(
    name: str,
    training: KeypointsDataset,
    validation: KeypointsDataset,
    start: nn.Module | None = None,
    weights: dict | None = None,
    **settings,
) -> tuple[nn.Module, pd.DataFrame]:
    """`build` and `train`, seeded; returns network and history. start: a network of the same class to start from."""
    torch.manual_seed(0)
    model = build(name, weights)
    if start:
        model.load_state_dict(start.state_dict())
    return model, train(model, training, validation, **settings)


def predict_in_photos(model: nn.Module, faces: FaceCuts) -> np.ndarray:  # (N, 68, 2)
    """The keypoints of every face in pixels of its photo."""
    return to_photos(predict(model, faces.with_transform(face_input(model.expects)))[0], faces, model.expects)


def in_crops(model: nn.Module, faces: FaceCuts) -> tuple[list, np.ndarray, np.ndarray]:
    """The input crops, predicted and true keypoints (N, 68, 2) in pixels of the crops, for figures."""
    expects, crops = model.expects, faces.with_transform(face_input(model.expects))
    predicted, true = map(expects.in_pixels, predict(model, crops))
    return [crop["image"] for crop in crops], predicted, true


def to_photos(predicted: np.ndarray, faces: FaceCuts, expects: Expects) -> np.ndarray:  # (N, 68, 2)
    """A network's normalised predictions for these faces, in pixels of their photos."""
    predicted = expects.in_pixels(predicted)
    matrices = [crop_matrix(box, expects.size, expects.margin) for box in faces.photo_boxes[faces.indices]]
    return np.stack([transform_points(invert(m), p) for m, p in zip(matrices, predicted, strict=True)])


def jittered(faces: FaceCuts) -> FaceCuts:
    """The same faces in boxes with noise like a detector's, see protocol.jittered."""
    other = copy.copy(faces)
    other.boxes, other.photo_boxes = protocol.jittered(faces.boxes), protocol.jittered(faces.photo_boxes)
    return other


def mean_face(training: FaceCuts, faces: FaceCuts) -> np.ndarray:  # (N, 68, 2)
    """The mean training face (relative to its box) as the prediction for every face, in pixels of the photos."""
    expects = face_crop(32)  # any size: the points are fractions of it
    crops = training.with_transform(face_input(expects))
    mean = np.mean([crop["keypoints"].numpy() for crop in crops], axis=0)
    return to_photos(np.repeat(mean[None], len(faces), axis=0), faces, expects)


def errors(predicted: np.ndarray, faces: FaceCuts) -> dict[str, float]:
    """The columns of the table for keypoints (N, 68, 2) in pixels of the photos: both published measures and NME.

    NME is also given on labels as published, with the constant offset that the loader removes.
    """
    true, boxes = faces.photo_keypoints[faces.indices], faces.photo_boxes[faces.indices]
    published = metrics.shifted(true, faces.label_shift[faces.indices])
    return {
        "sum of |dx|+|dy|, boxes": float(metrics.box_error(predicted, true, boxes).mean()),
        "mean |d|, photo pixels": metrics.mae(predicted, true),
        "NME %": 100 * float(metrics.nme(predicted, true).mean()),
        "NME %, labels as published": 100 * float(metrics.nme(predicted, published).mean()),
    }


def milliseconds_per_face(model: nn.Module, repeats: int = 20) -> float:
    """Torch's median time per face on the CPU, one crop at a time in float32, mirror averaged if the network is."""
    network, expects, times = TorchNetwork(copy.deepcopy(model).cpu()), model.expects, []
    face = np.random.default_rng(0).random((1, 3 if expects.color else 1, expects.size, expects.size), np.float32)
    for _ in range(repeats):
        start = time.perf_counter()
        mirror_averaged(network.locate, face, expects)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def turn_photo(pipeline: FacePipeline, photo: np.ndarray, angle: float) -> tuple[np.ndarray, list[Face]]:
    """A photo rotated by an angle in degrees, and its faces, in boxes that come from the upright photo.

    A Haar cascade finds upright faces only, so detection runs before the rotation.
    """
    size = (photo.shape[1], photo.shape[0])
    matrix = similarity_matrix(angle, 1.0, (0, 0), size)
    picture = warp(photo, matrix, size)
    boxes = [tight_box(transform_points(matrix, face.keypoints)) for face in pipeline(photo)]
    points = pipeline.keypoints(picture, boxes)
    return picture, [Face(keypoints, score=1.0) for keypoints in points]


def split_faces(size: int = 300) -> tuple[FaceCuts, FaceCuts, str]:
    """Training faces, faces of held-out *photos*, and a line that describes them; mirrored copies are left out."""
    faces, about = load_ibug()
    return *split_photos(FaceCuts(faces.subset(np.flatnonzero(~faces.mirrored)), size)), about
