"""Aligned crops: where eyes and mouth land, against the published references."""

import numpy as np
import pytest

from data_sets.drawn_faces import draw_face
from facial_keypoints.align import ARCFACE, aligned_face, alignment, five_points
from facial_keypoints.geometry import similarity_matrix, transform_points, warp
from facial_keypoints.images import DataError


def test_a_face_with_the_five_points_of_the_reference_is_not_moved():
    keypoints = np.zeros((68, 2))
    keypoints[36:42], keypoints[42:48] = ARCFACE[:2]
    keypoints[[30, 48, 54]] = ARCFACE[2:]
    np.testing.assert_allclose(alignment(keypoints, 112), np.eye(2, 3), atol=1e-9)


@pytest.mark.parametrize("seed", [3, 4, 12])
def test_eyes_of_drawn_faces_land_where_arcface_has_them_at_any_tilt(seed):
    image, keypoints = draw_face(seed)
    for angle in (0, 30, 180):
        tilt = similarity_matrix(angle, 0.8, (5, 9), image.shape[1::-1])
        points = transform_points(tilt, keypoints)
        landed = transform_points(alignment(points, 112), five_points(points))
        assert np.abs(landed[:2] - ARCFACE[:2]).max() < 7, "pixels; heads differ in shape and turn"
        assert np.linalg.norm(landed - ARCFACE, axis=1).mean() < 6
        residual = (landed - ARCFACE).sum(axis=0)
        np.testing.assert_allclose(residual, 0, atol=1e-3, err_msg="least squares leave no mean offset")


def square_of_ffhq(keypoints):
    """The corners of the square as FFHQ's published script computes them, line by line."""
    eye_left, eye_right = keypoints[36:42].mean(axis=0), keypoints[42:48].mean(axis=0)
    eye_avg, eye_to_eye = (eye_left + eye_right) * 0.5, eye_right - eye_left
    eye_to_mouth = (keypoints[48] + keypoints[54]) * 0.5 - eye_avg
    x = eye_to_eye - np.flipud(eye_to_mouth) * [-1, 1]
    x /= np.hypot(*x)
    x *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    y, c = np.flipud(x) * [-1, 1], eye_avg + eye_to_mouth * 0.1
    return np.stack([c - x - y, c - x + y, c + x + y, c + x - y])


@pytest.mark.parametrize("seed", [3, 4, 12])
def test_the_crop_of_256_is_the_square_of_ffhq(seed):
    keypoints = draw_face(seed)[1].astype(float)
    landed = transform_points(alignment(keypoints, 256), square_of_ffhq(keypoints))
    np.testing.assert_allclose(landed, [(-0.5, -0.5), (-0.5, 255.5), (255.5, 255.5), (255.5, -0.5)], atol=1e-3)


@pytest.mark.parametrize("size", [112, 256])
def test_the_crop_follows_its_matrix_and_is_the_same_for_a_tilted_photo(size):
    image, keypoints = draw_face(3)
    crop = aligned_face(image, keypoints, size)
    assert crop.shape == (size, size, 3) and crop.dtype == np.uint8
    tilt = similarity_matrix(25, 1, (0, 0), image.shape[1::-1])
    other = aligned_face(warp(image, tilt, image.shape[1::-1]), transform_points(tilt, keypoints), size)
    middle = slice(size // 3, -size // 3)
    difference = np.abs(crop.astype(int) - other)[middle, middle]
    assert difference.mean() < 4, "gray levels, from bilinear sampling"


def test_what_cannot_be_aligned_is_one_sentence():
    image, keypoints = draw_face(3)
    with pytest.raises(DataError, match="aligned crops of 100 pixels: expected 112 or 256"):
        aligned_face(image, keypoints, 100)
    with pytest.raises(DataError, match="no face to align"):
        aligned_face(image, np.full((68, 2), 7.0))
    with pytest.raises(DataError, match="no face to align"):
        aligned_face(image, np.full((68, 2), np.nan), 256)
    with pytest.raises(DataError, match="only ibug-68"):
        aligned_face(image, keypoints[:5])
