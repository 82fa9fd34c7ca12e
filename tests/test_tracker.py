"""Tracking faces: the One-Euro filter, identities, gaps, new faces, and errors."""

import numpy as np
import pytest

from benchmarks.video import frames, jitter, lag, still
from data_sets.drawn_faces import draw_face
from facial_keypoints.geometry import similarity, similarity_matrix, tight_box, transform_points
from facial_keypoints.images import DataError
from facial_keypoints.pipeline import FacePipeline
from facial_keypoints.tracker import OneEuro, SmoothFace, Tracker, robust_similarity

SIDE = 160
FACES = [draw_face(seed, SIDE) for seed in (3, 5)]
GRAY = np.full((240, 480, 3), 128, np.uint8)


def scene(*places):
    """A picture with drawn faces at (x, y), or without a face for None, and the keypoints of all of them."""
    image, truth = GRAY.copy(), []
    for (pixels, keypoints), place in zip(FACES, places, strict=False):
        if place:
            x, y = place
            image[y : y + SIDE, x : x + SIDE] = pixels
            truth.append(keypoints + (x, y))
    return image, truth


class Detector:
    """Returns the true boxes and counts its calls."""

    def __init__(self):
        self.truth, self.calls = [], 0

    def __call__(self, image):
        self.calls += 1
        boxes = np.array([tight_box(points) for points in self.truth], np.float32).reshape(-1, 4)
        return boxes, np.full(len(boxes), 0.9)


@pytest.fixture(scope="module")
def pipeline():
    return FacePipeline("fast", Detector(), threads=1)


@pytest.fixture
def watch(pipeline):
    """Run a tracker over scenes, 30 a second; returns the tracked faces of each."""

    def call(scenes, **options):
        tracker, found = Tracker(pipeline, **options), []
        for number, places in enumerate(scenes):
            image, pipeline.detector.truth = scene(*places)
            found.append(tracker(image, number / 30))
        return found

    pipeline.detector.calls = 0
    return call


def identities(found):
    return [[tracked.identity for tracked in faces] for faces in found]


# ---- the filter


def one_euro_by_hand(values, rate, min_cutoff, beta):
    """Algorithm 1 of the paper for a single number."""
    alpha = lambda cutoff: 1 / (1 + rate / (2 * np.pi * cutoff))  # noqa: E731
    filtered, speed, out = values[0], 0.0, [values[0]]
    for value in values[1:]:
        speed = alpha(1.0) * (value - filtered) * rate + (1 - alpha(1.0)) * speed
        a = alpha(min_cutoff + beta * abs(speed))
        filtered = a * value + (1 - a) * filtered
        out.append(filtered)
    return np.array(out)


def test_one_euro_is_that_of_the_paper():
    values = np.cumsum(np.random.default_rng(0).normal(0, 1, 50))
    smooth = OneEuro(beta=0.3)
    points = [smooth(np.array([[value, 0.0]]), 1 / 25, cutoff=0.7) for value in values]
    np.testing.assert_allclose(np.array(points)[:, 0, 0], one_euro_by_hand(values, 25, 0.7, 0.3), rtol=1e-12)
    assert not np.array(points)[..., 1].any()


def test_one_euro_commutes_with_rotation_and_scaling():
    path = np.cumsum(np.random.default_rng(1).normal(0, 1, (30, 4, 2)), axis=0)
    turn = np.array([(0.6, -0.8), (0.8, 0.6)])

    def smoothed(points, unit):
        smooth = OneEuro(2.0)
        return np.array([smooth(frame, 0.04, 0.5, 0.1, unit) for frame in points])

    np.testing.assert_allclose(smoothed(3 * path @ turn, 30.0), 3 * smoothed(path, 10.0) @ turn, rtol=1e-9)


def test_resting_points_are_smoothed_and_moving_ones_hardly_lag():
    rest = np.random.default_rng(2).normal(0, 0.005, (90, 68, 2))
    smooth = OneEuro(20.0)
    calm = np.array([smooth(frame, 1 / 30, 0.5, 0.06) for frame in rest])
    assert np.diff(calm[10:], axis=0).std() < np.diff(rest[10:], axis=0).std() / 5
    smooth, moving = OneEuro(20.0), np.linspace(0, 2, 60)  # a box size a second
    behind = moving[-1] - [smooth(np.full((1, 2), x), 1 / 30, 0.5, 0.06) for x in moving][-1]
    assert behind.max() < 1 / 30


def test_infinite_cutoff_does_not_smooth():
    smooth, path = OneEuro(20.0), np.random.default_rng(3).normal(0, 1, (5, 3, 2))
    for frame in path:
        np.testing.assert_allclose(smooth(frame, 0.1, np.inf), frame)


def smoothed(path, smooth):
    """The points (T, K, 2) of a path through SmoothFace or OneEuro, at 30 frames a second."""
    cutoff, trembling = np.full(path.shape[1], 0.5), np.full(path.shape[1], 0.06)
    return np.array([smooth(points, 1 / 30, cutoff, trembling) for points in path])


def test_the_shape_of_a_moving_face_is_smoothed_and_its_place_hardly_lags():
    """A face one unit wide trembles and moves by two widths a second, turning slowly in the picture."""
    rng, times = np.random.default_rng(0), np.arange(60) / 30
    shape = rng.uniform(-0.5, 0.5, (68, 2))
    truth = np.array([transform_points(similarity_matrix(20 * t, 1, (2 * t, 0), (1, 1)), shape) for t in times])
    noisy = truth + rng.normal(0, 0.005, truth.shape)
    alone, together = smoothed(noisy, OneEuro(20.0)), smoothed(noisy, SmoothFace(noisy[0], 20.0))
    trembling = [np.diff((points - truth)[20:], axis=0).std() for points in (noisy, alone, together)]
    assert trembling[2] < trembling[1] / 2 < trembling[0] / 2
    behind = [np.abs((truth - points)[20:, :, 0].mean()) for points in (alone, together)]
    assert behind[1] < behind[0] / 1.2


def far(points, reach=2.0):  # (T, 2)
    """The position of something that is attached to faces (T, 68, 2), above them by twice their height."""
    frontal = np.random.default_rng(0).uniform(-0.5, 0.5, (68, 2))
    return np.array([transform_points(similarity(frontal, face), np.array([(0, -reach)]))[0] for face in points])


def test_the_turn_of_a_face_that_is_panned_does_not_tremble():
    """A camera's noise turns and scales all points together; what stands far from them shows it most."""
    rng, times = np.random.default_rng(0), np.arange(90) / 30
    shape = rng.uniform(-0.5, 0.5, (68, 2))
    truth = shape + np.stack([np.sin(3 * times), 0 * times], axis=1)[:, None]
    noise = [similarity_matrix(rng.normal(0, 0.3), rng.normal(1, 0.003), (0, 0), (1, 1)) for _ in times]
    noisy = np.array([transform_points(matrix, shape) for matrix in noise]) + truth - shape
    calm = smoothed(noisy, SmoothFace(noisy[0], 23.0))
    steps = [np.diff((far(points) - far(truth))[20:], axis=0).std() for points in (noisy, calm)]
    assert steps[1] < steps[0] / 4


def test_a_shaken_face_lags_less_than_its_points_alone():
    """Five times a second by 3 % of its width: the speed reverses before a slow estimate of it notices."""
    times = np.arange(90) / 30
    shape = np.random.default_rng(0).uniform(-0.5, 0.5, (68, 2))
    truth = shape + np.stack([0.03 * np.sin(10 * np.pi * times), 0 * times], axis=1)[:, None]
    off = [np.abs(smoothed(truth, smooth) - truth)[20:].mean() for smooth in (OneEuro(23.0), SmoothFace(shape, 23.0))]
    assert off[1] < off[0] / 2


def test_without_a_cutoff_a_face_is_not_smoothed():
    path = FACES[0][1] + np.random.default_rng(0).normal(0, 20, (6, 1, 2)).cumsum(axis=0)
    path += np.random.default_rng(1).normal(0, 3, path.shape)
    smooth, cutoff = SmoothFace(path[0], 20.0), np.full(68, np.inf)
    for points in path[1:]:
        np.testing.assert_allclose(smooth(points, 0.1, cutoff, np.zeros(68)), points, atol=1e-3)


def test_an_opening_mouth_does_not_move_the_place_of_the_face():
    shape = FACES[0][1].astype(float)
    opened = shape.copy()
    opened[[8, *range(55, 60), *range(65, 68)], 1] += 0.1 * np.ptp(shape)
    moved = transform_points(robust_similarity(shape, opened), shape)
    plain = transform_points(similarity(shape, opened), shape)
    assert np.abs(moved - shape).max() < 0.1 * np.abs(plain - shape).max()


# ---- tracking


def test_a_moving_face_is_tracked_without_the_detector(watch, pipeline):
    found = watch([[(20 + 5 * step, 40)] for step in range(20)], interval=99)
    assert identities(found) == [[0]] * 20 and pipeline.detector.calls == 1
    truth = FACES[0][1] + (20 + 5 * 19, 40)
    error = np.linalg.norm(found[-1][0].face.keypoints - truth, axis=1).mean()
    assert error < 0.05 * np.ptp(truth, axis=0).max()
    assert found[-1][0].face.pose is not None and found[-1][0].face.score == pytest.approx(0.9)


def test_a_face_keeps_its_identity_over_a_short_gap_only(watch):
    here, gone = [(160, 40)], [None]
    assert identities(watch([here, here, *[gone] * 5, here, here])) == [[0], [0], *[[]] * 5, [0], [0]]
    assert identities(watch([here, *[gone] * 8, here], memory=0.2, interval=0.01))[-1] == [1]


def test_a_face_far_from_where_one_was_lost_gets_a_new_identity(watch):
    assert identities(watch([[(0, 40)], [None], [(310, 40)]])) == [[0], [], [1]]


def test_new_faces_are_found_at_intervals(watch, pipeline):
    alone, both = [(20, 40)], [(20, 40), (260, 40)]
    found = identities(watch([alone] * 5 + [both] * 10, interval=0.3))
    assert found[8] == [0] and found[-1] == [0, 1] and pipeline.detector.calls == 2


def test_two_faces_keep_their_identities(watch):
    found = watch([[(20 + 3 * step, 40), (300 - 3 * step, 40)] for step in range(20)])
    assert identities(found) == [[0, 1]] * 20
    paths = [[faces[number].face.keypoints[:, 0].mean() for faces in found] for number in (0, 1)]
    to_the_left, to_the_right = sorted(map(np.diff, paths), key=np.sum)
    assert (to_the_left[2:] < 0).all() and (to_the_right[2:] > 0).all()


def test_a_face_that_is_covered_by_another_is_not_reported_twice(watch):
    found = watch([[(100, 40), (100 + max(0, 180 - 12 * step), 40)] for step in range(25)])
    assert all(len(faces) <= 2 for faces in found) and len(found[-1]) == 1


def test_frames_without_faces_are_empty_lists_and_the_detector_runs_at_intervals(watch, pipeline):
    assert watch([[None]] * 8, interval=0.3) == [[]] * 8
    assert pipeline.detector.calls == 1


def test_tracking_is_the_same_at_any_scale(pipeline):
    """Twice the pixels, twice the coordinates."""
    ends = []
    for scale in (1, 2):
        tracker = Tracker(pipeline)
        for step in range(6):
            image, truth = scene((20 + 4 * step, 40))
            pipeline.detector.truth = [scale * (points + 0.5) - 0.5 for points in truth]
            (tracked,) = tracker(image.repeat(scale, axis=0).repeat(scale, axis=1), step / 30)
        ends.append((tracked.face.keypoints + 0.5) / scale)
    assert np.linalg.norm(ends[0] - ends[1], axis=1).mean() < 0.02 * np.ptp(ends[0], axis=0).max()


# ---- errors


@pytest.mark.parametrize("seconds", (1.0, 0.5, float("nan")))
def test_frames_that_are_not_in_order_are_refused(pipeline, seconds):
    tracker = Tracker(pipeline)
    tracker(GRAY, 1.0)
    with pytest.raises(DataError, match="in order of time"):
        tracker(GRAY, seconds)


def test_a_network_without_spread_is_refused(pipeline):
    class WithoutSpread:
        expects = pipeline.network.expects

        def locate(self, crops):
            located = pipeline.network.locate(crops)
            located[..., 2] = np.nan
            return located

    image, truth = scene((20, 40))
    detector = Detector()
    detector.truth = truth
    tracker = Tracker(FacePipeline(WithoutSpread(), detector))
    tracker(image, 0.0)
    with pytest.raises(DataError, match="does not estimate its spread"):
        tracker(image, 0.1)


# ---- benchmarks/video.py


def test_lag_and_jitter_are_measured_as_they_were_added():
    at = np.arange(90)[:, None, None] / 30 + np.zeros((1, 68, 2))
    path = lambda times: 20 * np.sin(np.pi * times)  # noqa: E731
    assert lag(path(at - 0.5 / 30) + 3, path(at)) == pytest.approx(0.5, abs=0.03)
    noise = np.random.default_rng(0).normal(0, 2, (2000, 68, 2))
    sway, step = jitter(noise)
    assert sway == pytest.approx(2 * 2**0.5, rel=0.02) and step == pytest.approx(2 * np.pi**0.5, rel=0.02)


def test_drawn_films_have_the_true_keypoints():
    image, seconds, keypoints = next(frames(2, still))
    assert image.shape == (240, 320, 3) and image.dtype == np.uint8 and seconds == 0
    x, y, w, h = tight_box(keypoints)
    assert abs(x + w / 2 - 160) < 10 and 80 < max(w, h) < 130
