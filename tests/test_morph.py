"""Triangles against SciPy, warps of pictures with dots, swaps and morphs of drawn faces."""

import cv2
import numpy as np
import pytest
from scipy.spatial import Delaunay

from data_sets.drawn_faces import draw_face
from facial_keypoints.align import aligned_face, alignment
from facial_keypoints.geometry import tight_box, transform_points
from facial_keypoints.images import DataError
from facial_keypoints.morph import delaunay, morph, swap_face, warp_triangles

FIRST, SECOND = draw_face(4), draw_face(12)


@pytest.mark.parametrize("seed", range(3))
def test_triangles_equal_scipys(seed):
    points = np.random.default_rng(seed).uniform(-30, 400, (60, 2))
    corners = np.array([(-100, -100), (-100, 500), (500, -100), (500, 500.0)])
    points = np.concatenate([points, corners])

    def as_set(triangles):
        return {frozenset(triangle) for triangle in triangles.tolist()}

    ours = delaunay(points)
    assert as_set(ours) == as_set(Delaunay(points).simplices) and len(ours) == len(as_set(ours))
    areas = np.abs(np.linalg.det(points[ours][:, 1:] - points[ours][:, :1]))
    assert (np.diff(areas) > -1e-2).all(), "the smallest first"


def test_dots_move_to_the_target_points_and_corners_stay():
    rng, corners = np.random.default_rng(0), np.array([(0, 0), (0, 199), (299, 0), (299, 199.0)])
    source = np.concatenate([rng.uniform(40, 160, (1, 2)), corners])
    for _ in range(5):
        target = source.copy()
        target[0] = rng.uniform(60, 140, 2)
        image = np.full((200, 300, 3), 40, np.uint8)
        cv2.circle(image, np.rint(source[0] * 16).astype(int).tolist(), 4 * 16, (255,) * 3, -1, cv2.LINE_AA, 4)
        warped = warp_triangles(image, source, target, (300, 200))
        assert warped.min() == 40, "nothing is left uncovered"
        y, x = np.indices(warped.shape[:2])
        away = np.hypot(x - target[0, 0], y - target[0, 1])
        assert warped[away < 1.5].min() > 200 and warped[away > 20].max() < 45


def test_a_warp_onto_itself_changes_nothing_inside_and_is_black_outside():
    image, points = FIRST
    warped = warp_triangles(image, points, points, image.shape[1::-1])
    hull = cv2.fillConvexPoly(np.zeros(image.shape[:2], np.uint8), np.rint(cv2.convexHull(points)).astype(int), 1)
    inside, outside = cv2.erode(hull, np.ones((3, 3))) > 0, cv2.dilate(hull, np.ones((5, 5))) == 0
    np.testing.assert_allclose(warped[inside].astype(int), image[inside], atol=1)
    assert not warped[outside].any()


def test_a_swap_changes_the_face_and_nothing_around_it():
    (photo, points), (other, others) = FIRST, SECOND
    swapped = swap_face(photo, points, other, others)
    x, y, w, h = tight_box(points)
    changed = np.argwhere((swapped != photo).any(axis=-1))[:, ::-1]
    assert changed.min(axis=0) @ (1, 1) > 0 and (changed.min(axis=0) >= (x - 1, y - 1)).all()
    assert (changed.max(axis=0) <= (x + w + 1, y + h + 1)).all() and len(changed) > 0.4 * w * h
    core = (slice(int(y + h / 3), int(y + 2 * h / 3)), slice(int(x + w / 3), int(x + 2 * w / 3)))
    before, after = photo[core].reshape(-1, 3).mean(0), swapped[core].reshape(-1, 3).mean(0)
    assert np.abs(after - before).max() < 20, "it takes on the skin colour of the face that it replaces"
    same = swap_face(photo, points, photo, points)
    assert np.abs(same.astype(int) - photo).max() <= 1


def test_open_eyes_stay_open_on_a_face_with_closed_ones():
    (photo, points), (other, others) = FIRST, SECOND
    eye = np.rint(points[36:42].mean(0)).astype(int)
    around = (slice(eye[1] - 4, eye[1] + 5), slice(eye[0] - 8, eye[0] + 9))
    swapped = swap_face(photo, points, other, others)
    blue, blue_before = (picture[around][..., 2].astype(int) - picture[around][..., 0] for picture in (swapped, photo))
    assert blue.max() > blue_before.max() + 10, "the iris"


def test_a_morph_begins_and_ends_with_the_aligned_faces_and_its_points_lie_between_theirs():
    (photo, points), (other, others) = FIRST, SECOND
    ends = [morph(photo, points, other, others, part, 256) for part in (0, 1)]
    np.testing.assert_allclose(ends[0].astype(int), aligned_face(photo, points, 256), atol=2)
    np.testing.assert_allclose(ends[1].astype(int), aligned_face(other, others, 256), atol=2)
    dots = []
    for image, face in (FIRST, SECOND):
        image = np.zeros_like(image)
        cv2.circle(image, np.rint(face[30] * 16).astype(int).tolist(), 3 * 16, (255,) * 3, -1, cv2.LINE_AA, 4)
        dots.append((image, face))
    middle = morph(*dots[0], *dots[1], 0.5, 256)[..., 0].astype(float)
    y, x = np.indices(middle.shape)
    tip = np.array([(middle * x).sum(), (middle * y).sum()]) / middle.sum()
    tips = [transform_points(alignment(face, 256), face[30]) for _, face in dots]
    np.testing.assert_allclose(tip, np.mean(tips, axis=0), atol=1)


@pytest.mark.parametrize("wrong", [np.zeros((68, 2)), np.full((68, 2), np.nan), np.full((5, 2), 1.0), FIRST[1] * 1e6])
def test_impossible_keypoints_are_one_sentence(wrong):
    for call in (lambda: swap_face(*FIRST, SECOND[0], wrong), lambda: morph(FIRST[0], wrong, *SECOND, 0.5)):
        with pytest.raises(DataError, match="keypoints"):
            call()


def test_a_face_outside_the_photo_changes_nothing_and_one_at_the_edge_is_cut_off():
    photo, points = FIRST
    np.testing.assert_array_equal(swap_face(photo, points + 5000, *SECOND), photo)
    assert swap_face(photo, points - [tight_box(points)[0] + 30, 0], *SECOND).shape == photo.shape
