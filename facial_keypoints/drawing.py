"""Drawing keypoints, boxes and head axes into RGB images."""

import cv2
import numpy as np

from facial_keypoints.images import as_rgb
from facial_keypoints.pose import FACE_3D, Pose

# Ground truth, predictions and boxes have these colours in every picture and figure.
TRUE, PREDICTED, BOX = (0, 255, 0), (255, 0, 255), (255, 0, 0)
AXIS_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))  # x red, y green, z blue


def draw_axes(image: np.ndarray, pose: Pose) -> np.ndarray:
    """A copy of the image (see images.as_rgb) with the head's axes as arrows from the tip of the nose.

    Red: to the person's left, which is the right of the picture; green: down; blue: out of the nose.
    """
    result = as_rgb(image).copy()
    ends = FACE_3D[30] + 0.5 * np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, -1)])
    origin, *tips = [(_whole(x), _whole(y)) for x, y in pose.project(ends)]
    thickness = min(max(1, round(pose.scale / 30)), 1000)
    for tip, colour in zip(tips, AXIS_COLOURS, strict=True):
        cv2.arrowedLine(result, origin, tip, colour, thickness, cv2.LINE_AA, tipLength=0.2)
    return result


def draw_keypoints(image: np.ndarray, keypoints: np.ndarray, color: tuple = PREDICTED) -> np.ndarray:
    """A copy of an RGB uint8 image with the keypoints as dots, sized in proportion to the face."""
    drawn = np.ascontiguousarray(image).copy()
    _dots(drawn, keypoints, color)
    return drawn


def _dots(drawn, keypoints, color):
    """Draw the keypoints into an image, in place."""
    radius = min(max(1.0, float(np.ptp(keypoints, axis=0).max()) / 90), max(drawn.shape))
    for x, y in keypoints:  # 4 fractional bits place a dot between pixels
        centre = (_whole(x * 16), _whole(y * 16))
        cv2.circle(drawn, centre, round(radius * 16), color, cv2.FILLED, cv2.LINE_AA, shift=4)


def _whole(position) -> int:
    """A coordinate as an integer, clipped to what OpenCV can draw."""
    return round(min(max(float(position), -1e8), 1e8))


def draw_boxes(image: np.ndarray, boxes: np.ndarray, color: tuple = BOX) -> np.ndarray:
    """A copy of an RGB uint8 image with boxes (N, 4) x, y, w, h."""
    drawn = np.ascontiguousarray(image).copy()
    thickness = max(1, round(min(image.shape[:2]) / 250))
    for x, y, w, h in np.asarray(boxes).reshape(-1, 4):
        corners = (_whole(x), _whole(y)), (_whole(x + w), _whole(y + h))
        cv2.rectangle(drawn, *corners, color, thickness, cv2.LINE_AA)
    return drawn


def draw_faces(image: np.ndarray, faces: list) -> np.ndarray:
    """A copy of the photo with the boxes and keypoints of pipeline.Face objects."""
    drawn = draw_boxes(image, [face.box for face in faces])
    for face in faces:
        _dots(drawn, face.keypoints, PREDICTED)
    return drawn
