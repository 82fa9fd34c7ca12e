import numpy as np
import pytest
import torch

import metrics
from facial_keypoints.images import DataError
from facial_keypoints.schemes import Scheme


@pytest.fixture
def faces():
    """Two faces whose eye corners are 10 and 20 apart, all points off by (3, 4): distance 5."""
    true = np.random.default_rng(0).uniform(0, 100, (2, 68, 2))
    true[:, 36], true[0, 45], true[1, 45] = (0, 0), (10, 0), (0, 20)
    return true + [3, 4], true


def test_nme_by_hand(faces):
    np.testing.assert_allclose(metrics.nme(*faces), [0.5, 0.25])
    assert metrics.mean_distance(*faces) == pytest.approx(5)


def test_the_unit_of_nme_is_the_ruler_of_the_scheme_or_the_size_of_the_face(faces):
    predicted, true = (points[:, 36:46] for points in faces)
    np.testing.assert_allclose(metrics.nme(predicted, true, Scheme("ten", 10, ruler=(0, 9))), [0.5, 0.25])
    np.testing.assert_allclose(metrics.nme(predicted, true, Scheme("ten", 10)), metrics.nme_by_box(predicted, true))
    with pytest.raises(DataError, match="10 keypoints, but the scheme ibug-68 has 68"):
        metrics.nme(predicted, true)


def test_parts_are_those_of_the_scheme(faces):
    predicted, true = (points[:, 36:46] for points in faces)
    ten = Scheme("ten", 10, ruler=(0, 9), parts={"half": (0, 1, 2, 3, 4)})
    assert metrics.errors_by_part(predicted, true, ten) == {"half": pytest.approx(0.375)}


def test_nme_is_the_same_in_any_units(faces):
    predicted, true = faces
    np.testing.assert_allclose(metrics.nme((predicted - 100) / 50, (true - 100) / 50), metrics.nme(predicted, true))


def test_face_size_is_the_side_of_a_square_as_large_as_the_box():
    faces = np.zeros((2, 68, 2))
    faces[:, 5] = (4, 9), (3, 3)
    np.testing.assert_allclose(metrics.face_size(faces), [6, 3])


def test_losses_agree_with_torch(faces):
    predicted, true = (torch.from_numpy(points / 10) for points in faces)
    assert metrics.mse(predicted.numpy(), true.numpy()) == pytest.approx(torch.nn.MSELoss()(predicted, true).item())
    expected = torch.nn.SmoothL1Loss()(predicted, true).item()
    assert metrics.smooth_l1(predicted.numpy(), true.numpy()) == pytest.approx(expected)


def test_failure_rate_by_hand():
    assert metrics.failure_rate(np.array([0.01, 0.08, 0.081, 0.5]), 0.08) == 0.5


def test_auc_is_the_area_under_the_error_curve():
    errors = np.random.default_rng(0).gamma(2, 0.03, 500)
    thresholds, parts = metrics.error_curve(errors, 0.08, steps=200_001)
    assert metrics.auc(errors, 0.08) == pytest.approx(np.trapezoid(parts, thresholds) / 0.08, abs=1e-4)
    assert metrics.auc(np.zeros(3)) == 1 and metrics.auc(np.ones(3)) == 0


def test_error_curve_never_falls_and_counts_faces():
    thresholds, parts = metrics.error_curve(np.array([0.02, 0.04, 0.5]), 0.08)
    assert (np.diff(parts) >= 0).all() and parts[0] == 0 and parts[-1] == pytest.approx(2 / 3)
    assert parts[thresholds < 0.02].max() == 0


def test_a_bad_mouth_shows_in_the_mouth_alone(faces):
    _, true = faces
    predicted = true.copy()
    predicted[:, 48:68] += [0, 5]
    parts = metrics.errors_by_part(predicted, true)
    assert parts["mouth"] == pytest.approx(0.375)
    assert all(parts[name] == 0 for name in ("jaw", "brows", "nose", "eyes"))


def test_summary_is_in_percent_and_pixels(faces):
    row = metrics.summary(*faces)
    assert row["NME %"] == pytest.approx(37.5) and row["failures at 10 %"] == 100
    assert row["pixels"] == pytest.approx(5)


def test_boxes_are_matched_one_to_one_by_nearness():
    true = np.array([[0, 0, 10, 10], [20, 0, 10, 10], [100, 100, 10, 10]], float)
    found = np.array([[21, 1, 8, 8], [50, 50, 10, 10], [22, 0, 10, 10], [1, 0, 10, 12]], float)
    np.testing.assert_array_equal(metrics.match_boxes(found, true), [3, 0, -1])
    np.testing.assert_array_equal(metrics.match_boxes(np.empty((0, 4)), true), [-1, -1, -1])
    assert metrics.match_boxes(found, np.empty((0, 4))).shape == (0,)
