import numpy as np
import pytest

from facial_keypoints import drawing
from facial_keypoints.face_3d import FACE_3D
from facial_keypoints.pose import DISTANCE, RIGID_POINTS, head_pose
from facial_keypoints.schemes import IBUG_68

# The pairs that swap, counted from 1, as published with HRNet's facial landmark code (Sun et al. 2019, 300-W).
PUBLISHED_PAIRS = [
    [1, 17], [2, 16], [3, 15], [4, 14], [5, 13], [6, 12], [7, 11], [8, 10],
    [18, 27], [19, 26], [20, 25], [21, 24], [22, 23],
    [32, 36], [33, 35],
    [37, 46], [38, 45], [39, 44], [40, 43], [41, 48], [42, 47],
    [49, 55], [50, 54], [51, 53], [62, 64], [61, 65], [68, 66], [59, 57], [60, 56],
]  # fmt: skip


def test_mirror_table_is_the_published_one():
    published = np.arange(68)
    for a, b in PUBLISHED_PAIRS:
        published[[a - 1, b - 1]] = b - 1, a - 1
    np.testing.assert_array_equal(IBUG_68.mirror, published)


def test_parts_cover_every_point_once():
    assert sorted(i for part in IBUG_68.parts.values() for i in part) == list(range(68))
    assert {i for contour in IBUG_68.contours.values() for i in contour} == set(range(68))


def test_3d_face_is_symmetric_and_looks_at_the_camera():
    np.testing.assert_allclose(IBUG_68.swap_sides(FACE_3D) * [-1, 1, 1], FACE_3D, atol=1e-9)
    assert np.isclose(np.linalg.norm(np.subtract(*FACE_3D[list(IBUG_68.ruler)])), 1, atol=2e-3)
    assert FACE_3D[:, 2].argmin() == 30, "the tip of the nose is nearest to the camera"
    assert FACE_3D[8, 1] > FACE_3D[57, 1] > FACE_3D[33, 1] > FACE_3D[27, 1], "chin, lip, nose, bridge from below"


def rotation(yaw=0.0, pitch=0.0, roll=0.0):
    """Positive angles: nose right, nose up, clockwise. Axes: x right, y down, z away from the camera."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_z = np.array([(np.cos(r), -np.sin(r), 0), (np.sin(r), np.cos(r), 0), (0, 0, 1)])
    about_y = np.array([(np.cos(y), 0, -np.sin(y)), (0, 1, 0), (np.sin(y), 0, np.cos(y))])
    about_x = np.array([(1, 0, 0), (0, np.cos(p), np.sin(p)), (0, -np.sin(p), np.cos(p))])
    return about_z @ about_y @ about_x


def project(turn, eyes=100.0, middle=(320, 240)):
    """FACE_3D as seen by a camera at DISTANCE, about `middle`, with `eyes` pixels per outer-eye distance."""
    x, y, z = (FACE_3D @ turn.T).T
    return np.stack([x, y], axis=1) * (eyes * DISTANCE / (z + DISTANCE))[:, None] + middle


def test_keypoints_on_a_line_have_a_pose():
    pose = head_pose(project(rotation()) * [1, 0])
    assert np.isfinite([pose.yaw, pose.pitch, pose.roll]).all()


@pytest.mark.parametrize(
    "yaw, pitch, roll", [(0, 0, 0), (30, 0, 0), (0, 25, 0), (0, 0, 40), (-45, -20, 15), (20, 10, -60), (75, 5, 10)]
)
@pytest.mark.parametrize("eyes, middle", [(100, (320, 240)), (13, (3900, 40))])
def test_head_pose_recovers_the_angles_of_a_projected_face(yaw, pitch, roll, eyes, middle):
    keypoints = project(rotation(yaw, pitch, roll), eyes, middle).astype(np.float32)
    pose = head_pose(keypoints)
    np.testing.assert_allclose((pose.yaw, pose.pitch, pose.roll), (yaw, pitch, roll), atol=2)
    assert pose.scale == pytest.approx(eyes, rel=0.02)
    assert np.abs(pose.project(FACE_3D) - keypoints).max() < 0.02 * eyes


def test_the_pose_does_not_depend_on_where_in_a_photo_the_face_is():
    keypoints = project(rotation(35, -10, 5))
    here, there = head_pose(keypoints), head_pose(keypoints * 0.3 + (3000, 20))
    np.testing.assert_allclose(here.rotation, there.rotation, atol=1e-4)


def test_angles_have_the_documented_signs():
    right, up, tilted = (project(rotation(**{a: 20})) for a in ("yaw", "pitch", "roll"))
    frontal = project(np.eye(3))
    assert right[30, 0] > frontal[30, 0] + 5  # the tip of the nose moves to the right
    assert up[30, 1] < frontal[30, 1] - 5  # the tip of the nose moves up
    assert tilted[45, 1] > tilted[36, 1] + 20  # clockwise: the eye on the right of the picture goes down
    for keypoints, angle in ((right, "yaw"), (up, "pitch"), (tilted, "roll")):
        assert getattr(head_pose(keypoints), angle) == pytest.approx(20, abs=1)


def test_noisy_keypoints_never_put_the_head_behind_the_camera():
    random = np.random.default_rng(3)
    for angles in random.uniform(-40, 40, (50, 3)):
        pose = head_pose(project(rotation(*angles)) + random.normal(0, 3, (68, 2)))
        assert pose.translation[2] > DISTANCE / 2
        np.testing.assert_allclose((pose.yaw, pose.pitch, pose.roll), angles, atol=10)


def test_an_open_mouth_and_the_outline_do_not_turn_the_head():
    keypoints = project(rotation(20, 5, 0))
    moved = keypoints.copy()
    others = np.setdiff1d(np.arange(68), RIGID_POINTS)
    moved[others] += 30
    np.testing.assert_array_equal(head_pose(moved).rotation, head_pose(keypoints).rotation)


@pytest.mark.parametrize("value", [70.0, np.nan])
def test_keypoints_without_a_pose_are_refused(value):
    with pytest.raises(ValueError, match="all in one spot or not finite"):
        head_pose(np.full((68, 2), value))


def test_one_keypoint_at_infinity_is_refused():
    keypoints = project(np.eye(3))
    keypoints[30, 0] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        head_pose(keypoints)


def test_axes_start_at_the_nose_and_point_right_down_and_out():
    black = np.zeros((480, 640, 3), np.uint8)
    keypoints = project(rotation(yaw=40))
    drawn = drawing.draw_axes(black, head_pose(keypoints))
    assert not black.any()
    masks = [(drawn == colour).all(2) for colour in np.eye(3, dtype=int) * 255]
    red, green, blue = (np.argwhere(mask)[:, ::-1].mean(axis=0) - keypoints[30] for mask in masks)
    assert red[0] > 15 and abs(red[1]) < 10
    assert green[1] > 15 and abs(green[0]) < 10
    assert blue[0] > 15 and abs(blue[1]) < 10  # the nose points to the right of the picture
