"""Face crops that are cut out once and kept in memory."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from data_load import KeypointsDataset
from data_sets.ibug_300w import IbugFaces
from facial_keypoints.geometry import crop_matrix, tight_box, transform_points, warp

THREADS = min(16, os.cpu_count() or 1)


class FaceCuts(IbugFaces):
    """Faces cut out once, with a margin, and kept in memory, where whole photos would not fit.

    A cut is size x size pixels around the box with `margin` of its longer side added on every side; samples are
    those of `faces`, in pixels of the cut. `photo_keypoints` and `photo_boxes` are in pixels of the photos.
    With 300 pixels and margin 0.5 the box has the same size as in a 224-pixel crop of 1.5 boxes (270 kB per face).
    At most 16 threads hold one photo each, 18 MB for one of six megapixels.
    """

    def __init__(self, faces: IbugFaces, size: int = 300, margin: float = 0.5):
        names, places = ([values[i] for i in faces.indices] for values in (faces.names, faces.places))
        self.photo_keypoints, self.photo_boxes = faces.keypoints[faces.indices], faces.boxes[faces.indices]
        matrices = [crop_matrix(box, size, margin) for box in self.photo_boxes]
        keypoints = [transform_points(m, k) for m, k in zip(matrices, self.photo_keypoints, strict=True)]
        boxes = [transform_box(m, b) for m, b in zip(matrices, self.photo_boxes, strict=True)]
        KeypointsDataset.__init__(
            self, names, np.stack(keypoints), faces.root_dir, places, None, True, np.stack(boxes), faces.scheme
        )
        self.label_shift = faces.label_shift[faces.indices]
        photos = faces.with_transform(None)

        def cut(position):
            return warp(photos[position]["image"], matrices[position], (size, size))

        with ThreadPoolExecutor(THREADS) as pool:  # each thread frees its photo before it decodes the next
            self.images = dict(enumerate(pool.map(cut, range(len(faces)))))


def transform_box(matrix: np.ndarray, box: np.ndarray) -> np.ndarray:  # (4,)
    """The box (x, y, w, h) around a box moved by a 2x3 matrix."""
    x, y, w, h = box
    return tight_box(transform_points(matrix, np.array([[x, y], [x + w, y], [x, y + h], [x + w, y + h]])))
