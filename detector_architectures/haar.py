"""Viola and Jones' face detector with Haar features, as it comes with OpenCV 4 (CVPR 2001)."""

import threading
from pathlib import Path

import cv2
import numpy as np

from detector_architectures import DetectorError, to_tight_boxes

# The tight keypoint box within Haar's square (which begins above the brows and is too wide): the centre's
# offset from the square's corner and the width and height, as fractions of the square's side. Medians over the
# training faces, fitted by tools/fit_detector_box.py.
CENTRE = (0.493, 0.647)
SIZE = (0.861, 0.835)

# Tried in turn until a face is found: cascade, minNeighbors, whether the histogram is equalised. Chosen on training
# photos: where the first attempt misses a face, it nearly always finds none at all. Of the 28 faces that it misses in
# 320 photos of 300-W, the other two find 13.
ATTEMPTS = (("frontalface_default", 5, False), ("frontalface_alt2", 3, False), ("frontalface_default", 5, True))


def load_cascade(name: str):
    """One of the cascades inside OpenCV's package: "frontalface_default", "eye", "smile", ...

    Raises DetectorError for OpenCV 5, which has no cascades, and for a file that cannot be read.
    """
    if not hasattr(cv2, "CascadeClassifier"):
        raise DetectorError(f'OpenCV {cv2.__version__} has no Haar cascades: pip install "opencv-python>=4.10,<5"')
    path, cascade = Path(cv2.data.haarcascades) / f"haarcascade_{name}.xml", cv2.CascadeClassifier()
    try:  # from text, since OpenCV on Windows opens no file in a folder with a non-ASCII name
        storage = cv2.FileStorage(path.read_text(encoding="utf-8"), cv2.FileStorage_READ | cv2.FileStorage_MEMORY)
        readable = cascade.read(storage.getFirstTopLevelNode()) and not cascade.empty()
    except (OSError, UnicodeDecodeError, SystemError, cv2.error):
        readable = False
    if not readable:
        raise DetectorError(f"{path}: not a readable cascade; reinstall opencv-python to restore it")
    return cascade


class _Loaded(threading.local):
    """The cascades of one thread; OpenCV's cascades hold state and cannot be shared."""

    def __init__(self):
        self.cascades = {}


_loaded = _Loaded()


def own_cascade(name: str):
    """`load_cascade`, cached for each thread."""
    if name not in _loaded.cascades:
        _loaded.cascades[name] = load_cascade(name)
    return _loaded.cascades[name]


class HaarDetector:
    """Finds frontal faces; if there are none, it tries again with other settings, see ATTEMPTS.

    smallest: the smallest face to find, as a fraction of the photo's shorter side. Safe to share between threads.
    """

    def __init__(self, smallest: float = 0.06, attempts=ATTEMPTS):
        self.smallest, self.attempts = smallest, attempts
        for name, _, _ in attempts:
            own_cascade(name)  # raises at once if it cannot be read

    def squares(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Haar's own squares (N, 4) and scores (N,), best first."""
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        for name, neighbors, equalize in self.attempts:
            squares, scores = self._look(cv2.equalizeHist(gray) if equalize else gray, own_cascade(name), neighbors)
            if len(squares):
                break
        return squares, scores

    def _look(self, gray, cascade, neighbors):
        side = max(24, round(self.smallest * min(gray.shape)))
        squares, _, scores = cascade.detectMultiScale3(
            gray, scaleFactor=1.1, minNeighbors=neighbors, minSize=(side, side), outputRejectLevels=True
        )
        scores = np.asarray(scores, np.float32).reshape(-1)
        order = np.argsort(-scores)
        return np.asarray(squares, np.float32).reshape(-1, 4)[order], scores[order]

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        squares, scores = self.squares(image)
        return to_tight_boxes(squares, CENTRE, SIZE), scores


def find_eyes(image: np.ndarray, box: np.ndarray) -> np.ndarray:  # (N, 4)
    """Eyes within a face box, as boxes in photo pixels: looked for from above the brows to the tip of the nose."""
    x, y, w, h = box
    return _find_inside(image, (x, y - 0.2 * h, w, 0.75 * h), own_cascade("eye"), neighbors=5, smallest=0.15)


def find_smile(image: np.ndarray, box: np.ndarray) -> np.ndarray:  # (N, 4)
    """Smiles within a face box, as boxes in photo pixels: looked for in its lower half."""
    x, y, w, h = box
    return _find_inside(image, (x, y + 0.5 * h, w, 0.6 * h), own_cascade("smile"), neighbors=20, smallest=0.3)


def _find_inside(image, region, cascade, neighbors, smallest):
    """What a cascade finds in a region x, y, w, h of the photo, cut at the photo's border."""
    left, top = (max(0, int(v)) for v in region[:2])
    part = image[top : max(top, int(region[1] + region[3])), left : max(left, int(region[0] + region[2]))]
    if not part.size:
        return np.empty((0, 4), np.float32)
    side = max(1, int(smallest * part.shape[1]))
    gray = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2GRAY)
    found = cascade.detectMultiScale(gray, scaleFactor=1.05, minNeighbors=neighbors, minSize=(side, side))
    return np.asarray(found, np.float32).reshape(-1, 4) + np.array([left, top, 0, 0], np.float32)
