"""The faces in front of a camera, in a window."""

import os
import sys
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from facial_keypoints.images import DataError
from facial_keypoints.pipeline import FacePipeline
from facial_keypoints.results import Drawing
from facial_keypoints.tracker import Tracker
from facial_keypoints.video import VideoSummary, draw


class Window:
    """A window on the screen: a call shows an RGB frame and returns whether to go on.

    It returns False after Q, Esc, or when the window was closed. Raises DataError if there is no screen.
    """

    TITLE = "facial keypoints (Q ends)"

    def __init__(self):
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise DataError("no screen for a window: DISPLAY is not set")

    def __call__(self, image: np.ndarray) -> bool:
        try:
            cv2.imshow(self.TITLE, image[..., ::-1])
            ended = cv2.waitKey(1) & 0xFF in (ord("q"), ord("Q"), 27)
            return not ended and cv2.getWindowProperty(self.TITLE, cv2.WND_PROP_VISIBLE) > 0
        except cv2.error:
            raise DataError("this OpenCV cannot show windows: install opencv-python, not -headless") from None


def watch(
    camera: int | str, pipeline: FacePipeline, drawing: Drawing, show: Callable[[np.ndarray], bool] | None = None
) -> VideoSummary:
    """Follow the faces in front of a camera (its number, or a video file instead) until the window or the file ends.

    show: called with each drawn frame, instead of a Window. Raises DataError if there is no camera or no screen.
    """
    show = show or Window()
    tracker, summary, start = Tracker(pipeline), VideoSummary(), time.monotonic()
    for image in camera_frames(camera):
        seconds = time.monotonic() - start
        faces = tracker(image, seconds)
        summary.add(faces)
        if not show(count(draw(image, faces, drawing), summary.frames, seconds)):
            break
    return summary


def camera_frames(camera: int | str) -> Iterator[np.ndarray]:
    """RGB frames of a camera as they come; raises DataError if it gives none."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it prints lines about missing cameras
    source, frames = cv2.VideoCapture(camera), 0
    try:
        while (got := source.read())[0]:
            frames += 1
            yield cv2.cvtColor(got[1], cv2.COLOR_BGR2RGB)
    finally:
        source.release()
    if not frames:
        raise DataError(f"camera {camera}: there is none, or another program uses it")


def count(image: np.ndarray, frames: int, seconds: float) -> np.ndarray:
    """The frame with its number and the mean frame rate so far in the lower left corner."""
    image, place, font = image.copy(), (8, image.shape[0] - 8), cv2.FONT_HERSHEY_SIMPLEX
    text = f"{frames} ({frames / max(seconds, 1e-3):.0f}/s)"
    for colour, thickness in ((0, 0, 0), 3), ((255, 255, 255), 1):
        cv2.putText(image, text, place, font, 0.5, colour, thickness, cv2.LINE_AA)
    return image
