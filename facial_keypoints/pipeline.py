"""Photo in, keypoints out: detector, face crops, network, and keypoints back in photo pixels."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facial_keypoints.geometry import (
    compose,
    crop_matrix,
    invert,
    quarter_turns,
    resize,
    resize_matrix,
    tight_box,
    transform_points,
    turn_of,
    warp,
)
from facial_keypoints.images import DataError, as_rgb
from facial_keypoints.network import FACES_AT_ONCE, Network, OnnxNetwork, mirror_averaged
from facial_keypoints.pose import Pose, head_pose, upright_matrix
from facial_keypoints.schemes import IBUG_68, TWO_JAWS, Scheme, with_jaw_3d
from facial_keypoints.shipped import shipped

NETWORKS = ("accurate", "fast")
DETECTORS = ("yunet", "haar")
UNTURNED = np.eye(2, 3)
FARTHEST = 1e6  # pixels, the largest x, y, w or h of a box
GROUP_MEGABYTES = 200  # of decoded photos in a group, whose faces share batches
TURNED_PIXELS = 16_000_000  # larger photos are scaled down before they are turned
ROTATIONS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


@dataclass(frozen=True)
class Face:
    """A face in a photo; positions in pixels of the photo, pixel centres at whole numbers.

    keypoints: (K, 2), in the order of the network's scheme; score: the detector's; confidence: (K,), the network's
    estimate, for each keypoint, of the probability that its error is below 5 % of the box's longer side, None if the
    network does not estimate it; pose: the head's, None for schemes other than the 68 points; jaw_3d: (17, 2), the
    jaw line of the head, visible or not, while points 0 to 16 follow the visible edge of the cheek; None if the
    network predicts one jaw line only.
    """

    keypoints: np.ndarray
    score: float
    confidence: np.ndarray | None = None
    pose: Pose | None = None
    jaw_3d: np.ndarray | None = None

    @property
    def box(self) -> np.ndarray:  # (4,) x, y, w, h
        """The tight box of the keypoints."""
        return tight_box(self.keypoints)

    @property
    def certainty(self) -> float:
        """The mean confidence, or the detector's score if the network does not estimate confidence."""
        return self.score if self.confidence is None else float(self.confidence.mean())


def as_boxes(boxes) -> np.ndarray:  # (N, 4) float32
    """Boxes x, y, w, h, an array or lists, as an array; raises DataError for a box without size or beyond FARTHEST."""
    wrong = DataError("a box must be x, y, w, h in pixels with w and h above zero")
    try:
        boxes = np.atleast_2d(np.asarray(boxes, float))
    except (TypeError, ValueError):
        raise wrong from None
    if not boxes.size:
        return np.empty((0, 4), np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not (np.abs(boxes) < FARTHEST).all():
        raise wrong
    if not (boxes[:, 2:] > 1 / FARTHEST).all():
        raise wrong
    return boxes.astype(np.float32)


def confidence(spread: np.ndarray, within: float = 0.05) -> np.ndarray:
    """The probability that a point's error is below `within`; both arguments are relative to the box's longer side.

    Under the distribution that training.losses.SpreadLoss fits: density proportional to exp(-distance / spread).
    """
    return 1 - (1 + within / spread) * np.exp(-within / spread)


def without_doubles(faces: list[Face]) -> list[Face]:
    """Faces without duplicates, the most certain first: no face's mean keypoint lies in another face's box."""

    def inside(face, other):
        part = (face.keypoints.mean(axis=0) - other.box[:2]) / np.maximum(other.box[2:], 1e-6)
        return bool(((part > 0) & (part < 1)).all())

    kept = []
    for face in sorted(faces, key=lambda face: face.certainty, reverse=True):
        if not any(inside(face, other) or inside(other, face) for other in kept):
            kept.append(face)
    return kept


def load_network(network: str | Path | Network, device: str = "cpu", threads: int | None = None) -> Network:
    """A shipped network by its name, the network of an ONNX file, or a network object unchanged.

    The shipped ones run in 8 bits on a CPU, which is two to three times as fast, and in floats on a GPU.
    """
    if isinstance(network, str) and network in NETWORKS:
        return OnnxNetwork(shipped(f"{network}-int8.onnx" if device == "cpu" else f"{network}.onnx"), device, threads)
    if isinstance(network, str | Path):
        if Path(network).suffix == ".pt":
            raise DataError(f"{network}: the library runs ONNX; `python -m training.export {network}` makes the file")
        return OnnxNetwork(network, device, threads)
    if not (hasattr(network, "expects") and hasattr(network, "locate")):
        raise DataError(
            f"{type(network).__name__}: expected {', '.join(NETWORKS)}, the path of an .onnx file, or an object with "
            "expects and locate, which training.export.TorchNetwork(model) makes of a torch module"
        )
    return network


def load_detector(detector: str | Callable) -> Callable:
    """A detector by its name, or a callable unchanged.

    If YuNet's file is not available, the Haar detector is used instead, with a warning. Raises DetectorError for a
    detector that cannot work here.
    """
    if callable(detector):
        return detector
    if detector not in DETECTORS:
        raise DataError(f"detector {detector!r}: expected {', '.join(DETECTORS)} or a callable")
    from detector_architectures.haar import HaarDetector  # only when it is needed
    from detector_architectures.yunet import NoNetworkFile, YuNetDetector

    if detector == "haar":
        return HaarDetector()
    try:
        return YuNetDetector()
    except NoNetworkFile as error:
        warnings.warn(f"{error}. Until then Haar's detector is used, which misses turned heads.", stacklevel=3)
        return HaarDetector()


class FacePipeline:
    """Detector and network as one callable: picture -> list of Face, the most certain first, empty if there is none.

    A picture is a path, a Pillow image or an array (images.as_rgb). For a list of pictures it returns a list of such
    lists; faces of several pictures share batches, and only a few pictures are in memory at a time.

    The network runs twice on each face: first on the detector's box, which is never exact, then on the tight box of
    its own first keypoints, with tilted faces turned upright. It also rejects false detections: on curtains and cups
    its mean confidence is below min_confidence. Boxes whose score reaches the detector's attribute `certain`, if it
    has one, are kept anyway, since confidence is low on profiles. If no face is found, the photo is tried again turned
    by 90, 180 and 270 degrees, so pictures without faces take four times as long.

    network: "accurate", "fast", the path of an ONNX file, or a network.Network; detector: "yunet", "haar" or a
    callable (see detector_architectures); device, threads: see OnnxNetwork; min_confidence: faces with a lower mean
    confidence are left out (results/detector.csv). Safe to use from several threads. Raises DataError for an
    unreadable picture or weights file and for a network that expects whole frames.
    """

    def __init__(
        self,
        network: str | Path | Network = "accurate",
        detector: str | Callable = "yunet",
        device: str = "cpu",
        threads: int | None = None,
        min_confidence: float = 0.5,
    ):
        self.network = load_network(network, device, threads)
        self.detector = load_detector(detector)
        self.min_confidence = min_confidence
        if self.network.expects.margin is None:
            raise DataError("this network sees whole frames, FacePipeline needs one that was trained on face crops")

    @property
    def scheme(self) -> Scheme:
        """The landmark scheme of the keypoints: the 68 points for a network of two jaw lines."""
        return IBUG_68 if self._two_jaws else self.network.expects.scheme

    @property
    def _two_jaws(self) -> bool:
        return self.network.expects.scheme.name == TWO_JAWS.name

    def __call__(self, pictures) -> list[Face] | list[list[Face]]:
        if not isinstance(pictures, list | tuple):
            return self([pictures])[0]
        return [
            faces if any(map(self._believes, faces)) else self._find_turned(photo.image) or faces
            for group in self._groups(pictures)
            for photo, faces in zip(group, self._find(group), strict=True)
        ]

    def faces(self, image, boxes, scores) -> list[Face]:
        """The faces that the network confirms in a detector's boxes (N, 4) with scores (N,), without duplicates.

        Raises DataError for a box without a positive size, or if the numbers of scores and boxes differ.
        """
        return self._find([_Photo(image, boxes, scores)])[0]

    def keypoints(self, image, boxes, jaw: str = "seen") -> np.ndarray:  # (N, K, 2) float32
        """Keypoints in photo pixels of the faces in given tight boxes (N, 4): one pass, no box is rejected.

        jaw: "seen", or "3d" for all 68 points with the jaw line of the head, see Face; raises DataError if the network
        predicts one jaw line only.
        """
        if jaw not in ("seen", "3d") or (jaw == "3d" and not self._two_jaws):
            raise DataError(f"jaw {jaw!r}: this network predicts {'seen and 3d' if self._two_jaws else 'seen only'}")
        image, boxes = as_rgb(image), as_boxes(boxes)
        answers = self._look([(image, self.matrix(box)) for box in boxes])[..., :2]
        return with_jaw_3d(answers) if jaw == "3d" else answers[:, : self.scheme.num_points]

    def look_again(self, matrix: np.ndarray, keypoints: np.ndarray) -> np.ndarray:  # (2, 3)
        """The matrix of the second crop: around the keypoints (K, 2) found in the first one, see matrix_around.

        If their box is more than 1.5 times larger or smaller than the first box, the first matrix is kept.
        """
        size = np.ptp(transform_points(matrix, keypoints[: self.scheme.num_points]), axis=0)
        grown = size.max() / self._box_side
        if size.min() <= 0 or not 1 / 1.5 < grown < 1.5:
            return matrix
        return self.matrix_around(keypoints, matrix)

    def answers(self, image: np.ndarray, keypoints) -> np.ndarray:  # (N, K, 3)
        """One pass on faces of an RGB uint8 image whose keypoints (N, K, 2) are roughly known, as in a video.

        For each keypoint: x and y in image pixels, and the network's spread relative to the box's longer side.
        """
        return self._look([(image, self.matrix_around(points)) for points in keypoints])

    def face(self, answer: np.ndarray, score: float) -> Face:
        """The Face of one row (K, 3) of `answers`."""
        answer, jaw = answer[: self.scheme.num_points], answer[self.scheme.num_points :, :2]
        points, spread = np.ascontiguousarray(answer[:, :2]), answer[:, 2]
        sure = None if np.isnan(spread).any() else confidence(spread)
        return Face(points, float(score), sure, self._pose(points), jaw if self._two_jaws else None)

    def matrix_around(self, keypoints: np.ndarray, before: np.ndarray = UNTURNED) -> np.ndarray:  # (2, 3)
        """From the photo to the network's input for the face with these keypoints (K, 2), turned upright.

        Only the 68 points tell which way is up; for other schemes the rotation of the matrix `before` is kept.
        """
        keypoints = keypoints[: self.scheme.num_points]
        upright = upright_matrix(keypoints) if self.scheme.name == IBUG_68.name else turn_of(before)
        return compose(self.matrix(tight_box(transform_points(upright, keypoints))), upright)

    def matrix(self, box) -> np.ndarray:  # (2, 3)
        """From the photo to the network's input for one box."""
        return crop_matrix(box, self.network.expects.size, self.network.expects.margin)

    def crop(self, image: np.ndarray, box) -> np.ndarray:  # (1 or 3, size, size) float32
        """The network's input for one box of an RGB uint8 image: cut out, square, gray or RGB, in [0, 1]."""
        return self._cut(image, self.matrix(box))

    @property
    def _box_side(self) -> float:
        """The longer side of a crop's box, in pixels of the crop."""
        return self.network.expects.size / (1 + 2 * self.network.expects.margin)

    def _cut(self, image, matrix):
        expects = self.network.expects
        face = warp(image, matrix, (expects.size, expects.size))
        face = face.transpose(2, 0, 1) if expects.color else cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[None]
        return face.astype(np.float32) / 255

    def _in_photo(self, answer: np.ndarray, matrix: np.ndarray) -> np.ndarray:  # (K, 3)
        """A network's output (K, 3) for one crop, with x and y in photo pixels and the spread relative to the box."""
        expects = self.network.expects
        points = transform_points(invert(matrix), expects.in_pixels(answer[:, :2]))
        return np.column_stack([points, answer[:, 2] * (expects.std / self._box_side)])

    def _groups(self, pictures: Iterable) -> Iterator[list["_Photo"]]:
        """Photos with their detections, in groups that fill a batch or exceed GROUP_MEGABYTES."""
        group, megabytes, faces = [], 0.0, 0
        for picture in pictures:
            image = as_rgb(picture)
            group.append(_Photo(image, *self.detector(image), certain=getattr(self.detector, "certain", np.inf)))
            megabytes, faces = megabytes + image.nbytes / 1e6, faces + len(group[-1].boxes)
            if megabytes > GROUP_MEGABYTES or faces >= FACES_AT_ONCE:
                yield group
                group, megabytes, faces = [], 0.0, 0
        if group:
            yield group

    def _find(self, photos: list["_Photo"]) -> list[list[Face]]:
        """The faces of each photo: two passes on every box."""
        crops = [(photo.image, compose(self.matrix(box), photo.turn)) for photo in photos for box in photo.boxes]
        first = self._look(crops, mirror=False)[..., :2]
        crops = [
            (image, self.look_again(matrix, points)) for (image, matrix), points in zip(crops, first, strict=True)
        ]
        answers = iter(self._look(crops))
        return [
            self._keep([self.face(next(answers), score) for score in photo.scores], photo.certain) for photo in photos
        ]

    def _find_turned(self, image: np.ndarray) -> list[Face]:
        """The faces of a photo on its side or upside down, from the quarter turn with the highest total certainty."""
        small, photos = _scaled_down(image, TURNED_PIXELS), []
        to_small = resize_matrix(image.shape[1::-1], small.shape[1::-1])
        for turns, rotation in ROTATIONS.items():
            found = self.detector(cv2.rotate(small, rotation))
            photos.append(_Photo(image, *found, compose(quarter_turns(turns, small.shape), to_small)))
        return max(self._find(photos), key=lambda faces: sum(face.certainty for face in faces))

    def _look(self, crops: list, mirror: bool = True) -> np.ndarray:  # (N, K, 3)
        """The network's output (see _in_photo) for a list of (image, crop matrix)."""
        network = self.network
        answers = [np.empty((0, network.expects.scheme.num_points, 3), np.float32)]
        for start in range(0, len(crops), FACES_AT_ONCE):
            some = crops[start : start + FACES_AT_ONCE]
            cut = np.stack([self._cut(*crop) for crop in some])
            found = mirror_averaged(network.locate, cut, network.expects) if mirror else network.locate(cut)
            answers.append(np.stack([self._in_photo(*pair) for pair in zip(found, [m for _, m in some], strict=True)]))
        return np.concatenate(answers)

    def _pose(self, points: np.ndarray) -> Pose | None:
        try:
            return head_pose(points) if self.scheme.name == IBUG_68.name else None
        except ValueError:  # all points in one spot
            return None

    def _believes(self, face: Face) -> bool:
        return face.confidence is None or face.certainty >= self.min_confidence

    def _keep(self, faces: list[Face], certain: float) -> list[Face]:
        return without_doubles([face for face in faces if self._believes(face) or face.score >= certain])


def _scaled_down(image, most):
    """The image, scaled down if it has more than `most` pixels."""
    scale = np.sqrt(most / (image.shape[0] * image.shape[1]))
    return image if scale >= 1 else resize(image, [max(1, round(scale * side)) for side in image.shape[1::-1]])


class _Photo:
    """An image and the detections in it, or in a copy of it turned by the matrix `turn`."""

    def __init__(self, image, boxes, scores, turn=UNTURNED, certain=np.inf):
        self.turn, self.certain = turn, certain  # boxes from this score on are kept at any confidence
        self.image, self.boxes, self.scores = as_rgb(image), as_boxes(boxes), np.asarray(scores)
        if self.scores.shape != (len(self.boxes),):
            raise DataError(f"scores {self.scores.shape} for {len(self.boxes)} boxes: expected one for each")
