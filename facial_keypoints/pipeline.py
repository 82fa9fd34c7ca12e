"""Photo in, keypoints out: detector, crop, network and the way back to the photo."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from detector_architectures.haar import HaarDetector
from facial_keypoints.geometry import crop_matrix, invert, tight_box, transform_points, warp
from facial_keypoints.images import DataError, as_rgb
from training.weights import load_model
from transforms import Normalize, NormalizeColor, ToTensor

DEFAULT_MODEL = Path(__file__).resolve().parent.parent / "saved_models" / "accurate.pt"


@dataclass(frozen=True)
class Face:
    """A face in a photo: its tight keypoint box (4,) x, y, w, h, keypoints (68, 2), both in photo pixels; a score.

    score: the detector's; confidence (68,): for every keypoint the network's own estimate of the probability that
    it is right within 5 % of the box's longer side. None from networks that have no idea.
    """

    box: np.ndarray
    keypoints: np.ndarray
    score: float
    confidence: np.ndarray | None = None


def as_boxes(boxes) -> np.ndarray:  # (N, 4) float32
    """Boxes x, y, w, h, an array or lists, as an array; raises DataError where one has no size."""
    boxes = np.asarray(boxes, np.float32)
    if boxes.size % 4 or not np.isfinite(boxes).all() or not (boxes.reshape(-1, 4)[:, 2:] > 0).all():
        raise DataError("a box must be x, y, w, h in pixels with w and h above zero")
    return boxes.reshape(-1, 4)


def confidence(spread: np.ndarray, within: float = 0.05) -> np.ndarray:
    """The probability that a point is right within a part of the box's longer side, from its spread in the same unit.

    Of the distribution that train.SpreadLoss fits, exp(-distance / spread) in the plane.
    """
    return 1 - (1 + within / spread) * np.exp(-within / spread)


def without_doubles(faces: list[Face]) -> list[Face]:
    """Every face once: where the middle of one's keypoints lies in another's box, the one with more confidence stays.

    Without confidence it is the one with the higher score. The order is kept.
    """

    def sure(number):
        face = faces[number]
        return face.score if face.confidence is None else face.confidence.mean()

    def inside(face, other):
        part = (face.keypoints.mean(axis=0) - other.box[:2]) / other.box[2:]
        return bool(((part > 0) & (part < 1)).all())

    kept = []
    for number in sorted(range(len(faces)), key=sure, reverse=True):
        pairs = [(faces[number], faces[other]) for other in kept]
        if not any(inside(a, b) or inside(b, a) for a, b in pairs):
            kept.append(number)
    return [faces[number] for number in sorted(kept)]


class FacePipeline:
    """Detector and network as one callable: image or path -> list of Face, empty when nobody is there.

    The network looks twice: a detector's box is never exact, that of its own first answer nearly is. It also has the
    last word on what is a face: on curtains and cups that a detector takes for one it is not sure of any keypoint.

    detector: see detector_architectures; model: a network with `.expects` or the path of a weights file;
    sure: faces whose keypoints have a lower mean confidence are left out (results/detector.csv).
    Raises DataError for an unreadable picture or weights file and for a network of whole frames.
    """

    def __init__(self, detector=None, model: nn.Module | str | Path = DEFAULT_MODEL, sure: float = 0.5):
        self.detector = detector or HaarDetector()
        self.model = model.eval() if isinstance(model, nn.Module) else load_model(model)
        self.sure = sure
        expects = self.model.expects
        if expects.margin is None:
            raise DataError("this network sees whole frames, FacePipeline needs one that was trained on face crops")
        self.normalize = (NormalizeColor if expects.color else Normalize)(expects.mean, expects.std)

    def __call__(self, image) -> list[Face]:
        image = as_rgb(image)
        return self.faces(image, *self.detector(image))

    def faces(self, image, boxes, scores) -> list[Face]:
        """What the network takes for faces in a detector's boxes (N, 4) with its scores (N,), each face once.

        Raises DataError for a box without size, or another number of scores than of boxes.
        """
        image, boxes = as_rgb(image), as_boxes(boxes)
        if len(scores) != len(boxes):
            raise DataError(f"{len(scores)} scores for {len(boxes)} boxes: expected one for each")
        boxes = self.look_again(image, boxes)
        keypoints, confidence = self.locate(image, boxes)
        if confidence is None:
            confidence = [None] * len(boxes)
        found = [Face(*face) for face in zip(boxes, keypoints, map(float, scores), confidence, strict=True)]
        return without_doubles([f for f in found if f.confidence is None or f.confidence.mean() >= self.sure])

    def keypoints(self, image, boxes) -> np.ndarray:  # (N, 68, 2) float32
        """Keypoints in photo pixels of the faces in tight boxes (N, 4) that one brings along."""
        return self.locate(image, boxes)[0]

    def locate(self, image, boxes) -> tuple[np.ndarray, np.ndarray | None]:  # (N, 68, 2), (N, 68)
        """Keypoints of the faces in boxes (N, 4) and their confidence, see Face."""
        image, boxes = as_rgb(image), as_boxes(boxes)
        if not len(boxes):
            return np.empty((0, self.model.num_keypoints, 2), np.float32), None
        matrices = [self.matrix(box) for box in boxes]
        answer = self._predict(self.face_tensors(image, matrices))
        points = self.normalize.inverse(answer[..., :2])
        points = np.stack([transform_points(invert(m), p) for m, p in zip(matrices, points, strict=True)])
        if answer.shape[2] == 2:
            return points, None
        return points, confidence(answer[..., 2] * (1 + 2 * self.model.expects.margin))

    def look_again(self, image, boxes) -> np.ndarray:  # (N, 4)
        """A detector's boxes, corrected: the tight boxes of the keypoints that the network finds in them.

        A box that comes out more than half as large again, or smaller by as much, is not believed.
        """
        image, boxes = as_rgb(image), as_boxes(boxes)
        if not len(boxes):
            return boxes
        found = np.stack([tight_box(points) for points in self.keypoints(image, boxes)])
        grown = found[:, 2:].max(axis=1) / boxes[:, 2:].max(axis=1)
        believed = (found[:, 2:].min(axis=1) > 0) & (grown > 1 / 1.5) & (grown < 1.5)
        return np.where(believed[:, None], found, boxes)

    def matrix(self, box) -> np.ndarray:  # (2, 3)
        """From the photo to the network's input for one box."""
        return crop_matrix(box, self.model.expects.size, self.model.expects.margin)

    def face_tensors(self, image: np.ndarray, matrices) -> torch.Tensor:  # (N, 1 or 3, size, size)
        """The network's input: each face cut out, gray or RGB, in [0, 1], square."""
        size = (self.model.expects.size,) * 2
        no_keypoints = np.empty((0, 2), np.float32)
        samples = [{"image": warp(image, matrix, size), "keypoints": no_keypoints} for matrix in matrices]
        return torch.stack([ToTensor()(self.normalize(sample))["image"] for sample in samples])

    @torch.inference_mode()
    def _predict(self, faces):
        device = next(self.model.parameters()).device
        ask = getattr(self.model, "locate", self.model)
        return ask(faces.to(device)).float().cpu().numpy()
