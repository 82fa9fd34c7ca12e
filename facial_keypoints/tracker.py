"""Faces in videos: followed from frame to frame, each with an identity, and smoothed."""

from dataclasses import dataclass

import numpy as np

from facial_keypoints.geometry import invert, similarity, tight_box, transform_points
from facial_keypoints.images import DataError, as_rgb
from facial_keypoints.pipeline import Face, FacePipeline, confidence

TYPICAL_SPREAD = 0.008  # of the shipped networks on clear faces, relative to the box's longer side
TREMBLING = 0.06  # apparent speed of resting points at that spread, in box sizes per second
REACH = 1.5  # largest distance, in box sizes, at which a lost face is recognised again
PLACE_CUTOFF = 10.0  # Hz, for the speed of a face's position, since a hand-held camera shakes several times a second
PLACE_TREMBLING = 3  # times TREMBLING: as that speed is hardly smoothed, more of it is discounted as noise
EXPRESSION = 0.01  # how far a point moves relative to the others when the expression changes, in box sizes
LARGEST_STEP = 1.5  # largest factor by which a face may grow or shrink between two sightings


class OneEuro:
    """Casiez, Roussel and Vogel's "1 Euro filter" (CHI 2012): points at rest hardly tremble, fast ones hardly lag.

    It is a low-pass filter whose cutoff frequency rises by `beta` Hz for each unit that a point moves in a second.
    Speeds are low-pass filtered too, with a cutoff frequency of `speed_cutoff` Hz. It differs from the paper in two
    ways: both coordinates of a point share its speed, and part of the speed can be discounted as trembling.
    """

    def __init__(self, beta: float, speed_cutoff: float = 1.0):
        self.beta, self.speed_cutoff = beta, speed_cutoff
        self.points = self.velocity = None

    def __call__(self, points: np.ndarray, interval: float, cutoff, trembling=0.0, unit: float = 1.0) -> np.ndarray:
        """The smoothed points (K, 2), `interval` seconds after the last ones; the first are returned as they are.

        cutoff: for points at rest, in Hz, infinite for no smoothing; trembling: the speed to discount, in units a
        second; both one number or (K,); unit: the unit of length, in pixels.
        """
        if self.points is None:
            self.points, self.velocity = np.asarray(points, float), np.zeros(np.shape(points))
            return self.points
        velocity = (points - self.points) / (interval * unit)
        self.velocity = self.velocity + low_pass(self.speed_cutoff, interval) * (velocity - self.velocity)
        speed = np.maximum(np.linalg.norm(self.velocity, axis=1) - trembling, 0)
        self.points = self.points + low_pass(cutoff + self.beta * speed, interval)[:, None] * (points - self.points)
        return self.points


def low_pass(cutoff, interval: float):
    """The weight of a new value in a low-pass filter of `cutoff` Hz, `interval` seconds after the last one."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * interval))


class SmoothFace:
    """Smooths the points (K, 2) of a face in three parts, each with a One-Euro filter: position, turn and shape.

    The similarity from the first frame's points gives the position of their centre, and the angle and length of a line
    through it. A head that moves as a whole, or in front of a moving camera, changes neither its shape nor (by much)
    its turn, so these are smoothed as strongly as at rest; the turn matters most for what is far from the centre, such
    as a hat. Position and turn are estimated from all points and are less noisy than a single point, so their filters
    react twice as fast.
    """

    def __init__(self, points: np.ndarray, beta: float):
        self.size = _size(points)
        self.middle, self.line = points.mean(axis=0, keepdims=True), np.array([(self.size, 0.0)])
        self.place, self.turn, self.shape = OneEuro(2 * beta, PLACE_CUTOFF), OneEuro(2 * beta), OneEuro(beta)
        for part, start in ((self.place, self.middle), (self.turn, self.line), (self.shape, points)):
            part(start, 0, np.inf)

    def __call__(self, points: np.ndarray, interval: float, cutoff: np.ndarray, trembling: np.ndarray) -> np.ndarray:
        """The smoothed points; the arguments are those of OneEuro, (K,) each, with speeds in box sizes."""
        there, unit = robust_similarity(self.shape.points, points), _size(points)
        shape = self.shape(transform_points(invert(there), points), interval, cutoff, trembling, self.size)
        cutoff, trembling, middle = cutoff.mean(), trembling.mean(), transform_points(there, self.middle)
        place = self.place(middle, interval, cutoff, PLACE_TREMBLING * trembling, unit)
        turn = self.turn(self.line @ there[:, :2].T, interval, cutoff, trembling, unit)
        ends = [np.concatenate([start, start + line]) for start, line in ((self.middle, self.line), (place, turn))]
        return transform_points(similarity(*ends), shape)


def robust_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:  # (2, 3)
    """The similarity from points (K, 2) to others that most of them agree on, whatever the expression.

    Iteratively reweighted least squares with Cauchy's weights.
    """
    weights = np.ones(len(source))
    for _ in range(3):
        matrix = similarity(source, target, weights)
        off = np.linalg.norm(transform_points(matrix, source) - target, axis=1)
        weights = 1 / (1 + (off / (EXPRESSION * _size(target))) ** 2)
    return matrix


@dataclass(frozen=True)
class TrackedFace:
    """A face of a video frame, its keypoints smoothed, and the number that it keeps from frame to frame."""

    face: Face
    identity: int


@dataclass
class _Track:
    """The state of one face: its last keypoints, not smoothed, and when they were seen."""

    identity: int
    keypoints: np.ndarray  # (K, 2)
    score: float  # the detector's
    seen: float  # seconds
    smooth: SmoothFace

    def distance(self, keypoints: np.ndarray) -> float:
        """The distance from its last position to these keypoints, in box sizes."""
        return float(np.linalg.norm(keypoints.mean(axis=0) - self.keypoints.mean(axis=0)) / _size(self.keypoints))

    def grown(self, keypoints: np.ndarray) -> float:
        """The factor by which these keypoints are larger or smaller; at least 1."""
        ratio = _size(keypoints) / _size(self.keypoints)
        return max(ratio, 1 / ratio)


class Tracker:
    """Follows the faces of a video: called with a frame and its time in seconds, it returns a list of TrackedFace.

    A face is searched for around its keypoints in the previous frame. The detector runs when a face is missing, and
    every `interval` seconds for newcomers. A missing face keeps its identity for `memory` seconds; after that, or far
    from where it was lost, it counts as a new one. Identities count from 0 and are never reused.

    cutoff, beta: of SmoothFace's One-Euro filters. The cutoff frequency of a point at rest is `cutoff` Hz at a spread
    of TYPICAL_SPREAD, and half of that at twice the spread. A speed beyond TREMBLING adds `beta` Hz for each box size
    (the longer side of the keypoints' box) a second. cutoff=inf: no smoothing.

    Calls raise DataError for frames that are not in order of time, and for networks that do not estimate their spread.
    """

    def __init__(
        self,
        pipeline: FacePipeline,
        interval: float = 0.3,
        memory: float = 2.0,
        cutoff: float = 0.5,
        beta: float = 23.0,
    ):
        self.pipeline = pipeline
        self.interval, self.memory, self.cutoff, self.beta = interval, memory, cutoff, beta
        self._tracks: list[_Track] = []
        self._last = self._detected = -np.inf  # seconds
        self._count = 0

    def __call__(self, image: np.ndarray, seconds: float) -> list[TrackedFace]:
        if not seconds > self._last:
            raise DataError(f"a frame at {seconds} s follows one at {self._last} s: expected frames in order of time")
        image, before, self._last = as_rgb(image), self._last, seconds
        self._tracks = [track for track in self._tracks if seconds - track.seen <= self.memory]
        faces = self._follow(image, [track for track in self._tracks if track.seen == before], seconds)
        if len(faces) < len(self._tracks) or seconds - self._detected >= self.interval:
            self._detected = seconds
            faces += [self._meet(face, seconds) for face in self._newcomers(image, faces)]
        return sorted(faces, key=lambda tracked: tracked.identity)

    def _follow(self, image, tracks, seconds) -> list[TrackedFace]:
        """The faces of the tracks that are found again; if two end at the same face, the nearer one keeps it."""
        answers = self.pipeline.answers(image, [track.keypoints for track in tracks])
        if np.isnan(answers).any():
            raise DataError("this network does not estimate its spread, Tracker needs one that does")
        pairs = sorted(zip(tracks, answers, strict=True), key=lambda pair: pair[0].distance(self._seen(pair[1])))
        faces, places = [], []
        for track, answer in pairs:
            points = self._seen(answer)
            if self._is_there(track, answer, image.shape) and not any(_same(points, place) for place in places):
                places.append(points)
                faces.append(TrackedFace(self._smoothed(track, answer, seconds), track.identity))
        return faces

    def _seen(self, answer) -> np.ndarray:  # (K, 2)
        """The keypoints of an answer, without the jaw of the head that a network of two jaw lines adds to them."""
        return answer[: self.pipeline.scheme.num_points, :2]

    def _is_there(self, track, answer, shape) -> bool:
        """Whether an answer is the face of a track: certain, of similar size, its centre in the picture."""
        points, (x, y) = self._seen(answer), self._seen(answer).mean(axis=0)
        certain = confidence(answer[: len(points), 2]).mean() >= self.pipeline.min_confidence
        inside = 0 <= x < shape[1] and 0 <= y < shape[0]
        return bool(certain and inside and min(np.ptp(points, axis=0)) > 1 and track.grown(points) < LARGEST_STEP)

    def _smoothed(self, track, answer, seconds) -> Face:
        """The smoothed face of a track, which is moved to the answer."""
        points, spread = self._seen(answer), answer[:, 2]
        strength = self.cutoff * TYPICAL_SPREAD / spread, TREMBLING * spread / TYPICAL_SPREAD
        smooth = track.smooth(answer[:, :2], seconds - track.seen, *strength)
        track.keypoints, track.seen = points, seconds
        return self.pipeline.face(np.column_stack([smooth, spread]).astype(np.float32), track.score)

    def _newcomers(self, image, faces) -> list[Face]:
        """The faces found in those of the detector's boxes that belong to no face found so far."""
        boxes, scores = self.pipeline.detector(image)
        middles = [tracked.face.keypoints.mean(axis=0) for tracked in faces]
        new = [not any(_inside(middle, box) for middle in middles) for box in boxes]
        found = self.pipeline.faces(image, boxes[new], scores[new]) if any(new) else []
        return [face for face in found if not any(_same(face.keypoints, known.face.keypoints) for known in faces)]

    def _meet(self, face, seconds) -> TrackedFace:
        """A face that the detector found, with the identity of the nearest missing one, else a new identity."""
        missing = [track for track in self._tracks if track.seen < seconds and _may_be(track, face)]
        if missing:
            track = min(missing, key=lambda track: track.distance(face.keypoints))
            self._tracks.remove(track)
            identity = track.identity
        else:
            identity, self._count = self._count, self._count + 1
        points = face.keypoints if face.jaw_3d is None else np.vstack([face.keypoints, face.jaw_3d])
        self._tracks.append(_Track(identity, face.keypoints, face.score, seconds, SmoothFace(points, self.beta)))
        return TrackedFace(face, identity)


def _may_be(track: _Track, face: Face) -> bool:
    """Whether a face is near enough to where a missing one was lost, and of similar size."""
    return track.distance(face.keypoints) < REACH and track.grown(face.keypoints) < LARGEST_STEP


def _size(keypoints: np.ndarray) -> float:
    """The longer side of the keypoints' box, in pixels."""
    return max(float(np.ptp(keypoints, axis=0).max()), 1e-6)


def _inside(point, box) -> bool:
    part = (point - box[:2]) / box[2:]
    return bool(((part > 0) & (part < 1)).all())


def _same(some: np.ndarray, others: np.ndarray) -> bool:
    """Whether keypoints belong to one face: the middle of either lies in the other's box."""
    return _inside(some.mean(axis=0), tight_box(others)) or _inside(others.mean(axis=0), tight_box(some))
