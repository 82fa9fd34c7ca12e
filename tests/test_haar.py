"""Haar's cascades: squares to tight boxes, attempts in turn, faces, eyes and smiles on real photos."""

import cv2
import numpy as np
import pytest
import skimage.data

from detector_architectures import haar, to_tight_boxes
from detector_architectures.haar import CENTRE, SIZE, HaarDetector, find_eyes, find_smile


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


class Cascade:
    """Stands in for OpenCV's: returns the given squares and records the pictures and settings of every call."""

    def __init__(self, squares=(), scores=()):
        self.squares, self.scores, self.pictures, self.settings = squares, scores, [], []

    def detectMultiScale(self, gray, **settings):  # noqa: N802
        self.pictures.append(gray)
        self.settings.append(settings)
        return np.array([(0, 0, *gray.shape[::-1])])  # the whole picture

    def detectMultiScale3(self, gray, **settings):  # noqa: N802
        self.pictures.append(gray)
        self.settings.append(settings)
        return self.squares, None, self.scores


def test_a_square_of_haar_becomes_the_box_from_brows_to_chin():
    boxes = to_tight_boxes([[10, 20, 100, 100], [0, 0, 1, 1]], CENTRE, SIZE)
    np.testing.assert_allclose(boxes, [[10 + 6.25, 20 + 22.95, 86.1, 83.5], [0.0625, 0.2295, 0.861, 0.835]], atol=1e-4)
    assert boxes.dtype == np.float32 and to_tight_boxes((), CENTRE, SIZE).shape == (0, 4)


def test_squares_come_best_first_each_with_its_score(monkeypatch):
    cascade = Cascade([[1, 1, 30, 30], [2, 2, 40, 40], [3, 3, 50, 50]], [0.5, 2.5, 1.5])
    monkeypatch.setattr(haar, "own_cascade", lambda name: cascade)
    squares, scores = HaarDetector().squares(np.zeros((90, 80, 3), np.uint8))
    assert squares[:, 0].tolist() == [2, 3, 1] and scores.tolist() == [2.5, 1.5, 0.5]
    boxes, same = HaarDetector()(np.zeros((90, 80, 3), np.uint8))
    np.testing.assert_array_equal(boxes, to_tight_boxes(squares, CENTRE, SIZE))
    np.testing.assert_array_equal(same, scores)


def test_attempts_are_made_in_turn_until_somebody_is_found(monkeypatch):
    nobody, someone = Cascade(), Cascade([[1, 1, 30, 30]], [1.0])
    cascades, asked = {"a": nobody, "b": someone, "c": nobody}, []
    monkeypatch.setattr(haar, "own_cascade", lambda name: asked.append(name) or cascades[name])
    gray = np.tile(np.arange(100, 150, dtype=np.uint8), (60, 1))
    detector = HaarDetector(attempts=(("a", 7, False), ("a", 4, True), ("b", 3, False), ("c", 2, False)))
    asked.clear()
    assert len(detector.squares(np.dstack([gray] * 3))[0]) == 1 and asked == ["a", "a", "b"]
    np.testing.assert_array_equal(nobody.pictures[0], gray)
    np.testing.assert_array_equal(nobody.pictures[1], cv2.equalizeHist(gray))
    assert [settings["minNeighbors"] for settings in nobody.settings + someone.settings] == [7, 4, 3]
    none = HaarDetector(attempts=(("a", 7, False), ("c", 4, True)))(np.dstack([gray] * 3))
    assert none[0].shape == (0, 4) and none[1].shape == (0,)


@pytest.mark.parametrize(
    ("shape", "smallest", "side"), [((300, 1000), 0.1, 30), ((1000, 400), 0.3, 120), ((90, 90), 0.1, 24)]
)
def test_the_smallest_face_is_a_fraction_of_the_shorter_side(shape, smallest, side, monkeypatch):
    cascade = Cascade()
    monkeypatch.setattr(haar, "own_cascade", lambda name: cascade)
    HaarDetector(smallest).squares(np.zeros((*shape, 3), np.uint8))
    assert len(cascade.settings) == 3 and all(settings["minSize"] == (side, side) for settings in cascade.settings)


def test_faces_of_at_least_6_percent_of_the_shorter_side_are_found(astronaut):
    small = cv2.resize(astronaut[:256, 80:336], (128, 128), interpolation=cv2.INTER_AREA)  # a face of 60 pixels
    for side, found in ((700, 1), (1300, 0)):
        photo = np.full((side, side + 300, 3), 127, np.uint8)
        photo[200:328, 300:428] = small
        assert len(HaarDetector()(photo)[0]) == found


@pytest.mark.parametrize(
    ("find", "name", "top", "height", "neighbors", "smallest"),
    [(find_eyes, "eye", -0.2, 0.75, 5, 0.15), (find_smile, "smile", 0.5, 0.6, 20, 0.3)],
)
def test_eyes_and_smiles_are_looked_for_in_their_part_of_the_box(
    find, name, top, height, neighbors, smallest, monkeypatch
):
    cascade, asked = Cascade(), []
    monkeypatch.setattr(haar, "own_cascade", lambda name: asked.append(name) or cascade)
    image = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    (found,) = find(image, (100, 150, 80, 120))
    np.testing.assert_allclose(found, [100, 150 + top * 120, 80, height * 120], atol=1)
    x, y, w, h = found.astype(int)
    np.testing.assert_array_equal(cascade.pictures[0], cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[y : y + h, x : x + w])
    side = int(smallest * 80)
    assert asked == [name]
    assert cascade.settings == [{"scaleFactor": 1.05, "minNeighbors": neighbors, "minSize": (side, side)}]
    (cut,) = find(image, (-30, -40, 80, 120))  # over the picture's upper left corner
    assert cut[0] == 0 and cut[2] == 50 and cut[1] + cut[3] == pytest.approx(-40 + (top + height) * 120, abs=1)
    (cut,) = find(image, (260, 330, 80, 120))  # and over the lower right one
    assert cut[0] == 260 and cut[0] + cut[2] == 300 and cut[1] + cut[3] <= 400
    for outside in ((-200, 50, 80, 80), (50, -400, 80, 80), (350, 50, 80, 80), (50, 600, 80, 80)):
        assert find(image, outside).shape == (0, 4)


def test_the_same_eyes_are_found_where_the_border_cuts_the_box(astronaut):
    x, y, w, h = box = HaarDetector()(astronaut)[0][0]
    left, top = int(x + 0.02 * w), int(y - 0.1 * h)
    whole = find_eyes(astronaut, box)
    cut = find_eyes(np.ascontiguousarray(astronaut[top:, left:]), (x - left, y - top, w, h))
    np.testing.assert_allclose(np.sort(cut + [left, top, 0, 0], axis=0), np.sort(whole, axis=0), atol=6)


def test_haar_finds_the_astronaut_and_the_box_is_tight(astronaut):
    boxes, scores = HaarDetector()(astronaut)
    assert boxes.shape == (len(scores), 4) and boxes.dtype == np.float32
    x, y, w, h = boxes[0]
    assert abs(x + w / 2 - 222) < 12 and abs(y + h / 2 - 118) < 20  # brows to chin, by eye on the picture
    assert 75 < w < 115 and 75 < h < 115


def test_best_scores_come_first(astronaut):
    _, scores = HaarDetector()(np.hstack([astronaut, astronaut[:, ::-1]]))
    assert (np.diff(scores) <= 0).all() and len(scores) >= 2


def test_a_dark_face_is_found_by_a_further_attempt(astronaut):
    dark = (astronaut[:300] * 0.1).astype(np.uint8)
    assert len(HaarDetector(attempts=haar.ATTEMPTS[:1])(dark)[0]) == 0
    boxes, scores = HaarDetector()(dark)
    assert len(boxes) == len(scores) == 1 and np.abs(boxes[0, :2] + boxes[0, 2:] / 2 - [222, 118]).max() < 20


def test_eyes_and_smile_are_found_inside_the_face(astronaut):
    box = HaarDetector()(astronaut)[0][0]
    eyes, smile = find_eyes(astronaut, box), find_smile(astronaut, box)
    centres = eyes[:, :2] + eyes[:, 2:] / 2
    assert len(eyes) == 2 and len(smile) >= 1
    assert np.abs(np.sort(centres[:, 0]) - [205, 242]).max() < 10 and np.abs(centres[:, 1] - 105).max() < 15
    assert (smile[:, 1] + smile[:, 3] / 2 > 120).all()
    assert find_eyes(astronaut, (-500, -500, 100, 100)).shape == (0, 4)


def test_opencv_5_is_one_clear_sentence(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(RuntimeError, match=r"has no Haar cascades: pip install \"opencv-python>=4.10,<5\""):
        haar.load_cascade("eye")
