"""The comparison with what pip offers: offsets between schemes, boxes of other detectors, missed faces."""

import numpy as np
import pytest

from benchmarks.peers import Fit, error_row
from facial_keypoints.geometry import tight_box


@pytest.fixture(scope="module")
def faces():
    """Predicted and true points of 40 faces of any size, place and tilt, with one offset in every face's own frame."""
    rng = np.random.default_rng(0)
    shape, offset = rng.uniform(-1, 1, (2, 68)), rng.normal(0, 0.05, (2, 68))
    shape, offset = shape[0] + 1j * shape[1], offset[0] + 1j * offset[1]
    turn = rng.uniform(20, 90, (40, 1)) * np.exp(1j * rng.uniform(-0.5, 0.5, (40, 1)))
    place = rng.uniform(0, 500, (40, 1)) + 1j * rng.uniform(0, 500, (40, 1))
    predicted, true = turn * shape + place, turn * (shape + offset) + place
    return tuple(np.stack([points.real, points.imag], axis=-1) for points in (predicted, true))


def test_a_constant_offset_is_found_and_removed_from_faces_of_any_tilt_and_size(faces):
    predicted, true = faces
    boxes = np.stack([tight_box(points) for points in true])
    fit = Fit.of(predicted[:30], true[:30], boxes[:30])
    np.testing.assert_allclose(fit.without_offset(predicted[30:]), true[30:], atol=0.02)
    row = error_row(predicted[30:], fit, true[30:], turned=True)
    assert row["error %"] < 0.05 < 2 < row["offsets left in %"]


def test_a_tight_box_becomes_the_box_of_another_detector(faces):
    predicted, true = faces
    tight = np.stack([tight_box(points) for points in true])
    others = np.hstack([tight[:, :2] - 0.1 * tight[:, 2:], 1.5 * tight[:, 2:]])
    np.testing.assert_allclose(Fit.of(predicted, true, others).own_boxes(tight), others, rtol=1e-4, atol=1e-3)


def test_a_face_that_is_missed_is_a_failure_and_has_no_error(faces):
    predicted, true = faces
    fit = Fit.of(predicted, true, np.stack([tight_box(points) for points in true]))
    found = predicted.copy()
    found[:10] = np.nan
    row = error_row(found, fit, true, turned=True)
    assert (row["missed"], row["faces"], row["failures at 10 %"]) == (10, 40, 25.0) and row["error %"] < 0.05
