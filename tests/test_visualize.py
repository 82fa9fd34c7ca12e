import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

import visualize
from facial_keypoints import drawing
from facial_keypoints.schemes import Scheme


def place_of(image, color):
    """Centre of the pixels of (nearly) one colour."""
    y, x = np.nonzero((np.abs(image.astype(int) - color) < 60).all(axis=-1))
    return np.array([x.mean(), y.mean()]) if len(x) else None


def rendered(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def test_dots_are_drawn_where_the_keypoints_are_in_the_agreed_colour():
    keypoints = np.array([[40.0, 30.0], [140.0, 90.0]])
    image = np.zeros((120, 200, 3), np.uint8)
    for point in keypoints:
        drawn = drawing.draw_keypoints(image, np.repeat(point[None], 68, 0))
        np.testing.assert_allclose(place_of(drawn, (255, 0, 255)), point, atol=0.5)
    assert image.max() == 0, "the photo itself stays as it was"


def test_dots_and_boxes_outside_the_picture_are_cut_off():
    image = np.zeros((50, 50, 3), np.uint8)
    drawn = drawing.draw_keypoints(image, np.array([[-300.0, 20.0], [1000.0, 1000.0]]))
    drawn = drawing.draw_boxes(drawn, [[-20, 10, 40, 20]])
    assert drawn.shape == image.shape and place_of(drawn, (255, 0, 0)) is not None


def test_boxes_are_red_and_where_the_numbers_say():
    drawn = drawing.draw_boxes(np.zeros((100, 100, 3), np.uint8), [[20, 30, 40, 50]])
    y, x = np.nonzero(drawn[..., 0] > 200)
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((20, 60, 30, 80), abs=1)


def test_a_grid_shows_truth_green_and_prediction_magenta_at_their_places():
    picture = np.zeros((100, 100, 3), np.uint8)
    true, predicted = np.array([[[25.0, 50.0]]]), np.array([[[75.0, 50.0]]])
    shown = rendered(visualize.show_images([picture], true, predicted))
    y, x = np.nonzero(shown.max(axis=-1) < 40)  # the black picture, and letters of the legend below it
    side = np.bincount(y).max()
    shown = shown[y.min() : y.min() + side, :]
    green, magenta = place_of(shown, (0, 255, 0)), place_of(shown, (255, 0, 255))
    width = x.max() - x.min() + 1
    assert (green[0] - x.min()) / width == pytest.approx(0.255, abs=0.02)
    assert (magenta[0] - x.min()) / width == pytest.approx(0.755, abs=0.02)


def test_tensors_and_gray_pictures_are_shown_too():
    for picture in (torch.zeros(1, 30, 40), torch.zeros(3, 30, 40), np.zeros((30, 40), np.uint8)):
        assert rendered(visualize.show_images([picture])).min() < 40


def test_a_map_of_points_without_contours_numbers_them_all():
    figure = visualize.show_landmark_map(np.zeros((9, 9, 3)), np.random.default_rng(0).random((5, 2)), Scheme("5", 5))
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["0", "1", "2", "3", "4"]


def test_worst_faces_come_worst_first_with_their_error():
    true = np.zeros((3, 68, 2))
    true[:, 45] = (10, 0)
    predicted = true + np.array([1, 3, 2])[:, None, None] * [1, 0]
    figure = visualize.show_worst([np.zeros((20, 20, 3), np.uint8)] * 3, true, predicted, count=2)
    assert [ax.get_title() for ax in figure.axes] == ["30.0 %", "20.0 %"]


def test_loss_curves_show_the_history():
    history = pd.DataFrame(
        {"epoch": [1, 2], "training loss": [3.0, 1.0], "validation loss": [4.0, 2.0], "validation NME %": [30, 20]}
    )
    left, right = visualize.show_loss_curves({"run": history}).axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[3, 1], [4, 2]]
    assert right.lines[0].get_ydata().tolist() == [30, 20]


def test_a_mosaic_keeps_points_on_their_faces():
    samples = [
        {"image": np.full((10, 20, 3), i, np.uint8), "keypoints": np.full((68, 2), 5, np.float32)} for i in range(5)
    ]
    photo, keypoints = visualize.mosaic(samples, columns=3)
    assert photo.shape == (20, 60, 3) and keypoints.shape == (5, 68, 2)
    for i, points in enumerate(keypoints):
        x, y = points[0].astype(int)
        assert (photo[y, x] == i).all()


def test_filtering_is_what_opencv_computes():
    image = np.random.default_rng(0).uniform(size=(20, 30)).astype(np.float32)
    kernel = np.array([[0, 0, 0], [-1, 0, 1], [0, 0, 0]], np.float32)
    shown = visualize.show_filtered(image, [kernel], ["edge"]).axes[1].images[0].get_array()
    np.testing.assert_allclose(shown[:, 1:-1], image[:, 2:] - image[:, :-2], atol=1e-6)
    assert cv2.filter2D(image, cv2.CV_32F, kernel).shape == shown.shape


def test_green_and_magenta_are_explained_where_both_are_drawn():
    image, points = np.zeros((20, 30, 3), np.uint8), np.full((1, 68, 2), 10.0)
    both = visualize.show_images([image], points, points)
    assert [text.get_text() for text in both.legends[0].get_texts()] == ["ground truth", "prediction"]
    colors = [dot.get_color() for dot in both.legends[0].get_lines()]
    assert colors == [visualize.TRUE, visualize.PREDICTED]
    assert not visualize.show_images([image], points).legends
