"""Filters against Pillow (blending), linear least squares (similarity), projections made by hand (pose)."""

import cv2
import draw_artwork
import numpy as np
import pytest
from PIL import Image

from facial_keypoints import drawing, filters, geometry
from facial_keypoints.eyes import EYES_CLOSED_BELOW, eye_openness
from facial_keypoints.pose import FACE_3D, head_pose
from facial_keypoints.shipped import shipped

NAMES = ["sunglasses", "moustache", "hat"]
RED, GREEN, BLUE = np.eye(3, dtype=int) * 255


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)


@pytest.fixture
def artwork():
    """Random colours under random alpha."""
    return np.random.default_rng(1).integers(0, 256, (40, 60, 4), dtype=np.uint8)


def shift(x, y):
    return np.array([(1.0, 0, x), (0, 1, y)])


def turned(angle, scale, x, y):
    """Clockwise in the picture by an angle in degrees."""
    cos, sin = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    return np.array([(cos, -sin, x), (sin, cos, y)])


def moved(points, matrix):
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def face(angle=0.0, scale=100.0, x=200.0, y=200.0):
    """Keypoints of a face that looks into the camera; scale is its eye distance in pixels."""
    return moved(FACE_3D[:, :2], turned(angle, scale, x, y)).astype(np.float32)


def centroid(weights):
    """x, y of the centre of gravity."""
    y, x = np.indices(weights.shape)
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


# Blending


def test_overlay_equals_pillow_for_a_whole_shift(photo, artwork):
    expected = Image.fromarray(photo).convert("RGBA")
    expected.alpha_composite(Image.fromarray(artwork), (31, 17))
    difference = filters.overlay(photo, artwork, shift(31, 17)).astype(int) - np.array(expected)[..., :3]
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.02


def test_opaque_artwork_replaces_and_transparent_artwork_leaves_the_photo(photo, artwork):
    artwork[..., 3] = 255
    result = filters.overlay(photo, artwork, shift(50, 30))
    np.testing.assert_array_equal(result[30:70, 50:110], artwork[..., :3])
    result[30:70, 50:110] = photo[30:70, 50:110]
    np.testing.assert_array_equal(result, photo)
    artwork[..., 3] = 0
    np.testing.assert_array_equal(filters.overlay(photo, artwork, turned(20, 1.3, 50, 30)), photo)


@pytest.mark.parametrize("x, y", [(-60, 10), (160, 10), (10, -40), (10, 120), (1e7, 0), (-1e7, -1e7)])
def test_artwork_outside_the_frame_leaves_an_equal_photo(photo, artwork, x, y):
    result = filters.overlay(photo, artwork, shift(x, y))
    assert result is not photo
    np.testing.assert_array_equal(result, photo)


@pytest.mark.parametrize("angle, scale, x, y", [(30, 1.5, -9, -9), (-75, 0.6, 140, 110), (9, 9, -99, -99)])
def test_artwork_partly_outside_is_cut_off_at_the_border(photo, artwork, angle, scale, x, y):
    matrix = turned(angle, scale, x, y)
    artwork = cv2.GaussianBlur(artwork, (0, 0), 3)  # cv2.warpAffine rounds positions to 1/32 pixel
    border = 300
    large = cv2.copyMakeBorder(photo, *[border] * 4, cv2.BORDER_CONSTANT)
    whole = filters.overlay(large, artwork, matrix + shift(border, border) * (0, 0, 1))
    cut = whole[border:-border, border:-border].astype(int)
    assert np.abs(filters.overlay(photo, artwork, matrix) - cut).max() <= 2
    assert (cut != photo).any()


def test_overlay_modifies_none_of_its_arguments(photo, artwork):
    arguments = photo, artwork, turned(15, 0.5, 40.5, 20.5)
    before = [argument.copy() for argument in arguments]
    filters.overlay(*arguments)
    for argument, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(argument, copy)


@pytest.mark.parametrize("scale", [0.21, 0.77, 1, 3.3])
def test_the_colour_of_transparent_pixels_makes_no_fringe(scale):
    white = np.full((200, 200, 3), 255, np.uint8)
    artwork = np.zeros((50, 50, 4), np.uint8)  # transparent black around opaque white
    artwork[10:40, 10:40] = 255
    assert filters.overlay(white, artwork, turned(33, scale, 90.3, 40.8)).min() >= 254


def test_large_artwork_on_a_small_face_does_not_alias():
    board = np.full((400, 400, 4), 255, np.uint8)
    board[..., :3] = 255 * (np.indices((400, 400)).sum(0) % 2)[..., None]
    result = filters.overlay(np.zeros((80, 80, 3), np.uint8), board, turned(25, 0.09, 40, 20))
    inside = moved([(200, 200)], turned(25, 0.09, 40, 20))[0].astype(int)
    patch = result[inside[1] - 8 : inside[1] + 8, inside[0] - 8 : inside[0] + 8]
    assert np.abs(patch.astype(int) - 127.5).max() < 4


@pytest.mark.parametrize("scale", [0.1, 0.37, 0.9, 1, 2.6])
def test_a_blob_lands_where_the_matrix_says(scale):
    y, x = np.mgrid[:200, :300]
    artwork = np.full((200, 300, 4), 255, np.uint8)
    artwork[..., 3] = 255 * np.exp(-((x - 211.0) ** 2 + (y - 64.0) ** 2) / 2 / 15**2)
    matrix = turned(-40, scale, 110, 400)
    result = filters.overlay(np.zeros((700, 800, 3), np.uint8), artwork, matrix)
    expected = moved([(211, 64)], matrix)[0]
    np.testing.assert_allclose(centroid(result[..., 0].astype(float)), expected, atol=0.05)


def test_an_enlarged_picture_keeps_the_soft_rim_of_its_outer_pixels():
    dot = np.full((2, 3, 4), 255, np.uint8)
    result = filters.overlay(np.zeros((90, 90, 3), np.uint8), dot, turned(20, 12, 40, 40))
    assert result[..., 0].sum() / 255 == pytest.approx(2 * 3 * 12 * 12, rel=0.01)


def test_artwork_shrunk_to_a_point_leaves_the_photo(photo, artwork):
    np.testing.assert_array_equal(filters.overlay(photo, artwork, turned(0, 0, 50, 50)), photo)


# Artwork


@pytest.mark.parametrize("name", NAMES)
def test_committed_artwork_is_what_the_script_draws(name):
    picture, path = filters.load_artwork(name), shipped(f"{name}.png")
    assert picture.dtype == np.uint8 and picture.shape[2] == 4
    assert path.stat().st_size < 100_000
    drawn = draw_artwork.finish(draw_artwork.PICTURES[name]())
    assert np.abs(drawn.astype(int) - picture).mean() < 0.1


def test_lenses_are_tinted_glass_in_a_solid_frame():
    alpha = filters.load_artwork("sunglasses")[..., 3]
    anchors = filters.ANCHORS["sunglasses"]
    assert all(120 < alpha[anchors[eye][::-1]] < 245 for eye in ("right eye", "left eye"))
    assert alpha[70, 300] == 255 and alpha[0, 0] == 0


def test_artwork_of_any_path_becomes_rgba(tmp_path, artwork):
    Image.fromarray(artwork).save(tmp_path / "mine.png")
    np.testing.assert_array_equal(filters.load_artwork(tmp_path / "mine.png"), artwork)
    Image.fromarray(artwork[..., [0, 3]], "LA").save(tmp_path / "gray.png")
    gray = filters.load_artwork(str(tmp_path / "gray.png"))
    np.testing.assert_array_equal(gray, artwork[..., [0, 0, 0, 3]])


def test_bad_artwork_is_one_clear_sentence(tmp_path, photo):
    with pytest.raises(FileNotFoundError, match=r"beard\.png: no such file.*sunglasses, moustache, hat"):
        filters.load_artwork(tmp_path / "beard.png")
    Image.fromarray(photo).save(tmp_path / "plain.png")
    with pytest.raises(ValueError, match=r"plain\.png: the picture has no alpha channel"):
        filters.load_artwork(tmp_path / "plain.png")
    half = shipped("hat.png").read_bytes()[:20_000]
    for content in (b"no picture", half):
        (tmp_path / "broken.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.png: not a picture"):
            filters.load_artwork(tmp_path / "broken.png")


# Placement


def test_similarity_equals_linear_least_squares_and_never_mirrors():
    random = np.random.default_rng(2)
    for _ in range(20):
        source, target = random.normal(size=(2, 5, 2)) * 50
        # x' = a x - b y + c, y' = b x + a y + d: two equations a point for a, b, c, d
        equations = [row for x, y in source for row in ((x, -y, 1, 0), (y, x, 0, 1))]
        a, b, c, d = np.linalg.lstsq(np.array(equations), target.ravel(), rcond=None)[0]
        np.testing.assert_allclose(geometry.similarity(source, target), [(a, -b, c), (b, a, d)], atol=1e-9)
    assert np.linalg.det(geometry.similarity(source, source * (-1, 1))[:, :2]) > 0


@pytest.mark.parametrize("angle, scale", [(0, 100), (35, 60), (-120, 145), (180, 30)])
@pytest.mark.parametrize("name", NAMES)
def test_anchors_land_on_the_face_however_it_is_turned(name, angle, scale):
    upright = FACE_3D[:, :2]
    temples = upright[[0, 16]] - (0, filters.HAT_LIFT * (upright[16, 0] - upright[0, 0]))
    expected = {
        "sunglasses": [upright[36:42].mean(0), upright[42:48].mean(0), upright[27]],
        "moustache": upright[[33, 48, 54]],
        "hat": temples,
    }[name]
    for anchor, point in zip(filters.ANCHORS[name].values(), expected, strict=True):
        blob = np.zeros((452, 601, 4), np.uint8)
        cv2.circle(blob, anchor, 15, (255, 0, 0, 255), -1)
        matrix = filters.placement(face(angle, scale, 250, 260), name)
        result = filters.overlay(np.zeros((500, 500, 3), np.uint8), blob, matrix)
        target = moved([point], turned(angle, scale, 250, 260))[0]
        assert np.linalg.norm(centroid(result[..., 0].astype(float)) - target) < 0.04 * scale


@pytest.mark.parametrize("angle, scale", [(0, 100), (-50, 60)])
def test_the_points_of_a_face_that_looks_ahead_are_those_of_its_names(angle, scale):
    upright, matrix = FACE_3D[:, :2], turned(angle, scale, 250, 260)
    width = upright[16, 0] - upright[0, 0]
    expected = {
        "right eye": upright[36:42].mean(0),
        "left eye": upright[42:48].mean(0),
        "nose bridge": upright[27],
        "nose base": upright[33],
        "right mouth corner": upright[48],
        "left mouth corner": upright[54],
        "right temple": upright[0] - (0, filters.HAT_LIFT * width),
        "left temple": upright[16] - (0, filters.HAT_LIFT * width),
    }
    points = filters.face_points(face(angle, scale, 250, 260))
    assert set(points) == set(expected)
    for name, point in expected.items():
        np.testing.assert_allclose(points[name], moved([point], matrix)[0], atol=1e-3)


def test_a_hat_stays_on_the_skull_when_the_head_turns():
    turn = cv2.Rodrigues(np.radians([0.0, -30, 0]))[0]
    pixels = (FACE_3D @ turn.T)[:, :2] * 100 + 200
    points = filters.face_points(pixels)
    width = np.linalg.norm(points["left temple"] - points["right temple"])
    assert width > np.ptp(pixels[[0, 16], 0])
    middle = (points["left temple"] + points["right temple"]) / 2
    assert middle[0] < pixels[[0, 16], 0].mean()  # behind the face, which looks to the right


def test_wear_puts_the_pictures_where_they_belong():
    gray = np.full((400, 400, 3), 128, np.uint8)
    changed = {name: (filters.wear(gray, face(y=230), name) != gray).any(2) for name in NAMES}
    middle = {name: centroid(mask.astype(float)) for name, mask in changed.items()}
    assert middle["hat"][1] < middle["sunglasses"][1] < middle["moustache"][1]
    np.testing.assert_allclose([x for x, _ in middle.values()], 200, atol=3)
    for x, y in face(y=230)[36:48].astype(int):
        assert changed["sunglasses"][y, x]


@pytest.mark.parametrize("name", NAMES)
def test_several_faces_are_worn_one_after_the_other_and_none_is_fine(photo, name):
    faces = np.stack([face(10, 30, 40, 60), face(-20, 20, 120, 70), face(0, 50, -500, -500)])
    one_by_one = photo
    for keypoints in faces:
        one_by_one = filters.wear(one_by_one, keypoints, name)
    before = photo.copy()
    np.testing.assert_array_equal(filters.wear(photo, faces, name), one_by_one)
    np.testing.assert_array_equal(photo, before)
    empty = filters.wear(photo, np.zeros((0, 68, 2)), name)
    assert empty is not photo
    np.testing.assert_array_equal(empty, photo)


def test_a_hat_above_the_picture_border_is_cut_off(photo):
    cut = filters.wear(photo, face(5, 60, 80, 50), "hat")
    large = cv2.copyMakeBorder(photo, 200, 200, 200, 200, cv2.BORDER_CONSTANT)
    whole = filters.wear(large, face(5, 60, 280, 250), "hat")[200:-200, 200:-200]
    assert np.abs(cut.astype(int) - whole).max() <= 2
    assert (cut[0] != photo[0]).any()


@pytest.mark.parametrize(
    "keypoints, name, message",
    [
        (np.zeros((68, 2)), "cap", "'cap': nothing of that name.*sunglasses, moustache, hat"),
        (np.zeros((58, 2)), "hat", r"\(58, 2\): expected"),
        (np.zeros((1, 1, 68, 2)), "hat", r"\(1, 1, 68, 2\): expected"),
        (np.full((68, 2), np.nan), "hat", "finite"),
    ],
)
def test_wear_refuses_what_it_cannot_place(photo, keypoints, name, message):
    with pytest.raises(ValueError, match=message):
        filters.wear(photo, keypoints, name)


def test_photos_of_every_kind_are_taken(photo, tmp_path):
    gray = photo[..., 0]
    expected = filters.wear(np.repeat(gray[..., None], 3, axis=2), face(0, 30, 80, 60), "hat")
    Image.fromarray(gray).save(tmp_path / "photo.png")
    for same in (gray, gray.astype(np.uint16) * 257, Image.fromarray(gray), tmp_path / "photo.png"):
        np.testing.assert_array_equal(filters.wear(same, face(0, 30, 80, 60), "hat"), expected)
    rgba = np.dstack([photo, gray])
    pose = head_pose(face(0, 30, 80, 60))
    np.testing.assert_array_equal(drawing.draw_axes(rgba, pose), drawing.draw_axes(photo, pose))


def test_keypoints_all_in_one_spot_leave_the_photo(photo):
    for name in NAMES:
        np.testing.assert_array_equal(filters.wear(photo, np.full((68, 2), 50.0), name), photo)


# Eyes


def eyes(right, left):
    keypoints = np.zeros((68, 2), np.float32)
    keypoints[36:42], keypoints[42:48] = right, left
    return keypoints


OPEN = np.array([(0, 0), (2, -1), (4, -2), (6, 0), (4, 2), (2, 1)])  # heights 2 and 4, width 6: 6 / 12
NARROW = OPEN * (1, 0.2)  # 1.2 / 12


def test_eye_openness_equals_numbers_worked_by_hand():
    assert eye_openness(eyes(OPEN, NARROW + 20)) == pytest.approx((0.5, 0.1))
    tilted = moved(OPEN, turned(50, 7, 100, 30))
    assert eye_openness(eyes(tilted, tilted)) == pytest.approx((0.5, 0.5))
    assert eye_openness(eyes(OPEN, OPEN * 0)) == pytest.approx((0.5, 0.0))


def test_the_mean_face_has_open_eyes_and_lids_brought_together_are_closed():
    keypoints = face()
    assert min(eye_openness(keypoints)) > EYES_CLOSED_BELOW
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        keypoints[upper] = keypoints[lower] + 0.2 * (keypoints[upper] - keypoints[lower])
    assert max(eye_openness(keypoints)) < EYES_CLOSED_BELOW
