import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks import video
from benchmarks.buckets import buckets, calibration
from benchmarks.compare import ROWS, Answer, main, measure, network, tree_input
from benchmarks.filters import keypoints_of
from data_load import FacialKeypointsDataset
from data_sets.drawn_faces import draw_face
from data_sets.find import DataFolder, Kind
from data_sets.splits import HeldOut, Split
from facial_keypoints.geometry import tight_box
from facial_keypoints.images import DataError
from recipes import FACE_CROP, PARTS_OF_128


@pytest.fixture(scope="module")
def frames(drawn):
    return FacialKeypointsDataset(drawn / "training_frames_keypoints.csv", drawn / "training", in_memory=True)


def test_the_trees_get_the_same_face_in_gray_with_its_tight_box(frames):
    for number in (0, 7):
        gray, (left, top, right, bottom), points = tree_input(frames[number])
        assert gray.shape == (400, 400) and max(right - left, bottom - top) == pytest.approx(200, abs=1)
        x, y, w, h = tight_box(points)
        assert (left, top, right, bottom) == pytest.approx((x, y, x + w, y + h), abs=0.51)
        scale = w / tight_box(frames[number]["keypoints"])[2]
        colour = frames[number]["image"][*np.rint(frames[number]["keypoints"][8]).astype(int)[::-1]]
        at_the_chin = gray[*np.rint(points[8]).astype(int)[::-1]]
        assert scale > 0 and abs(float(at_the_chin) - float(colour @ [0.299, 0.587, 0.114])) < 40


def test_the_row_of_the_mean_face_is_computed_from_the_training_faces(frames):
    training, test = frames.subset(range(12)), frames.subset(range(12, 24))
    split = Split("all", "", (training, training), {"official": HeldOut((test,), test.people)})
    boxes = {("official", "exact"): split.tests["official"].exact_boxes()}
    rows, curves = measure("mean face", split, boxes)
    true = np.stack([test.keypoints[i] for i in test.indices])

    def in_box(points):  # the crop is square, so both axes go by the longer side
        box = tight_box(points)
        return (points - box[:2] - box[2:] / 2) / box[2:].max()

    mean = np.mean([in_box(training.keypoints[i]) for i in training.indices], axis=0)
    errors = [
        np.linalg.norm(mean - in_box(k), axis=1).mean() / np.linalg.norm(in_box(k)[36] - in_box(k)[45]) for k in true
    ]
    assert rows[0]["NME %"] == pytest.approx(100 * np.mean(errors), rel=1e-3)
    assert curves[100]["NME % at most"] == pytest.approx(100 * max(errors), rel=1e-3)
    assert curves[0]["NME % at most"] == pytest.approx(100 * min(errors), rel=1e-3)


def test_every_method_is_measured_on_centred_and_on_published_labels(frames, monkeypatch):
    def knows_all(test, boxes):
        true = np.stack([sample["keypoints"].numpy() for sample in test.crops(boxes, FACE_CROP)])
        return true, true

    monkeypatch.setitem(ROWS, "mean face", lambda _: Answer(knows_all))
    test = frames.subset(range(5, 11)).centred((0.03, 0.04))
    split = Split("all", "", (test, test), {"official": HeldOut((test,), test.people)})
    (centred, published), curves = measure(
        "mean face", split, {("official", "exact"): split.tests["official"].exact_boxes()}
    )
    assert (centred["labels"], published["labels"]) == ("centred", "as published")
    true = frames.keypoints[5:11]
    expected = 0.05 * np.sqrt(np.ptp(true, axis=1).prod(axis=1)) / np.linalg.norm(true[:, 36] - true[:, 45], axis=1)
    assert centred["NME %"] == 0 == curves[-1]["NME % at most"]
    assert published["NME %"] == pytest.approx(100 * expected.mean(), rel=1e-4)


def test_a_row_with_a_second_look_crops_again_by_the_box_of_the_first_prediction(frames, monkeypatch):
    points = frames[3]["keypoints"]
    box = tight_box(points)
    answer = 0.8 * (points - box[:2] - box[2:] / 2) / box[2:].max()  # from the centre, in box sides

    class SmallerFace(nn.Linear):
        num_keypoints, expects = 68, PARTS_OF_128

        def forward(self, images):
            return torch.tensor(0.5 + answer / 1.5).expand(len(images), -1, -1)

    monkeypatch.setattr("benchmarks.compare.trained", lambda *_: SmallerFace(1, 1))
    test = frames.subset(range(6))
    split = Split("all", "", (test, test), {"official": HeldOut((test,), test.people)})
    boxes = {("official", "exact"): split.tests["official"].exact_boxes()}

    def error(true, looks):
        box = tight_box(true)
        for _ in range(looks):
            found = box[:2] + box[2:] / 2 + box[2:].max() * answer
            box = tight_box(found)
        return np.linalg.norm(found - true, axis=1).mean() / np.linalg.norm(true[36] - true[45])

    for name, looks in (("accurate", 1), ("accurate, second look", 2)):
        ((row, _), _) = measure(name, split, boxes)
        assert row["NME %"] == pytest.approx(100 * np.mean([error(k["keypoints"], looks) for k in test]), rel=1e-3)


def test_a_network_of_whole_frames_sees_no_boxes(monkeypatch):
    monkeypatch.setattr("benchmarks.compare.trained", lambda *_: nn.Identity())
    assert not network("course-mse", None).sees_boxes and not network("course-mse", None).model
    assert network("face-crops", None).sees_boxes and network("face-crops", None).model


@pytest.mark.parametrize(("splits", "error"), [("all", DataError), ("al", SystemExit)])
def test_drawn_faces_and_unknown_splits_are_refused(splits, error, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.compare.find_data", lambda: DataFolder(drawn, Kind.DRAWN, "drawn faces"))
    monkeypatch.setattr("benchmarks.compare.RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["compare.py", "--rows", "mean face", "--splits", splits])
    with pytest.raises(error):
        main()
    assert not list(tmp_path.iterdir())


def test_a_spread_that_equals_the_error_has_a_rank_correlation_of_one_and_a_shuffled_one_of_zero():
    rng = np.random.default_rng(0)
    true = np.tile(rng.uniform(0.2, 0.8, (1, 68, 2)), (80, 1, 1))
    spread = rng.uniform(0.001, 0.05, (80, 68)) * rng.uniform(0.2, 2, (80, 1))
    spread[:, [36, 45]] = 0.02  # so the predicted eye distance is off by a constant
    predicted = true + np.stack([2 * spread, 0 * spread], axis=2)
    perfect = calibration(predicted, true, spread)
    blind = calibration(predicted, true, rng.permuted(spread, axis=None))
    assert perfect["rank correlation, faces"] == pytest.approx(1, abs=1e-4)
    assert perfect["rank correlation, keypoints"] == pytest.approx(1, abs=1e-4)
    assert abs(blind["rank correlation, keypoints"]) < 0.05 and abs(blind["rank correlation, faces"]) < 0.4
    assert perfect["right, confidence under 50 %"] < perfect["right, confidence 90 % and over"]


def test_buckets_hold_the_faces_that_their_names_say():
    table = pd.DataFrame({"yaw": [0, 14, 15, 29, 31, 60, 3, 5], "sharpness": range(8), "light": range(8, 0, -1)})
    masks = buckets(table)
    assert np.flatnonzero(masks["turned by 15 to 30 degrees"]).tolist() == [2, 3]
    assert np.flatnonzero(masks["turned by 30 to 90 degrees"]).tolist() == [4, 5]
    assert np.flatnonzero(masks["most blurred quarter"]).tolist() == [0, 1]
    assert np.flatnonzero(masks["darkest quarter"]).tolist() == [6, 7]


@pytest.mark.parametrize("camera", video.CAMERAS)
def test_the_keypoints_of_a_moved_photo_move_with_its_pixels(camera, monkeypatch):
    monkeypatch.setattr(video, "SECONDS", 1)
    photo, keypoints = draw_face(3, 300)
    photo = np.zeros_like(photo)
    cv2.circle(photo, np.rint(keypoints[30] * 16).astype(int).tolist(), 6 * 16, (255,) * 3, -1, cv2.LINE_AA, 4)
    places = []
    for image, _, points in video.photo_frames(photo, keypoints, camera):
        weight = np.where(image[..., 0] > 60, image[..., 0].astype(float), 0)
        y, x = np.indices(weight.shape)
        middle = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        np.testing.assert_allclose(points[30], middle, atol=0.5)
        places.append(points)
    assert (np.ptp(places, axis=0).max() > 1) == (camera is not video.rest)


def test_jitter_and_lag_of_points_that_tremble_and_come_late():
    times = np.arange(90) / 30
    truth = 20 * np.stack([np.sin(6 * times), np.cos(5 * times)], axis=-1)[:, None] + np.zeros((1, 68, 1))
    late = np.concatenate([truth[:1], truth[:-1]])
    assert video.lag(late, truth) == pytest.approx(1, abs=0.05) and video.lag(truth, truth) == 0
    noise = np.random.default_rng(0).normal(0, 0.5, truth.shape)
    sway, steps = video.jitter(truth + noise - truth)
    assert sway == pytest.approx(0.5 * np.sqrt(2), rel=0.05)
    assert steps == pytest.approx(0.5 * np.sqrt(np.pi), rel=0.05), "the mean length of a difference of two"


def test_filters_are_compared_with_those_on_the_true_keypoints():
    times = np.arange(60)[:, None, None] / 30
    truth = keypoints_of(20) + 20 * np.sin(3 * times) * [1, 0]
    noise = np.random.default_rng(0).normal(0, 1, truth.shape)
    late = np.concatenate([truth[:1], truth[:-1]])
    late[40] = np.nan
    rows = {row["filter"]: row for row in video.filter_rows(video.Followed(truth, truth + noise, late, []))}
    assert (
        set(rows) == set(video.WORN)
        and rows["hat"]["jitter, not smoothed"] > rows["sunglasses"]["jitter, not smoothed"]
    )
    for row in rows.values():
        assert row["lag, frames"] == pytest.approx(1, abs=0.05) and row["jitter"] < row["jitter, not smoothed"]
    (resting, _) = video.filter_rows(
        video.Followed(truth[:1].repeat(30, 0), noise[:30] + truth[0], truth[:1].repeat(30, 0), [])
    )
    assert resting["jitter"] == 0 and "lag, frames" not in resting
