"""Face swap and morph: two faces are laid over each other triangle by triangle, by their 68 keypoints."""

import cv2
import numpy as np

from facial_keypoints.align import alignment
from facial_keypoints.geometry import compose, resize_matrix, similarity, tight_box, transform_points, warp
from facial_keypoints.images import DataError, as_rgb
from facial_keypoints.schemes import check_68

FARTHEST = 1e5  # pixels, the largest coordinate of keypoints
EDGE = 0.06  # width of a swapped face's soft edge, as a fraction of the box's longer side


def delaunay(points: np.ndarray) -> np.ndarray:  # (T, 3) indices
    """The Delaunay triangles of points (N, 2), the smallest first."""
    points = np.asarray(points, np.float32)
    low, span = points.min(axis=0), max(float(np.ptp(points, axis=0).max()), 1.0)
    plane = cv2.Subdiv2D((0, 0, 1000, 1000))  # triangles at its rim have corners that are not in `points`
    placed = 250 + 500 * (points - low) / span
    plane.insert(placed.tolist())
    corners = plane.getTriangleList().reshape(-1, 3, 1, 2)
    distances = np.linalg.norm(corners - placed, axis=-1)
    triangles = distances.argmin(axis=-1)[(distances.min(axis=-1) < 1e-2).all(axis=-1)]
    (ax, ay), (bx, by) = (np.moveaxis(points[triangles[:, k]] - points[triangles[:, 0]], -1, 0) for k in (1, 2))
    return triangles[np.argsort(np.abs(ax * by - ay * bx))]


def warp_triangles(image: np.ndarray, source: np.ndarray, target: np.ndarray, size: tuple) -> np.ndarray:
    """The image with its points `source` (N, 2) moved to `target`, affinely within each triangle of `target`.

    The result has size (w, h); outside the triangles it is black.
    """
    source, target = np.float32(source), np.float32(target)
    triangles = delaunay(target)
    labels = np.full((size[1], size[0]), -1, np.int32)
    for number, triangle in enumerate(triangles):  # larger triangles are drawn over the rims of smaller ones
        cv2.fillConvexPoly(labels, np.rint(target[triangle] * 16).astype(np.int32), number, shift=4)
    matrices = np.stack([cv2.getAffineTransform(target[some], source[some]) for some in triangles])
    y, x = np.indices(labels.shape)
    places = matrices[labels] @ np.stack([x, y, np.ones_like(x)], axis=-1)[..., None]
    warped = cv2.remap(
        image, places[..., 0].astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    warped[labels < 0] = 0
    return warped


def swap_face(photo: np.ndarray, keypoints: np.ndarray, other: np.ndarray, other_keypoints: np.ndarray) -> np.ndarray:
    """A copy of `photo` with its inner face, from brows to chin, replaced by that of another photo.

    photo, other: see images.as_rgb; keypoints: (68, 2), in pixels of each. The other face is moved onto the first by
    Delaunay triangles, takes on its light and complexion, and fades in from the edge. Raises DataError for keypoints
    that do not form a face.
    """
    photo, other = as_rgb(photo).copy(), as_rgb(other)
    keypoints, other_keypoints = _checked(keypoints), _checked(other_keypoints)
    part, matrix = _surroundings(keypoints, photo.shape)
    if not part[0].stop > part[0].start or not part[1].stop > part[1].start:
        return photo
    here, size = photo[part], photo[part].shape[1::-1]
    keypoints = transform_points(matrix, keypoints)
    near = similarity(other_keypoints, keypoints)  # first scaled to the face that it replaces, without aliasing
    source = transform_points(near, other_keypoints)
    face = warp_triangles(warp(other, near, size), source, _with_parts_of(source, keypoints), size)
    hull = np.zeros(size[::-1], np.uint8)
    cv2.fillConvexPoly(hull, np.rint(cv2.convexHull(keypoints) * 16).astype(np.int32), 1, shift=4)
    edge = EDGE * tight_box(keypoints)[2:].max()
    face = _in_the_light_of(face, here, hull, 3 * edge)
    alpha = np.clip(cv2.distanceTransform(np.pad(hull, 1), cv2.DIST_L2, 5)[1:-1, 1:-1] / edge, 0, 1)[..., None]
    here[:] = np.rint(here + alpha * (face - here))
    return photo


def morph(
    photo: np.ndarray, keypoints: np.ndarray, other: np.ndarray, other_keypoints: np.ndarray, part: float, size=512
) -> np.ndarray:  # (size, size, 3)
    """The face between two faces: `part` 0 is the first, 1 the other, 0.5 half of each; RGB uint8.

    photo, other: see images.as_rgb; keypoints: (68, 2), in pixels of each. Both are cut out as FFHQ has it (align.py),
    their points are moved in between by Delaunay triangles, and the pictures are blended. Raises DataError for
    keypoints that are no face.
    """
    corners = np.array([(x, y) for x in (0, 0.5, 1) for y in (0, 0.5, 1) if (x, y) != (0.5, 0.5)]) * (size - 1)
    crops, points = [], []
    for image, face in ((photo, keypoints), (other, other_keypoints)):
        matrix = compose(resize_matrix((256, 256), (size, size)), alignment(_checked(face), 256))
        crops.append(warp(as_rgb(image), matrix, (size, size)))
        inside = np.clip(transform_points(matrix, _checked(face)), 1, size - 2)
        points.append(np.concatenate([inside, corners]))
    between = (1 - part) * points[0] + part * points[1]
    first, second = (
        warp_triangles(crop, some, between, (size, size)) for crop, some in zip(crops, points, strict=True)
    )
    return cv2.addWeighted(first, 1 - part, second, part, 0)


def _checked(keypoints):
    keypoints = check_68(keypoints).astype(np.float32)
    if keypoints.shape != (68, 2) or not (np.abs(keypoints) < FARTHEST).all() or np.ptp(keypoints, axis=0).min() < 1:
        raise DataError("keypoints: expected those of one face, (68, 2), finite and more than a pixel wide and high")
    return keypoints


def _surroundings(keypoints, shape):
    """The part of a picture around a face, as slices, and the matrix from the picture to it."""
    x, y, w, h = tight_box(keypoints)
    room = max(w, h) / 4
    left, right = np.clip([np.floor(x - room), np.ceil(x + w + room)], 0, shape[1]).astype(int)
    top, below = np.clip([np.floor(y - room), np.ceil(y + h + room)], 0, shape[0]).astype(int)
    return (slice(top, below), slice(left, right)), np.array([(1.0, 0, -left), (0, 1, -top)])


def _with_parts_of(source, keypoints):
    """The keypoints (68, 2), with eyes and mouth replaced by those of `source`, centred where they were."""
    points = keypoints.copy()
    for part in (slice(36, 42), slice(42, 48), slice(48, 68)):
        points[part] = source[part] + (keypoints[part] - source[part]).mean(axis=0)
    return points


def _in_the_light_of(face, here, hull, sigma):
    """The face (float32) in the light and complexion of the picture under it, both blurred within the hull."""

    def blurred(picture):
        weight = cv2.GaussianBlur(hull.astype(np.float32), (0, 0), sigma)[..., None]
        return cv2.GaussianBlur(picture * hull[..., None].astype(np.float32), (0, 0), sigma) / np.maximum(weight, 1e-3)

    return np.clip(face + blurred(here) - blurred(face), 0, 255)
