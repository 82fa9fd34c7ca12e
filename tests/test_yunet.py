"""YuNet on real photos and on pictures without faces; looks and boxes; fetching its file from a local server."""

import hashlib
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
import skimage.data

from detector_architectures import DetectorError, to_tight_boxes, yunet
from detector_architectures.haar import HaarDetector
from detector_architectures.yunet import NoNetworkFile, YuNetDetector
from facial_keypoints.geometry import resize, transform_points
from facial_keypoints.images import DataError
from facial_keypoints.pipeline import FacePipeline, load_detector

FACE = np.array([222, 127])  # the middle of the astronaut's face, brows to chin, by eye on the picture


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def detector():
    try:
        return YuNetDetector()
    except NoNetworkFile as error:
        pytest.skip(str(error))


def centres(boxes):
    return boxes[:, :2] + boxes[:, 2:] / 2


def test_a_native_box_becomes_the_tight_box_within_it():
    tight = to_tight_boxes([[100, 200, 40, 80]], centre=(0.5, 0.75), size=(0.5, 0.25))
    assert tight.dtype == np.float32 and tight.tolist() == [[110, 250, 20, 20]]
    assert to_tight_boxes(np.empty((0, 4)), (0.5, 0.5), (1, 1)).shape == (0, 4)


def test_yunet_finds_the_astronaut_and_the_box_is_tight(astronaut, detector):
    boxes, scores = detector(astronaut)
    assert boxes.shape == (1, 4) and scores.shape == (1,) and boxes.dtype == scores.dtype == np.float32
    np.testing.assert_allclose(centres(boxes)[0], FACE, atol=12)
    assert 75 < boxes[0, 2] < 115 and 75 < boxes[0, 3] < 115 and 0.5 < scores[0] <= 1


def test_both_detectors_return_the_same_box(astronaut, detector):
    np.testing.assert_allclose(detector(astronaut)[0], HaarDetector()(astronaut)[0][:1], atol=12)


@pytest.mark.parametrize("shape", [(1, 1), (3000, 5), (1, 40000), (32, 640), (200, 300)])
def test_a_picture_without_faces_has_no_boxes(shape, astronaut, detector):
    detector(astronaut)  # leaves its result in memory that OpenCV reuses
    boxes, scores = detector(np.full((*shape, 3), 127, np.uint8))
    assert boxes.shape == (0, 4) and scores.shape == (0,)


def test_best_scores_come_first_and_every_face_once(astronaut, detector):
    two = np.hstack([astronaut, (astronaut[:, ::-1] * 0.3).astype(np.uint8)])
    boxes, scores = detector(np.tile(two, (1, 1, 1)))
    assert len(boxes) == 2 and scores[0] >= scores[1]
    large = resize(two, (2 * two.shape[1], 2 * two.shape[0]))  # looked at twice, each time both are found
    np.testing.assert_allclose(np.sort(detector(large)[0] / 2, axis=0), np.sort(boxes, axis=0), atol=6)


@pytest.mark.parametrize("longest", [1200, 4000])
def test_a_face_too_small_for_the_first_look_is_found_by_the_finer_one(longest, astronaut, detector):
    side = round(0.07 * longest)  # the side of a picture whose face takes a fifth of it
    photo = np.full((longest * 3 // 4, longest, 3), 127, np.uint8)
    photo[40 : 40 + side, 60 : 60 + side] = resize(astronaut, (side, side))
    assert len(detector._look(photo, yunet.FIRST)) == 0
    (box,) = detector(photo)[0]
    np.testing.assert_allclose(centres(box[None])[0], (60, 40) + FACE * side / 512, atol=0.01 * longest)


def test_threads_that_share_a_detector_get_the_results_of_one_thread(astronaut, detector):
    photos = [resize(astronaut, (size, size + 31)) for size in range(100, 500, 25)]
    alone = [detector(photo) for photo in photos]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(detector, photos))
    for (boxes, scores), (others, other_scores) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(boxes, others)
        np.testing.assert_array_equal(scores, other_scores)


@pytest.mark.parametrize("degrees", [45, -45, 90, -100, 150, 180])
def test_tilted_faces_are_found_by_detector_and_network_together(degrees, astronaut, detector):
    pipeline, photo = FacePipeline("fast", detector), astronaut[:240, 100:340]
    (upright,) = pipeline(photo)
    matrix = cv2.getRotationMatrix2D((119.5, 119.5), degrees, 0.7)
    (tilted,) = pipeline(cv2.warpAffine(photo, matrix, (240, 240), borderMode=cv2.BORDER_REPLICATE))
    off = np.linalg.norm(tilted.keypoints - transform_points(matrix, upright.keypoints), axis=1)
    assert off.mean() < 0.04 * 0.7 * upright.box[2]


@pytest.mark.parametrize(("score", "kept"), [(0.76, 1), (0.74, 0)])
def test_a_face_with_a_high_yunet_score_stays_however_unsure_the_network_is(score, kept, astronaut):
    class Found:
        certain = 0.75

        def __call__(self, image):
            return np.array([[178, 80, 92, 92]], np.float32), np.array([score], np.float32)

    pipeline = FacePipeline("fast", Found(), min_confidence=1.01)
    assert len(pipeline(astronaut)) == kept
    assert pipeline.faces(astronaut, [[178, 80, 92, 92]], [0.85]) == [], (
        "scores given by the caller have another scale"
    )


# ---- looks and boxes


class Found:
    """Stands in for OpenCV's detector for YuNet: finds the given boxes and scores in every look."""

    def __init__(self, *faces):
        self.faces, self.sizes, self.pictures = np.array(faces, np.float32).reshape(-1, 5), [], []

    def setInputSize(self, size):  # noqa: N802
        self.sizes.append(size)

    def detect(self, picture):
        self.pictures.append(picture)
        landmarks = np.zeros((len(self.faces), 10), np.float32)
        rows = np.hstack([self.faces[:, :4], landmarks, self.faces[:, 4:]])
        return 1, rows if len(rows) else None


@pytest.fixture
def yunet_with(monkeypatch):
    """A YuNetDetector whose looks find these faces; no file is needed."""

    def make(*faces, **settings):
        monkeypatch.setattr(yunet, "read_network", lambda path: b"")
        detector, found = yunet.YuNetDetector(**settings), Found(*faces)
        monkeypatch.setattr(detector, "_detector", lambda: found)
        return detector, found

    return make


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (400, 600, (600, 400)),
        (960, 1280, (640, 480)),
        (1280, 333, (166, 640)),
        (3, 1000, (640, 64)),
        (1, 1280, (640, 64)),
        (1280, 1, (64, 640)),
        (1000, 3, (64, 640)),
    ],
)
def test_yunet_gets_bgr_with_sides_of_64_to_640_pixels(height, width, size, yunet_with):
    detector, found = yunet_with((10, 20, 30, 40, 0.9))
    photo = np.full((height, width, 3), (10, 20, 30), np.uint8)
    (box,), (score,) = detector.native_boxes(photo)
    assert found.sizes[0] == size and found.pictures[0].shape == (size[1], size[0], 3)
    assert found.pictures[0][0, 0].tolist() == [30, 20, 10] and score == pytest.approx(0.9)
    scaled = [max(1, round(side * min(1, 640 / max(height, width)))) for side in (width, height)]
    zoom = np.array([width, height]) / scaled
    np.testing.assert_allclose(box, [10 * zoom[0], 20 * zoom[1], 30 * zoom[0], 40 * zoom[1]], rtol=1e-5)


@pytest.mark.parametrize(
    ("longest", "faces", "looks"),
    [
        (640, [], [640]),
        (641, [], [640, 641]),
        (1280, [(0, 0, 9, 9, 0.8)], [640]),
        (1280, [], [640, 1280]),
        (1281, [(0, 0, 9, 9, 0.8)], [640, 1281]),
        (3000, [], [640, 1920]),
    ],
)
def test_yunet_looks_again_at_large_photos_and_where_nobody_is_found(longest, faces, looks, yunet_with):
    detector, found = yunet_with(*faces)
    boxes, scores = detector.native_boxes(np.zeros((100, longest, 3), np.uint8))
    assert [max(size) for size in found.sizes] == looks and len(boxes) == len(scores)
    assert detector(np.zeros((100, longest, 3), np.uint8))[0].shape == (len(boxes), 4)


def test_yunets_boxes_come_best_first_and_without_overlaps(yunet_with):
    faces = [(0, 0, 100, 100, 0.6), (5, 0, 100, 100, 0.9), (60, 0, 100, 100, 0.7), (300, 0, 50, 50, 0.3)]
    faces.append((5, 40, 100, 100, 0.65))  # an IoU of 43 % with the second
    detector, _ = yunet_with(*faces)
    boxes, scores = detector.native_boxes(np.zeros((400, 600, 3), np.uint8))
    np.testing.assert_allclose(boxes, [faces[1][:4], faces[2][:4]])  # the third has an IoU of 29 % with the second
    np.testing.assert_allclose(scores, [0.9, 0.7])
    detector, _ = yunet_with(*faces, min_score=0.2)
    assert len(detector.native_boxes(np.zeros((400, 600, 3), np.uint8))[0]) == 3


# ---- the file


class Server:
    """Answers every request with `content`, after `delay` seconds for every kilobyte; counts requests."""

    def __init__(self, content, delay=0.0):
        self.requests = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler):
                self.requests += 1
                handler.send_response(200)
                handler.send_header("Content-Length", str(len(content)))
                handler.end_headers()
                with suppress(ConnectionError):  # from a client that has given up
                    for start in range(0, len(content), 1024):
                        time.sleep(delay)
                        handler.wfile.write(content[start : start + 1024])

            def log_message(handler, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/{yunet.FILE}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


CONTENT = bytes(range(256)) * 40


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """The path in an empty cache; a short file stands in for YuNet's."""
    monkeypatch.delenv("KEYPOINTS_YUNET", raising=False)
    monkeypatch.setattr(yunet, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(yunet, "cached_file", lambda: tmp_path / "new" / "cache" / yunet.FILE)
    return tmp_path / "new" / "cache" / yunet.FILE


def test_the_file_is_fetched_once_and_then_read_from_the_cache(elsewhere, monkeypatch):
    with Server(CONTENT) as server:
        monkeypatch.setattr(yunet, "URL", server.url)
        assert yunet.read_network() == CONTENT and yunet.read_network() == CONTENT
        assert server.requests == 1 and [path.name for path in elsewhere.parent.iterdir()] == [yunet.FILE]
        elsewhere.write_bytes(CONTENT[:100])  # damaged
        assert yunet.read_network() == CONTENT and server.requests == 2 and elsewhere.read_bytes() == CONTENT


def test_a_wrong_file_and_a_slow_server_are_refused(elsewhere, monkeypatch):
    with Server(CONTENT[::-1]) as server:
        monkeypatch.setattr(yunet, "URL", server.url)
        with pytest.raises(NoNetworkFile, match="has the wrong SHA-256.*set KEYPOINTS_YUNET"):
            yunet.read_network()
    assert not elsewhere.exists()
    with Server(CONTENT, delay=0.2) as server, pytest.raises(OSError, match="not there after 0.3 seconds"):
        yunet.fetch(server.url, seconds=0.3)


def test_a_file_that_is_named_must_be_the_right_one(elsewhere, monkeypatch, tmp_path):
    (tmp_path / "right.onnx").write_bytes(CONTENT)
    (tmp_path / "wrong.onnx").write_bytes(b"something else")
    assert yunet.read_network(tmp_path / "right.onnx") == CONTENT
    monkeypatch.setenv("KEYPOINTS_YUNET", str(tmp_path / "right.onnx"))
    assert yunet.read_network() == CONTENT
    with pytest.raises(DetectorError, match="wrong.onnx: not face_detection_yunet_2023mar.onnx"):
        yunet.read_network(tmp_path / "wrong.onnx")
    with pytest.raises(DetectorError, match="none.onnx: YuNet's network cannot be read .No such file"):
        yunet.read_network(tmp_path / "none.onnx")


def test_without_the_file_haar_is_used_and_one_warning_says_so(elsewhere, monkeypatch):
    monkeypatch.setattr(yunet, "URL", "http://127.0.0.1:9/nobody-listens")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert isinstance(load_detector("yunet"), HaarDetector)
    (warning,) = said
    assert "cannot be fetched" in str(warning.message) and "set KEYPOINTS_YUNET" in str(warning.message)
    with pytest.raises(DataError, match="detector 'other': expected yunet, haar or a callable"):
        load_detector("other")


def test_a_download_that_does_not_end_is_stopped(monkeypatch):
    class Endless:
        megabytes = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read1(self, count):
            self.megabytes += count / 1e6
            assert self.megabytes < 20
            return bytes(count)

    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Endless())
    with pytest.raises(OSError, match="wrong SHA-256"):
        yunet.fetch("https://example.com", seconds=60)
