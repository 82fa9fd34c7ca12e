"""Filters against Pillow (blending), linear least squares (similarity) and projections of the mean head."""

import cv2
import draw_artwork
import numpy as np
import pytest
from PIL import Image

from facial_keypoints import drawing, filters, geometry, render, wearables
from facial_keypoints.eyes import EYES_CLOSED_BELOW, eye_openness
from facial_keypoints.mouth import MOUTH_OPEN_ABOVE, mouth_openness
from facial_keypoints.pose import FACE_3D, head_pose
from facial_keypoints.shipped import shipped

NAMES = ["sunglasses", "hat", "moustache", "mask", "cat"]
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
    """The matrix of a clockwise rotation in the picture, in degrees, then a shift."""
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


# Pictures on surfaces


def flat(x, y, width, height, depth=5.0):
    """A surface that faces the camera, with its upper left corner at x, y, in pixels."""
    columns, rows = np.meshgrid(x + np.linspace(-0.5, width - 0.5, 7), y + np.linspace(-0.5, height - 0.5, 5))
    return np.dstack([columns, rows, np.full_like(rows, depth)])


def laid(photo, artwork, surface, finer=1, hidden_from=np.inf):
    """The photo with RGBA artwork over it, drawn as the filters do."""
    layer, result = artwork.astype(np.float32) / [1, 1, 1, 255], photo.copy()
    layer[..., :3] *= layer[..., 3:]
    view = render.View(0, 0, photo.shape[1::-1], finer)
    limit = np.full(view.size[::-1], hidden_from)
    render.over(result, view.draw(surface, layer.astype(np.float32), limit))
    return result


def test_artwork_on_a_flat_surface_equals_pillow(photo, artwork):
    artwork = cv2.GaussianBlur(artwork, (0, 0), 2)  # cv2.remap rounds positions to 1/32 pixel
    expected = Image.fromarray(photo).convert("RGBA")
    expected.alpha_composite(Image.fromarray(artwork), (31, 17))
    difference = laid(photo, artwork, flat(31, 17, 60, 40)).astype(int) - np.array(expected)[..., :3]
    inside = difference[19:55, 33:89]  # at the rim OpenCV draws half a pixel more
    assert np.abs(inside).max() <= 4
    difference[16:58, 30:92] = 0
    assert not difference.any()


@pytest.mark.parametrize("finer", [1, 2])
@pytest.mark.parametrize("scale", [0.2, 0.7, 1, 3])
def test_the_colour_of_transparent_pixels_makes_no_fringe(scale, finer):
    white = np.full((200, 200, 3), 255, np.uint8)
    artwork = np.zeros((50, 50, 4), np.uint8)  # transparent black around opaque white
    artwork[10:40, 10:40] = 255
    assert laid(white, artwork, flat(30.3, 20.8, 50 * scale, 50 * scale), finer).min() >= 254


def test_large_artwork_on_a_small_face_does_not_alias():
    board = np.full((400, 400, 4), 255, np.uint8)
    board[..., :3] = 255 * (np.indices((400, 400)).sum(0) % 2)[..., None]
    result = laid(np.zeros((80, 80, 3), np.uint8), board, flat(20, 20, 36, 36), 2)
    assert np.abs(result[25:50, 25:50].astype(int) - 127.5).max() < 4


def test_parts_behind_the_head_are_hidden_with_a_soft_edge(photo, artwork):
    artwork[...] = 255
    surface = flat(30, 30, 60, 40)
    surface[..., 2] += np.linspace(-1, 1, 7)  # turned: its right half is farther away
    result = laid(photo, artwork, surface, 2, hidden_from=5.0)
    assert (result[35:65, 33:54] == 255).all()
    np.testing.assert_array_equal(result[:, 68:], photo[:, 68:])
    assert laid(photo, artwork, surface, 2, hidden_from=9.0)[35:65, 33:87].min() == 255


def test_the_nearest_part_of_a_surface_is_seen(photo):
    """A cylinder whose front is white and whose back, with the seam, is black."""
    around = np.linspace(0, 2 * np.pi, 33)
    x, z = 80 + 40 * np.sin(around), 5 + np.cos(around)
    roll = np.stack([np.stack([x, np.full_like(x, y), z], axis=1) for y in (20, 100)])
    artwork = np.zeros((8, 320, 4), np.uint8)
    artwork[..., 3] = 255
    artwork[:, 80:240, :3] = 255  # the half with z below 5
    result = laid(photo, artwork, roll)
    assert (result[25:95, 50:110] == 255).all()


# Artwork


@pytest.mark.parametrize("name", wearables.PICTURES)
def test_committed_artwork_is_what_the_script_draws(name):
    picture, path = filters.load_artwork(name), shipped(f"{name}.png")
    assert picture.dtype == np.uint8 and picture.shape[2] == 4
    assert path.stat().st_size < 120_000
    drawn = draw_artwork.finish(draw_artwork.PICTURES[name]())
    assert np.abs(drawn.astype(int) - picture).mean() < 0.1


def test_lenses_are_tinted_glass_in_a_solid_frame():
    alpha = filters.load_artwork("sunglasses")[..., 3]
    anchors = wearables.ANCHORS["sunglasses"]
    assert all(120 < alpha[anchors[eye][::-1]] < 245 for eye in ("right eye", "left eye"))
    assert alpha[70, 300] == 255 and alpha[0, 0] == 0


def test_artwork_from_any_path_becomes_rgba(tmp_path, artwork):
    Image.fromarray(artwork).save(tmp_path / "mine.png")
    np.testing.assert_array_equal(filters.load_artwork(tmp_path / "mine.png"), artwork)
    Image.fromarray(artwork[..., [0, 3]], "LA").save(tmp_path / "gray.png")
    gray = filters.load_artwork(str(tmp_path / "gray.png"))
    np.testing.assert_array_equal(gray, artwork[..., [0, 0, 0, 3]])


def test_bad_artwork_is_one_clear_sentence(tmp_path, photo):
    with pytest.raises(FileNotFoundError, match=r"beard\.png: no such file.*sunglasses.*hat, moustache"):
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
@pytest.mark.parametrize("name", wearables.ANCHORS)
def test_anchors_land_on_their_keypoints_at_any_tilt(name, angle, scale):
    keypoints = face(angle, scale, 250, 260)
    points, matrix = wearables.face_points(keypoints), wearables.placement(keypoints, name)
    for anchor, place in wearables.ANCHORS[name].items():
        off = geometry.transform_points(matrix, np.array([place]))[0] - points[anchor]
        assert np.hypot(*off) < 0.06 * scale


@pytest.mark.parametrize("name", NAMES)
def test_every_filter_is_symmetric(name):
    places = np.concatenate([surface.reshape(-1, 3) for _, surface in wearables.wearable(name).parts])
    mirrored = places * [-1, 1, 1]
    nearest = np.linalg.norm(places[:, None] - mirrored[None], axis=2).min(axis=1)
    assert nearest.max() < 0.02


def turn(yaw):
    """Keypoints of a head turned by a yaw in degrees, seen from far away."""
    turned = FACE_3D @ cv2.Rodrigues(np.radians([0.0, -yaw, 0]))[0].T
    return (turned[:, :2] * 100 + 200).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_filters_turn_with_the_head(name):
    """Heads turned right and left are covered at mirrored pixels; a frontal head at others."""
    gray = np.full((400, 401, 3), 128, np.uint8)
    right, left, ahead = ((filters.wear(gray, turn(yaw), name) != gray).any(2) for yaw in (45, -45, 0))
    assert (right[:, ::-1] & left).sum() > 0.95 * (right[:, ::-1] | left).sum()
    assert (right & ahead).sum() < 0.9 * (right | ahead).sum()


def test_the_face_hides_the_far_arm_of_the_sunglasses_and_shows_the_near_one():
    pose, picture = head_pose(turn(40)), np.ones((8, 80, 4), np.float32)
    view, same = render.View(0, 0, (400, 400)), np.eye(2, 3)
    limit = view.depth([filters.fastened(surface, pose, same) for surface in wearables.head()])
    shown = {}
    for side in (-1, 1):
        arm = wearables.arm(side, (0.76, -0.12, 0.0), 0.13)[:, 2:]  # without the hinge
        layer = view.draw(filters.fastened(arm, pose, same), picture, limit + filters.HIDDEN_BEHIND)
        shown[side] = layer[..., 3].sum()
    assert shown[-1] > 1000 and shown[1] < 0.1 * shown[-1]


def test_a_filter_moves_no_more_than_the_keypoints_that_hold_it():
    rng, thing = np.random.default_rng(0), wearables.wearable("sunglasses")
    places = []
    for _ in range(40):
        keypoints = turn(20) + rng.standard_normal((68, 2))
        pose = head_pose(keypoints)
        matrix = filters.fastening(pose, keypoints, thing)
        places.append([filters.fastened(surface, pose, matrix)[..., :2].ravel() for _, surface in thing.parts][-1])
    assert np.sqrt(np.var(places, axis=0).mean()) < 0.7  # keypoints: 1


def test_glasses_sit_on_the_keypoints_of_a_face_unlike_the_mean_one():
    keypoints = turn(0) * (1.15, 0.95) + (-30, 10)
    thing = wearables.wearable("sunglasses")
    pose = head_pose(keypoints)
    eyes = pose.project(FACE_3D[[36, 45]])
    moved = geometry.transform_points(filters.fastening(pose, keypoints, thing), eyes)
    assert np.abs(moved - keypoints[[36, 45]]).max() < 0.6 * np.abs(eyes - keypoints[[36, 45]]).max() + 1


def test_large_faces_are_drawn_in_bands_without_seams(monkeypatch):
    gray = np.full((300, 300, 3), 128, np.uint8)
    whole = filters.wear(gray, face(10, 80, 150, 150), "hat")
    monkeypatch.setattr(filters, "BAND", 5_000)
    off = np.abs(filters.wear(gray, face(10, 80, 150, 150), "hat").astype(int) - whole)
    assert off.mean() < 0.05 and (off > 10).mean() < 0.001


def test_filters_are_drawn_where_they_belong():
    gray = np.full((400, 400, 3), 128, np.uint8)
    changed = {name: (filters.wear(gray, face(y=230), name) != gray).any(2) for name in NAMES}
    middle = {name: centroid(mask.astype(float)) for name, mask in changed.items()}
    assert middle["hat"][1] < middle["sunglasses"][1] < middle["moustache"][1]
    np.testing.assert_allclose([x for x, _ in middle.values()], 200, atol=3)
    for x, y in face(y=230)[36:48].astype(int):
        assert changed["sunglasses"][y, x]


@pytest.mark.parametrize("name", NAMES)
def test_several_faces_get_the_filter_one_after_another_and_none_is_fine(photo, name):
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
    assert np.abs(cut.astype(int) - whole).max() <= 8
    assert (cut[0] != photo[0]).any()


@pytest.mark.parametrize(
    "keypoints, name, message",
    [
        (np.zeros((68, 2)), "cap", "'cap': nothing of that name.*sunglasses, hat, moustache, mask, cat"),
        (np.zeros((58, 2)), "hat", r"\(58, 2\): expected"),
        (np.zeros((1, 1, 68, 2)), "hat", r"\(1, 1, 68, 2\): expected"),
        (np.full((68, 2), np.nan), "hat", "finite"),
    ],
)
def test_wear_refuses_unknown_names_and_wrong_keypoints(photo, keypoints, name, message):
    with pytest.raises(ValueError, match=message):
        filters.wear(photo, keypoints, name)


def test_every_kind_of_photo_is_accepted(photo, tmp_path):
    gray = photo[..., 0]
    expected = filters.wear(np.repeat(gray[..., None], 3, axis=2), face(0, 30, 80, 60), "hat")
    Image.fromarray(gray).save(tmp_path / "photo.png")
    for same in (gray, gray.astype(np.uint16) * 257, Image.fromarray(gray), tmp_path / "photo.png"):
        np.testing.assert_array_equal(filters.wear(same, face(0, 30, 80, 60), "hat"), expected)
    rgba = np.dstack([photo, gray])
    pose = head_pose(face(0, 30, 80, 60))
    np.testing.assert_array_equal(drawing.draw_axes(rgba, pose), drawing.draw_axes(photo, pose))


def test_keypoints_in_one_spot_leave_the_photo_as_it_is(photo):
    for name in NAMES:
        np.testing.assert_array_equal(filters.wear(photo, np.full((68, 2), 50.0), name), photo)


# Eyes and mouth


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


def test_the_mean_face_has_open_eyes_and_closed_ones_when_its_lids_meet():
    keypoints = face()
    assert min(eye_openness(keypoints)) > EYES_CLOSED_BELOW
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        keypoints[upper] = keypoints[lower] + 0.2 * (keypoints[upper] - keypoints[lower])
    assert max(eye_openness(keypoints)) < EYES_CLOSED_BELOW


def test_mouth_openness_equals_numbers_worked_by_hand():
    lips = np.zeros((68, 2), np.float32)
    lips[60:68] = [(0, 0), (2, -1), (4, -2), (6, -1), (8, 0), (6, 1), (4, 2), (2, 1)]  # heights 2, 4, 2; width 8
    assert mouth_openness(lips) == pytest.approx(8 / 3 / 8)
    assert mouth_openness(moved(lips, turned(70, 3, 40, 9))) == pytest.approx(8 / 3 / 8)
    assert mouth_openness(np.zeros((68, 2))) == 0
    assert mouth_openness(face()) > MOUTH_OPEN_ABOVE  # it is the mean of open and closed mouths
    closed = face()
    closed[[61, 62, 63]] = closed[[67, 66, 65]]
    assert mouth_openness(closed) == 0
