import cv2
import numpy as np
import pytest

from facial_keypoints.geometry import (
    LONGEST_SIDE,
    compose,
    crop_matrix,
    invert,
    mirror_matrix,
    quarter_turns,
    resize,
    resize_matrix,
    similarity,
    similarity_matrix,
    tight_box,
    transform_points,
    turn_of,
    warp,
)


@pytest.fixture
def photo():
    """A smooth picture, 90 x 120, that differs from place to place and from channel to channel."""
    y, x = np.mgrid[:90, :120]
    return np.rint(128 + 120 * np.sin(np.dstack([x / 17, y / 13, (x + y) / 23]))).astype(np.uint8)


def test_a_tight_box_touches_the_outermost_points():
    box = tight_box(np.array([[3.0, 8.0], [7.0, 2.5], [5.0, 5.0]]))
    assert box.tolist() == [3, 2.5, 4, 5.5] and box.dtype == np.float32


def test_the_inner_matrix_of_a_composition_comes_first():
    double, move = np.array([[2.0, 0, 0], [0, 2, 0]]), np.array([[1.0, 0, 10], [0, 1, -5]])
    points = np.array([[1.0, 2.0], [0, 0]])
    assert transform_points(compose(double, move), points).tolist() == [[22, -6], [20, -10]]
    assert transform_points(compose(move, double), points).tolist() == [[12, -1], [10, -5]]
    assert transform_points(invert(move), points).tolist() == [[-9, 7], [-10, 5]]


def test_points_keep_their_shape_and_become_float32():
    points = np.arange(24.0).reshape(2, 3, 4)[..., :2]
    moved = transform_points(np.array([[0.0, 1, 0], [-1, 0, 7]]), points)
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved, np.stack([points[..., 1], 7 - points[..., 0]], axis=-1))


def test_a_crop_of_the_whole_picture_is_what_resize_matrix_says():
    """The edges of a picture lie half a pixel outside the centres of its outer pixels."""
    matrix = crop_matrix((-0.5, -0.5, 80, 80), size=120, margin=0.0)
    np.testing.assert_allclose(matrix, resize_matrix((80, 80), (120, 120)), atol=1e-12)


def test_a_positive_angle_turns_counter_clockwise_about_the_middle_and_the_shift_comes_last():
    matrix = similarity_matrix(90, 2.0, (10, -1), (101, 61))  # the middle is (50, 30)
    points = np.array([[50.0, 30.0], [51, 30], [50, 31]])  # middle, right of it, below it
    np.testing.assert_allclose(transform_points(matrix, points), [[60, 29], [60, 27], [62, 29]], atol=1e-4)


def test_mirroring_swaps_the_outer_columns(photo):
    np.testing.assert_array_equal(warp(photo, mirror_matrix(120), (120, 90)), photo[:, ::-1])


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 4])
def test_quarter_turns_move_points_as_numpy_turns_the_picture(turns, photo):
    turned = np.rot90(photo, turns)
    np.testing.assert_array_equal(warp(photo, quarter_turns(turns, photo.shape), turned.shape[1::-1]), turned)


@pytest.mark.parametrize("size", [(240, 270), (119, 89), (60, 30), (400, 45), (80, 200)])
def test_resizing_agrees_with_its_matrix(size):
    """The values of the picture are its coordinates, so each resized pixel shows where it is from."""
    x, y = np.meshgrid(np.arange(120, dtype=np.float32), np.arange(90, dtype=np.float32))
    small = resize(np.dstack([x, y, x]), size)
    assert small.shape == (size[1], size[0], 3)
    there = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), axis=-1)
    back = transform_points(invert(resize_matrix((120, 90), size)), there)
    inside = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(small[inside][..., :2], back[inside], atol=0.51 if size == (60, 30) else 0.6)


def test_shrinking_averages_and_enlarging_interpolates(photo):
    halved = photo.astype(float).reshape(45, 2, 60, 2, 3).mean(axis=(1, 3))
    assert np.abs(resize(photo, (60, 45)) - halved).max() <= 0.51
    for size, pixels in (((40, 90), (1, 3)), ((120, 30), (3, 1))):  # in one direction only
        averaged = photo.astype(float).reshape(size[1], pixels[0], size[0], pixels[1], 3).mean(axis=(1, 3))
        assert np.abs(resize(photo, size) - averaged).max() <= 0.51
    assert np.array_equal(resize(photo, (120, 90)), photo)
    assert np.array_equal(resize(photo, (200, 45)), cv2.resize(photo, (200, 45)))


@pytest.mark.parametrize("scale", [0.51, 0.8, 1.3])
def test_a_warp_that_hardly_shrinks_is_opencvs_with_a_replicated_border(scale, photo):
    matrix = similarity_matrix(30, scale, (4, 5), (80, 80))
    expected = cv2.warpAffine(photo, matrix, (80, 70), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    np.testing.assert_array_equal(warp(photo, matrix, (80, 70)), expected)


@pytest.mark.parametrize("side", [14, 19, 31])
@pytest.mark.parametrize("box", [(30, 20, 40, 44), (-30, -20, 60, 60), (80, 60, 80, 60), (0, 0, 120, 90)])
def test_a_warp_that_shrinks_averages_what_each_pixel_covers(side, box, photo):
    """Compared, away from the border, with a dense sampling that is averaged."""
    times, matrix = 16, crop_matrix(box, side, 0.1)
    fine = crop_matrix(box, side * times, 0.1)

    def averaged(picture, border):
        dense = cv2.warpAffine(picture, fine, (side * times,) * 2, borderMode=border).astype(float)
        return dense.reshape(side, times, side, times, -1).mean(axis=(1, 3))

    inside = averaged(np.ones((90, 120)), cv2.BORDER_CONSTANT)[..., 0] == 1
    inside = cv2.erode(inside.astype(np.uint8), np.ones((3, 3)), borderValue=1) == 1
    off = np.abs(warp(photo, matrix, (side, side)) - averaged(photo, cv2.BORDER_REPLICATE))[inside]
    assert inside.any() and off.mean() < 3 and off.max() < 10, (off.mean(), off.max())


@pytest.mark.parametrize("size", [(20, 60), (60, 20)])
@pytest.mark.parametrize("angle", [0, 35, -70])
def test_a_crop_that_shrinks_need_not_be_square(size, angle):
    """The values of the picture are its coordinates, so each pixel of the crop shows where it is from."""
    x, y = np.meshgrid(np.arange(260, dtype=np.float32), np.arange(260, dtype=np.float32))
    matrix = similarity_matrix(angle, 1 / 3, (size[0] / 2 - 130, size[1] / 2 - 130), (260, 260))
    seen = warp(np.dstack([x, y, x]), matrix, size)[..., :2]
    there = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), axis=-1)
    np.testing.assert_allclose(seen, transform_points(invert(matrix), there), atol=0.6)


def test_the_turn_of_a_similarity_has_neither_scale_nor_shift():
    turn = turn_of(similarity_matrix(30, 2.5, (4, 5), (80, 80)))
    np.testing.assert_allclose(turn, similarity_matrix(30, 1, (0, 0), (1, 1)) * [1, 1, 0], atol=1e-6)
    assert turn.shape == (2, 3)


def test_the_end_of_a_photo_that_is_too_long_for_opencv_is_warped_correctly():
    photo = np.random.default_rng(0).integers(0, 256, (10, LONGEST_SIDE + 1, 3), dtype=np.uint8)
    shown = warp(photo, np.array([[1.0, 0, 9 - LONGEST_SIDE], [0, 1, 0]]), (10, 10))
    np.testing.assert_array_equal(shown, photo[:, -10:])


def test_a_similarity_is_the_least_squares_solution():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(9, 2)), rng.normal(size=(9, 2))
    # numpy's own least squares for (a, b, c, d) in x' = a x - b y + c, y' = b x + a y + d
    rows = [[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in source]
    a, b, c, d = np.linalg.lstsq(np.reshape(rows, (18, 4)), target.ravel(), rcond=None)[0]
    np.testing.assert_allclose(similarity(source, target), [[a, -b, c], [b, a, d]], atol=1e-12)
    np.testing.assert_allclose(similarity(list(source), list(target)), [[a, -b, c], [b, a, d]], atol=1e-12)
    twice = np.arange(9) < 4  # a weight of 2 is the same as two equal points
    expected = similarity(np.concatenate([source, source[twice]]), np.concatenate([target, target[twice]]))
    np.testing.assert_allclose(similarity(source, target, 1.0 + twice), expected, atol=1e-12)


@pytest.mark.parametrize("x, y", [(900, 100), (-2000, 100), (100, 900), (100, -2000)])
def test_a_crop_outside_the_photo_shows_its_nearest_edge(x, y):
    photo = np.zeros((300, 400, 3), np.uint8)
    photo[:, -1], photo[:, 0], photo[-1], photo[0] = 200, 150, 100, 50
    crop = warp(photo, crop_matrix((x, y, 1000, 1000), 20, 0.0), (20, 20))
    edge = {(900, 100): photo[:, -1], (-2000, 100): photo[:, 0], (100, 900): photo[-1], (100, -2000): photo[0]}[x, y]
    assert np.abs(crop.astype(int) - edge[150]).mean() < 20 and np.abs(crop[8, 8].astype(int) - edge[150]).max() <= 2


def test_a_photo_that_is_thinner_than_a_pixel_of_the_crop_can_be_warped():
    thin = np.full((300, 3, 3), 70, np.uint8)
    for photo in (thin, np.ascontiguousarray(thin.transpose(1, 0, 2))):
        assert (warp(photo, crop_matrix((0, 0, 300, 300), 20, 0.0), (20, 20)) == 70).all()
