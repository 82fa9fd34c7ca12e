"""Facial keypoints on anyone's photos.

from facial_keypoints import FacePipeline

for face in FacePipeline()("photo.jpg"):
    print(face.box, face.keypoints)  # in pixels of the photo
"""

from facial_keypoints.images import DataError, read_image
from facial_keypoints.pipeline import Face, FacePipeline
from facial_keypoints.tracker import TrackedFace, Tracker

__all__ = ["DataError", "Face", "FacePipeline", "TrackedFace", "Tracker", "read_image"]
__version__ = "0.2.0"
