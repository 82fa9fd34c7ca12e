from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from detector_architectures import yunet
from detector_architectures.haar import HaarDetector
from facial_keypoints import pipeline as pipeline_module
from facial_keypoints.geometry import compose, quarter_turns, similarity_matrix, transform_points
from facial_keypoints.images import DataError, as_rgb
from facial_keypoints.network import FACES_AT_ONCE, Expects, mirror_averaged
from facial_keypoints.pipeline import Face, FacePipeline, confidence, without_doubles
from facial_keypoints.pose import FACE_3D, head_pose
from facial_keypoints.schemes import IBUG_68, Scheme

ROOT = Path(__file__).resolve().parent.parent
EXPECTS = Expects()


def answer(points, spread=np.nan, expects=EXPECTS):
    """The output of a network, normalised, for points (N, K, 2) in pixels of the crop."""
    points = (np.asarray(points, np.float32) - expects.mean) / expects.std
    return np.concatenate([points, np.full_like(points[..., :1], spread)], axis=2)


class BrightestPixel:
    """Predicts the brightest pixel of a crop for all 68 points."""

    expects = EXPECTS

    def locate(self, crops):
        places = crops.reshape(len(crops), -1).argmax(axis=1)
        points = np.stack([places % crops.shape[3], places // crops.shape[3]], axis=-1)
        return answer(np.repeat(points[:, None], 68, axis=1))


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


@pytest.mark.parametrize("box", [(180, 60, 100, 90), (-20, -10, 150, 160), (200, 200, 700, 500)])
def test_keypoints_come_back_in_photo_pixels(box):
    """A bright dot in the photo is found where it was drawn, also if the box extends beyond the photo."""
    photo = np.zeros((600, 800, 3), np.uint8)
    dot = (box[0] + 0.6 * box[2], box[1] + 0.7 * box[3])
    cv2.circle(photo, (round(dot[0]), round(dot[1])), 1, (255, 255, 255), cv2.FILLED)
    keypoints = FacePipeline(BrightestPixel()).keypoints(photo, [box])
    assert keypoints.shape == (1, 68, 2)
    pixel_of_the_crop = max(box[2:]) * 1.5 / 224
    assert np.abs(keypoints[0] - [round(dot[0]), round(dot[1])]).max() < pixel_of_the_crop + 0.6


def test_several_boxes_come_back_in_their_order(astronaut):
    pipeline = FacePipeline(BrightestPixel())
    boxes = np.array([[180, 60, 90, 90], [20, 300, 120, 100], [300, 10, 60, 80]])
    together = pipeline.keypoints(astronaut, boxes)
    for box, keypoints in zip(boxes, together, strict=True):
        np.testing.assert_allclose(pipeline.keypoints(astronaut, box[None])[0], keypoints, atol=1e-4)


def test_a_false_box_of_haar_is_left_out_by_the_networks_confidence():
    moon = np.repeat(skimage.data.moon()[..., None], 3, axis=2)
    assert len(HaarDetector()(moon)[0]) == 1
    assert FacePipeline(detector="haar")(moon) == []
    assert len(FacePipeline(detector="haar", min_confidence=0.0)(moon)) == 1


def test_two_boxes_on_one_face_are_one_face_and_neighbours_stay(astronaut):
    two = np.hstack([astronaut[:300], astronaut[:300]])
    boxes = np.array([[175, 70, 100, 95], [165, 40, 130, 140], [687, 70, 100, 95]], np.float32)
    pipeline = FacePipeline()
    faces = pipeline.faces(two, boxes, [1.0, 3.0, 2.0])
    assert sorted(round(face.box[0] + face.box[2] / 2, -2) for face in faces) == [200, 700]
    assert faces[0].confidence.mean() > faces[1].confidence.mean(), "the most certain first"
    every = [pipeline.faces(two, box[None], [1.0])[0] for box in boxes]
    (left,) = [face for face in faces if face.box[0] < 500]
    assert left.certainty == pytest.approx(max(face.certainty for face in every[:2]), abs=1e-4)
    anonymous = [replace(face, confidence=None, score=score) for face, score in zip(every, (1, 2, 3), strict=True)]
    assert [face.score for face in without_doubles(anonymous)] == [3, 2]


def test_a_picture_without_faces_is_an_empty_list():
    assert FacePipeline(BrightestPixel())(np.full((200, 300, 3), 127, np.uint8)) == []
    assert FacePipeline(BrightestPixel()).keypoints(np.zeros((20, 30, 3), np.uint8), []).shape == (0, 68, 2)


@pytest.mark.parametrize("left, top", [(190, 80), (178, 60), (0, 95)])
def test_a_face_cut_by_the_border_is_found_where_it_is_in_the_whole_photo(left, top, astronaut):
    pipeline, box = FacePipeline(min_confidence=0.0), [175, 70, 100, 95]
    (whole,) = pipeline.faces(astronaut, [box], [1.0])
    (cut,) = pipeline.faces(astronaut[top:, left:], [box - np.array([left, top, 0, 0])], [1.0])
    off = np.linalg.norm(cut.keypoints + [left, top] - whole.keypoints, axis=1)
    assert off.mean() < 3


@pytest.mark.parametrize("side", [1, 10])
def test_tiny_pictures_do_not_crash(side, astronaut):
    pipeline, picture = FacePipeline(BrightestPixel()), astronaut[:side, :side]
    assert pipeline(picture) == []
    (face,) = pipeline.faces(picture, [[0, 0, side, side]], [1.0])
    assert np.isfinite(face.keypoints).all()


def test_boxes_and_scores_may_be_lists_and_must_have_one_length(astronaut):
    pipeline, boxes = FacePipeline(min_confidence=0.0), [[175, 70, 100, 95]]
    (face,) = pipeline.faces(astronaut, boxes, [2])
    (same,) = pipeline.faces(astronaut, np.array(boxes, np.float32), np.array([2.0]))
    np.testing.assert_array_equal(face.keypoints, same.keypoints)
    assert pipeline.faces(astronaut, [], []) == []
    with pytest.raises(DataError, match=r"scores \(2,\) for 1 boxes"):
        pipeline.faces(astronaut, boxes, [1.0, 2.0])


def test_gray_rgba_and_16_bit_pictures_are_accepted(astronaut, tmp_path):
    pipeline = FacePipeline(BrightestPixel())
    gray = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    rgba = np.dstack([astronaut, np.full(astronaut.shape[:2], 255, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "photo.png")
    for picture in (gray, rgba, gray.astype(np.uint16) * 257, tmp_path / "photo.png", str(tmp_path / "photo.png")):
        assert len(pipeline(picture)) == 1


@pytest.mark.parametrize("wrong", [np.zeros((5, 5, 3)), np.zeros((5, 5, 2), np.uint8), np.zeros(4, np.uint8)])
def test_an_array_that_is_not_a_picture_is_one_sentence(wrong):
    with pytest.raises(DataError, match="an image"):
        as_rgb(wrong)


@pytest.mark.parametrize("box", [[0, 0, 0, 10], [0, 0, np.nan, 5], [1, 2, 3]])
def test_a_box_without_size_is_one_sentence(box, astronaut):
    with pytest.raises(DataError, match="a box must be"):
        FacePipeline(BrightestPixel()).keypoints(astronaut, [box])


def test_confidence_is_the_fraction_of_draws_within_the_distance():
    rng = np.random.default_rng(0)
    for spread in (0.01, 0.03, 0.2):
        draws = rng.gamma(2.0, spread, 200_000)  # distances under exp(-distance / spread) in the plane
        assert confidence(np.float32(spread)) == pytest.approx((draws < 0.05).mean(), abs=0.005)


def test_confidence_is_that_of_the_network_or_none(astronaut):
    (face,) = FacePipeline("fast", min_confidence=0.0)(astronaut)
    assert face.confidence.shape == (68,) and 0 < face.confidence.min() and face.confidence.max() < 1
    (face,) = FacePipeline(BrightestPixel())(astronaut)
    assert face.confidence is None and face.certainty == face.score > 0


def test_the_shipped_network_finds_the_astronauts_face(astronaut):
    (face,) = FacePipeline()(astronaut)
    assert face.confidence.mean() > 0.5
    eyes = face.keypoints[36:42].mean(axis=0), face.keypoints[42:48].mean(axis=0)
    found = np.array([*eyes, face.keypoints[30], face.keypoints[62]])
    seen = [(203, 101), (247, 103), (226, 127), (224, 143)]  # by eye: pupils, tip of the nose, edge of the upper lip
    assert np.linalg.norm(found - seen, axis=1).max() < 5


class BrightSquare:
    """Predicts 68 points in the corners of the bright square of a crop, half upper left and half lower right."""

    expects = replace(EXPECTS, scheme=Scheme("corners", 68))

    def locate(self, crops):
        faces = []
        for crop in crops[:, 0] > 0.5:
            rows, columns = np.flatnonzero(crop.any(axis=1)), np.flatnonzero(crop.any(axis=0))
            faces.append([[columns[0], rows[0]], [columns[-1], rows[-1]]] * 34)
        return answer(faces)


@pytest.mark.parametrize(("box", "accepted"), [((210, 190, 90, 90), True), ((180, 160, 190, 190), False)])
def test_the_second_look_corrects_a_box_unless_the_first_prediction_is_far_from_it(box, accepted):
    photo = np.zeros((500, 500, 3), np.uint8)
    photo[200:300, 200:300] = 255
    pipeline = FacePipeline(BrightSquare())
    matrix = pipeline.matrix(box)
    corrected = pipeline.look_again(matrix, pipeline.keypoints(photo, [box])[0])
    if accepted:
        np.testing.assert_allclose(corrected, pipeline.matrix((199.5, 199.5, 100, 100)), rtol=0.02)
    else:
        np.testing.assert_array_equal(corrected, matrix)


def test_a_network_of_whole_frames_is_one_sentence():
    network = BrightestPixel()
    network.expects = Expects(margin=None)
    with pytest.raises(DataError, match="sees whole frames"):
        FacePipeline(network)


@pytest.mark.parametrize("shift", [0, 2])
def test_predictions_for_the_mirror_image_are_mapped_back(shift):
    """The network finds 68 pixels by their brightness; in the mirror image left and right points swap."""
    expects = Expects(size=64, mean=20, std=30, mirror_shift=shift)
    crops, rng = np.zeros((1, 1, 64, 64), np.float32), np.random.default_rng(0)
    rows, columns = np.unravel_index(rng.permutation(60 * 60)[:68], (60, 60))
    crops[0, 0, rows + 2, columns + 2] = 1 + np.arange(68)
    looks = []

    def locate(seen):
        looks.append(seen)
        names = range(68) if np.array_equal(seen, crops) else IBUG_68.mirror
        found = np.concatenate([np.argwhere(seen[0, 0] == 1 + k)[:, ::-1] for k in names])
        return answer(found[None], spread=len(looks), expects=expects)

    found = mirror_averaged(locate, crops, expects)
    np.testing.assert_allclose(found, answer(np.stack([columns, rows], 1)[None] + 2, 1.5, expects), atol=1e-5)
    np.testing.assert_array_equal(looks[1][0, 0], np.roll(crops[0, 0, :, ::-1], (shift, shift), axis=(0, 1)))
    once = mirror_averaged(locate, crops, replace(expects, mirror_shift=None))
    assert len(looks) == 3 and once[0, 0, 2] == 3


class Fixed:
    """Predicts the same points in every crop, which fill a box of 60 x 40 as the crop shows it, with one spread."""

    expects = Expects(size=100, mean=10.0, std=20.0)

    def __init__(self, spread=np.nan, grow=1.0, count=68, **expects):
        self.expects, self.calls = replace(self.expects, **expects), []
        points = FACE_3D[:count, :2]  # upright
        points = (points - points.min(axis=0)) / np.ptp(points, axis=0) - 0.5
        self.points = 49.5 + points * [100 / 1.5, 100 / 1.5 * 40 / 60] * grow  # the box's longer side is 1 / 1.5
        self.spread = spread

    def locate(self, crops):
        self.calls.append(len(crops))
        return answer(np.repeat(self.points[None], len(crops), axis=0), self.spread / self.expects.std, self.expects)


@pytest.mark.parametrize("tilt", [-60, 60])
def test_the_second_look_of_68_points_is_upright_and_of_others_turned_as_the_first(tilt):
    turn = similarity_matrix(-tilt, 1, (0, 0), (400, 300))
    upright = 100 + 60 * FACE_3D[:, :2]
    for count, left in ((68, 0), (20, tilt)):
        scheme = IBUG_68 if count == 68 else Scheme("20", 20)
        pipeline = FacePipeline(Fixed(count=count, scheme=scheme))
        matrix = pipeline.matrix_around(transform_points(turn, upright[:count]))
        across = np.subtract(*transform_points(compose(matrix, turn), upright[[16, 0]]))
        assert np.degrees(np.arctan2(across[1], across[0])) == pytest.approx(left, abs=1e-2)


BOX = (100, 80, 60, 40)
PHOTO = np.zeros((300, 400, 3), np.uint8)


def test_confidence_is_computed_from_the_spread_relative_to_the_boxs_longer_side():
    (face,) = FacePipeline(Fixed(spread=4.0), min_confidence=0.0).faces(PHOTO, [BOX], [7])
    np.testing.assert_allclose(face.box, BOX, atol=1e-3)
    relative = 4.0 * 0.9 / 60  # a pixel of the crop is 1.5 * 60 / 100 pixels of the photo
    expected = 1 - (1 + 0.05 / relative) * np.exp(-0.05 / relative)
    np.testing.assert_allclose(face.confidence, expected, rtol=1e-4)
    assert face.score == 7 and face.certainty == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("spread", "kept"), [(1.9, True), (2.05, False)])
def test_faces_below_half_confidence_are_left_out_by_default(spread, kept):
    """With a spread of 0.02979 of the box's longer side, half of the points are right within 0.05 of it."""
    (everyone,) = FacePipeline(Fixed(spread), min_confidence=0.0).faces(PHOTO, [BOX], [1])
    assert len(FacePipeline(Fixed(spread)).faces(PHOTO, [BOX], [1])) == kept == (everyone.certainty >= 0.5)
    assert FacePipeline(Fixed(spread), min_confidence=everyone.certainty + 0.01).faces(PHOTO, [BOX], [1]) == []
    assert len(FacePipeline(Fixed(), min_confidence=0.9).faces(PHOTO, [BOX], [0.1])) == 1, (
        "without an estimate every face stays"
    )


@pytest.mark.parametrize(
    ("grow", "accepted"), [(1.0, True), (1.48, True), (1.52, False), (0.68, True), (0.65, False), (0.0, False)]
)
def test_a_box_may_grow_or_shrink_by_half(grow, accepted):
    pipeline = FacePipeline(Fixed(grow=grow))
    matrix = pipeline.look_again(pipeline.matrix(BOX), pipeline.keypoints(PHOTO, [BOX])[0])
    w, h = 60 * grow, 40 * grow
    np.testing.assert_allclose(
        matrix, pipeline.matrix((130 - w / 2, 100 - h / 2, w, h) if accepted else BOX), rtol=1e-4
    )


def rectangle(x, y, w, h, score):
    return Face(np.array([[x, y], [x + w, y + h]], np.float32), score)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ((14, 14, 10, 10), True),  # the middle of each lies in the other
        ((16, 10, 10, 10), False),  # no middle lies in the other box
        ((10, 16, 10, 10), False),
        ((4, 4, 10, 10), False),
        ((0, 0, 60, 60), True),  # the small one's middle lies in the large one's box, but not the other way round
        ((16, 16, 2, 2), True),
        ((21, 12, 4, 4), False),
    ],
)
def test_faces_are_duplicates_if_the_middle_of_one_lies_in_the_box_of_another(other, same):
    faces = [rectangle(10, 10, 10, 10, 1.0), rectangle(*other, 2.0)]
    for pair in (faces, faces[::-1]):
        assert [face.score for face in without_doubles(pair)] == ([2.0] if same else [2.0, 1.0])


def test_results_for_a_list_are_in_order_and_its_pictures_share_batches():
    def detector(image):  # the first pixel is the number of faces, far apart
        count = image[0, 0, 0]
        return np.array([(100 + 70 * i, 80, 60, 40) for i in range(count)]).reshape(-1, 4), np.arange(count) / 10

    counts = [1, 0, 2, 3, 0, 1, *[1] * 30]
    pictures = [np.full((300, 400, 3), count, np.uint8) for count in counts]
    network = Fixed()
    together = FacePipeline(network, detector)(pictures)
    assert [len(faces) for faces in together] == counts
    assert max(network.calls) == FACES_AT_ONCE and len(network.calls) == 2 * -(-sum(counts) // FACES_AT_ONCE)
    for picture, faces in zip(pictures, together, strict=True):
        alone = FacePipeline(Fixed(), detector)(picture)
        assert [face.score for face in faces] == [face.score for face in alone]
        for face, same in zip(faces, alone, strict=True):
            np.testing.assert_allclose(face.keypoints, same.keypoints, atol=1e-4)
    assert FacePipeline(network, detector)([]) == [] and FacePipeline(network, detector)(tuple(pictures[:1]))[0]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_photo_on_its_side_is_rotated_until_a_face_is_found(turns):
    """The detector finds a face only if the picture's white pixel is in the upper left corner."""
    upright = np.zeros((300, 400, 3), np.uint8)
    upright[0, 0] = 255
    looks = []

    def detector(image):
        looks.append(image.shape)
        found = int(image[0, 0, 0] == 255)
        return np.array([BOX] * found).reshape(-1, 4), np.ones(found)

    pipeline = FacePipeline(Fixed(count=5, scheme=Scheme("five", 5)), detector)
    (face,) = pipeline(upright)
    assert len(looks) == 1
    photo = np.ascontiguousarray(np.rot90(upright, turns))
    (same,) = pipeline(photo)
    middle = transform_points(quarter_turns(turns, upright.shape), face.box[:2] + face.box[2:] / 2)
    np.testing.assert_allclose(same.box[:2] + same.box[2:] / 2, middle, atol=1e-3)
    assert len(looks) == 1 + (4 if turns else 1)
    assert pipeline(np.zeros((30, 40, 3), np.uint8)) == []


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_large_photo_is_scaled_down_before_it_is_turned(turns, monkeypatch):
    """The detector finds a face only if the picture's white corner is the upper left one."""
    monkeypatch.setattr(pipeline_module, "TURNED_PIXELS", 150 * 200)
    upright = np.zeros((300, 400, 3), np.uint8)
    upright[:20, :20] = 255
    looks = []

    def detector(image):
        looks.append(max(image.shape))
        found, scale = int(image[0, 0, 0] == 255), max(image.shape) / 400
        x, y, w, h = BOX
        box = ((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5, w * scale, h * scale)
        return np.array([box] * found).reshape(-1, 4), np.ones(found)

    pipeline = FacePipeline(Fixed(count=5, scheme=Scheme("five", 5)), detector)
    (face,), (same,) = pipeline(upright), pipeline(np.ascontiguousarray(np.rot90(upright, turns)))
    assert looks == [400, 400, 200, 200, 200]
    points = transform_points(quarter_turns(turns, upright.shape), face.keypoints)
    np.testing.assert_allclose(same.keypoints, points, atol=1e-3)


def test_a_crop_is_gray_or_rgb_from_0_to_1():
    photo = np.full((50, 60, 3), (255, 0, 51), np.uint8)
    rgb = FacePipeline(Fixed(color=True)).crop(photo, BOX)
    gray = FacePipeline(Fixed()).crop(photo, BOX)
    assert rgb.dtype == gray.dtype == np.float32 and rgb.shape == (3, 100, 100) and gray.shape == (1, 100, 100)
    np.testing.assert_allclose(rgb[:, 7, 9], [1, 0, 0.2], atol=1e-6)
    np.testing.assert_allclose(gray, 0.299 + 0.114 * 0.2, atol=0.003)


@pytest.mark.parametrize("count", [68, 5])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_the_second_crop_of_a_photo_on_its_side_is_upright(count, turns):
    """The bright corner of an upright photo is in the upper left of both crops, for any scheme."""
    upright = np.zeros((300, 300, 3), np.uint8)
    upright[:100, :130] = 255  # above and left of the box's centre
    scheme = IBUG_68 if count == 68 else Scheme("five", 5)
    network = Fixed(count=count, scheme=scheme)
    locate, crops = network.locate, []
    network.locate = lambda seen: crops.append(seen) or locate(seen)
    photo = np.ascontiguousarray(np.rot90(upright, -turns))
    seen = [np.empty((0, 4))] * turns + [[BOX]]

    def detector(image):
        boxes = seen.pop(0) if seen else np.empty((0, 4))
        return np.array(boxes), np.ones(len(boxes))

    (face,) = FacePipeline(network, detector)(photo)
    assert len(crops) == 2
    for crop in crops:
        assert crop[0, 0, :45, :45].min() == 1 and crop[0, 0, 55:].max() == crop[0, 0, :, 55:].max() == 0


def test_the_crop_is_not_flipped():
    photo = np.zeros((300, 400, 3), np.uint8)
    photo[:100, :130] = 255  # above and left of the box's centre
    crop = FacePipeline(Fixed()).crop(photo, BOX)[0]
    assert crop[:48, :48].min() == 1 and crop[52:].max() == crop[:, 52:].max() == 0


def test_68_points_have_a_pose_and_others_none(astronaut):
    (face,) = FacePipeline("fast", min_confidence=0.0)(astronaut)
    expected = head_pose(face.keypoints)
    assert (face.pose.yaw, face.pose.pitch, face.pose.roll) == (expected.yaw, expected.pitch, expected.roll)
    (face,) = FacePipeline(Fixed(count=5, scheme=Scheme("five", 5))).faces(PHOTO, [BOX], [1])
    assert face.pose is None and face.keypoints.shape == (5, 2)
    assert FacePipeline(Fixed(grow=0.0)).faces(PHOTO, [BOX], [1])[0].pose is None, "all points in one spot"


def test_detectors_are_chosen_by_name(monkeypatch):
    monkeypatch.setattr(yunet, "read_network", lambda path=None: b"")
    named = [FacePipeline(Fixed(), **given).detector for given in ({}, {"detector": "yunet"}, {"detector": "haar"})]
    assert [type(detector) for detector in named] == [yunet.YuNetDetector, yunet.YuNetDetector, HaarDetector]


def test_more_faces_than_fit_into_a_batch_get_the_same_predictions(astronaut):
    network = FacePipeline("fast").network
    crops = np.random.default_rng(0).random((FACES_AT_ONCE + 3, 1, 160, 160), np.float32)
    together = network.locate(crops)
    np.testing.assert_allclose(together[[0, -1]], network.locate(crops[[0, -1]]), atol=1e-4)
    assert together.shape == (FACES_AT_ONCE + 3, 85, 3) and network.locate(crops[:0]).shape == (0, 85, 3)
