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


def test_an_error_in_the_mouth_shows_only_there(faces):
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


def test_boxes_are_matched_one_to_one_by_distance():
    true = np.array([[0, 0, 10, 10], [20, 0, 10, 10], [100, 100, 10, 10]], float)
    found = np.array([[21, 1, 8, 8], [50, 50, 10, 10], [22, 0, 10, 10], [1, 0, 10, 12]], float)
    np.testing.assert_array_equal(metrics.match_boxes(found, true), [3, 0, -1])
    np.testing.assert_array_equal(metrics.match_boxes(np.empty((0, 4)), true), [-1, -1, -1])
    assert metrics.match_boxes(found, np.empty((0, 4))).shape == (0,)


@pytest.fixture
def four():
    """Four faces with eye corners 100 apart, in boxes of 200 x 50; all points off by 2, 9, 9.5 and 20."""
    true = np.random.default_rng(0).uniform((0, 0), (200, 50), (4, 68, 2))
    true[:, 0], true[:, 1] = (0, 0), (200, 50)
    true[:, 36], true[:, 45] = (50, 20), (150, 20)
    off = np.array([[0, 2], [9, 0], [9.5, 0], [12, 16]])
    return true + off[:, None], true


def test_every_column_of_the_summary_by_hand(four):
    assert metrics.summary(*four) == pytest.approx(
        {
            "NME %": (2 + 9 + 9.5 + 20) / 4,
            "median %": 9.25,
            "failures at 8 %": 75,
            "failures at 10 %": 25,
            "AUC to 8 %": (1 - 2 / 8) / 4,
            "pixels": 40.5 / 4,
        }
    )


def test_errors_by_hand_in_other_units(four):
    predicted, true = four
    np.testing.assert_allclose(metrics.nme_by_box(*four), [0.02, 0.09, 0.095, 0.2])  # sqrt(200 * 50) is 100
    boxes = np.tile([7, 8, 200, 50], (4, 1))
    expected = 68 * np.array([2 / 50, 9 / 200, 9.5 / 200, 12 / 200 + 16 / 50])
    np.testing.assert_allclose(metrics.box_error(predicted, true, boxes, enlarged=1.0), expected)
    np.testing.assert_allclose(metrics.box_error(predicted, true, boxes), expected / 1.5)
    assert metrics.mae(*four) == pytest.approx((2 + 9 + 9.5 + 28) / 8)
    assert metrics.mse(*four) == pytest.approx((4 + 81 + 90.25 + 400) / 8)


def test_the_ruler_is_measured_on_the_true_points_and_chosen_by_the_scheme(four):
    predicted, true = four
    predicted[:, 36] += 500
    off = np.linalg.norm(predicted - true, axis=2).mean(axis=1)
    np.testing.assert_allclose(metrics.nme(predicted, true), off / 100)
    np.testing.assert_allclose(metrics.nme(predicted, true, Scheme("own", 68, ruler=(0, 1))), off / np.hypot(200, 50))


def test_smooth_l1_is_quadratic_below_one_and_linear_above():
    off = np.array([[[0.0, 0.5], [-0.99, 1.01], [-1.5, 3]]])
    expected = (0 + 0.125 + 0.49005 + 0.51 + 1 + 2.5) / 6
    assert metrics.smooth_l1(off, 0 * off) == pytest.approx(expected)


def test_the_error_curve_ends_at_8_percent_and_counts_errors_at_its_thresholds():
    thresholds, parts = metrics.error_curve(np.array([0.0, 0.08, 0.04, 0.2]))
    assert thresholds[[0, 1, -1]] == pytest.approx([0, 0.0001, 0.08])
    assert parts[[0, 399, 400, 799, 800]].tolist() == [0.25, 0.25, 0.5, 0.5, 0.75]
    assert metrics.auc(np.array([0.0, 0.08, 0.04, 0.2])) == pytest.approx((1 + 0 + 0.5 + 0) / 4)


@pytest.mark.parametrize(("away", "matched"), [(4.9, True), (5.0, False), (5.1, False)])
def test_boxes_match_within_half_of_the_true_ones_longer_side(away, matched):
    true = np.array([[0.0, 0, 4, 10]])
    across, down = np.array([[away, 0, 4, 10]]), np.array([[0.6 * away - 8, 0.8 * away, 20, 10]])
    assert [metrics.match_boxes(found, true)[0] for found in (across, down)] == [0 if matched else -1] * 2


def test_as_many_boxes_as_possible_are_matched():
    """The found box nearest to the first face goes to the second, since the first can have the other one."""
    true, found = np.array([[0.0, 0, 10, 10], [4, 0, 10, 10]]), np.array([[3.0, 0, 10, 10], [-3, 0, 10, 10]])
    assert metrics.match_boxes(found, true).tolist() == [1, 0]


def test_keypoints_are_shifted_by_fractions_of_the_faces_size():
    keypoints = np.array([[[0.0, 0], [8, 2]], [[10, 10], [13, 22]]])  # sizes 4 and 6
    expected = keypoints + [[[1, -2]], [[1.5, -3]]]
    np.testing.assert_allclose(metrics.shifted(keypoints, np.array([0.25, -0.5])), expected)
    apart = metrics.shifted(keypoints, np.array([[0.25, -0.5], [0, 1]]))
    np.testing.assert_allclose(apart, keypoints + [[[1, -2]], [[0, 6]]])
