"""YuNet, a small convolutional face detector (Wu, Peng and Yu, Machine Intelligence Research 2023), run by OpenCV.

OpenCV's wheels contain the code, not the network. Its file is downloaded once to the user's cache folder, or named by:

    export KEYPOINTS_YUNET=/path/to/face_detection_yunet_2023mar.onnx
"""

import hashlib
import os
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from detector_architectures import DetectorError, to_tight_boxes

FILE = "face_detection_yunet_2023mar.onnx"  # MIT license, from OpenCV's model zoo
URL = f"https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/{FILE}"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
SECONDS = 5  # for fetching 232,589 bytes

# The tight keypoint box within YuNet's, which reaches up to the hair: its centre, width and height as fractions
# of YuNet's width and height. Medians over training faces, fitted by tools/fit_detector_box.py.
CENTRE = (0.491, 0.622)
SIZE = (1.043, 0.763)

# YuNet finds faces from 24 pixels to about a thousand. A photo is searched with its longer side scaled down to FIRST,
# and again scaled down to FINER if nobody is found or if it is more than twice as large as FIRST.
FIRST, FINER = 640, 1920

# For pictures with a side of 32 pixels or less OpenCV 4.14 reads uninitialised memory and reports faces in it, so they
# are padded with black.
SMALLEST = 64


class NoNetworkFile(DetectorError):
    """YuNet's file is not in the cache and cannot be downloaded."""


def cached_file() -> Path:
    """The path of the downloaded network, in the operating system's cache folder for the user."""
    from platformdirs import user_cache_path  # only here, for a quick import

    return user_cache_path("facial-keypoints") / FILE


def read_network(path: str | Path | None = None) -> bytes:
    """YuNet's ONNX file: from that path, else from KEYPOINTS_YUNET, else from the cache, else fetched into the cache.

    Raises DetectorError for a named file that is missing or wrong, NoNetworkFile if it cannot be fetched.
    """
    path = path or os.environ.get("KEYPOINTS_YUNET")
    if path:
        return _read_named(Path(path))
    cached = cached_file()
    if cached.is_file() and _is_right(content := cached.read_bytes()):
        return content
    try:
        content = fetch(URL)
        _write_whole(content, cached)
    except OSError as error:
        raise NoNetworkFile(
            f"YuNet's network cannot be fetched from {URL} ({error}): save the file yourself "
            f"and set KEYPOINTS_YUNET to its path"
        ) from None
    return content


def fetch(url: str, seconds: float = SECONDS) -> bytes:
    """Download YuNet's file; raises OSError if that fails, takes longer, or yields another file."""
    from urllib.request import urlopen  # only here, for a quick import

    deadline, content = time.monotonic() + seconds, b""
    with urlopen(url, timeout=seconds) as response:
        while chunk := response.read1(1 << 16):
            content += chunk
            if time.monotonic() > deadline:
                raise TimeoutError(f"not there after {seconds:g} seconds")
            if len(content) > 10_000_000:
                break
    if not _is_right(content):
        raise OSError("the downloaded file has the wrong SHA-256")
    return content


def _is_right(content):
    return hashlib.sha256(content).hexdigest() == SHA256


def _read_named(path):
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DetectorError(f"{path}: YuNet's network cannot be read ({error.strerror})") from None
    if not _is_right(content):
        raise DetectorError(f"{path}: not {FILE} of OpenCV's model zoo (its SHA-256 differs)")
    return content


def _write_whole(content, path):
    """Write a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    part.write_bytes(content)
    part.replace(path)


# From this score on it is a face: on the pictures without faces in benchmarks/detector.py the highest score is 0.66.
CERTAIN = 0.75


class YuNetDetector:
    """Finds faces at any yaw, tilted by up to about 45 degrees, from 24 pixels (of the scaled photo).

    path: YuNet's file, by default see read_network; min_score: boxes with a lower score (at most 1) are left out.
    Safe to share between threads. Raises what read_network raises.
    """

    def __init__(self, path: str | Path | None = None, min_score: float = 0.5):
        self.content, self.min_score = np.frombuffer(read_network(path), np.uint8), min_score
        self.certain = CERTAIN
        self.own = threading.local()  # OpenCV's detector holds its picture's size as state

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes, scores = self.native_boxes(image)
        return to_tight_boxes(boxes, CENTRE, SIZE), scores

    def native_boxes(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """YuNet's own boxes (N, 4), from the hair to the chin, and scores (N,), best first."""
        longest = max(image.shape[:2])
        found = self._look(image, FIRST)
        if longest > 2 * FIRST or (longest > FIRST and not len(found)):
            found = np.concatenate([found, self._look(image, FINER)])
        boxes, scores = found[:, :4], found[:, 4]
        kept = np.array(cv2.dnn.NMSBoxes(boxes, scores, self.min_score, 0.3), int).ravel()
        return boxes[kept], scores[kept]

    def _look(self, image, longest):  # (N, 5)
        """Boxes and scores, in pixels of the image, of the image with its longer side scaled down to `longest`."""
        height, width = image.shape[:2]
        scale = min(1, longest / max(height, width))
        size = max(1, round(scale * width)), max(1, round(scale * height))
        small = image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        right, below = (max(0, SMALLEST - side) for side in size)
        small = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_CONSTANT)
        detector = self._detector()
        detector.setInputSize((size[0] + right, size[1] + below))
        _, found = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if found is None:
            return np.empty((0, 5), np.float32)
        zoom = np.array([width, height, width, height]) / (*size, *size)
        return np.column_stack([found[:, :4] * zoom, found[:, 14]]).astype(np.float32)

    def _detector(self):
        if not hasattr(self.own, "detector"):
            no_config, size = np.empty(0, np.uint8), (FIRST, FIRST)
            self.own.detector = cv2.FaceDetectorYN.create("onnx", self.content, no_config, size, self.min_score)
        return self.own.detector
