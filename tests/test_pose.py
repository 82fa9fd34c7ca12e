import numpy as np

from facial_keypoints.pose import FACE_3D
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
