"""The layers of a view: the head without its background, and backgrounds without the head."""

from dataclasses import dataclass

import cv2
import numpy as np

from facial_keypoints.geometry import resize, resize_matrix, transform_points
from turned_heads.head import Head
from turned_heads.template import template

WORK_SIDE = 128  # pixels of the photo's longer side when head and background are segmented
HAIR = 0.35  # how far around the head hair may reach, in inter-ocular distances


@dataclass(frozen=True)
class Layers:
    """The two layers of a photo, both (H, W, 3).

    colours: the photo, with the background replaced by colours of hair and skin; behind: the photo, with the head
    replaced by colours from around it.
    """

    colours: np.ndarray
    behind: np.ndarray


def fill(image: np.ndarray, known: np.ndarray) -> np.ndarray:  # float32
    """Fill the unknown part of an image smoothly from around it, from coarse to fine; known: (H, W), 0 to 1.

    The pull-push algorithm (Gortler et al., "The lumigraph", SIGGRAPH 1996, section 3.4).
    """
    known = known.astype(np.float32)[..., None]
    sums, weights = [image.astype(np.float32) * known], [known]
    while min(weights[-1].shape[:2]) > 3:
        sums.append(np.atleast_3d(cv2.pyrDown(sums[-1])))
        weights.append(np.atleast_3d(cv2.pyrDown(weights[-1])))
    filled = sums[-1] / np.maximum(weights[-1], 1e-3)
    for total, weight in zip(sums[-2::-1], weights[-2::-1], strict=True):
        coarse = np.atleast_3d(cv2.resize(filled, weight.shape[1::-1], interpolation=cv2.INTER_LINEAR))
        share = np.clip(weight, 0, 1)
        filled = share * total / np.maximum(weight, 1e-3) + (1 - share) * coarse
    return filled


def grown(mask: np.ndarray, radius: float) -> np.ndarray:
    """A mask dilated by a radius in pixels, or eroded if that is negative."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(round(abs(radius))) + 1,) * 2)
    return cv2.dilate(mask, kernel) if radius > 0 else cv2.erode(mask, kernel)


def silhouette(places: np.ndarray, size: tuple, down_to: float = 9.0) -> np.ndarray:  # (h, w) uint8, 0 or 1
    """The mask of a head with vertices at pixels `places` (V, 2), in a picture of size (w, h).

    down_to: parts of the template below this y, in inter-ocular distances, are left out.
    """
    mesh, mask = template(), np.zeros(size[::-1], np.uint8)
    for triangle in np.rint(places * 16).astype(int)[mesh.triangles[mesh.lowest_point < down_to]]:
        cv2.fillConvexPoly(mask, triangle, 1, shift=4)
    return mask


def person_mask(photo: np.ndarray, places: np.ndarray, unit: float) -> np.ndarray:  # (H, W) uint8, 0 or 1
    """The mask of the person: the face for certain, hair and clothes by their colours.

    GrabCut (Rother et al., SIGGRAPH 2004), started from the fitted head with vertices at pixels `places` (V, 2);
    unit: the inter-ocular distance in pixels.
    """
    size = photo.shape[1::-1]
    labels = np.full(size[::-1], cv2.GC_BGD, np.uint8)
    head = silhouette(places, size)
    labels[grown(head, 0.9 * unit) > 0] = cv2.GC_PR_BGD
    labels[grown(head, 0.15 * unit) > 0] = cv2.GC_PR_FGD
    temples = silhouette(places, size, down_to=0.7)  # so that the colour of hair belongs to the person
    labels[grown(temples, -0.03 * unit) > 0] = cv2.GC_FGD
    cv2.fillConvexPoly(labels, cv2.convexHull(np.rint(places[: template().face]).astype(np.int32)), cv2.GC_FGD)
    if not (labels == cv2.GC_BGD).any():  # the head fills the photo
        labels[0] = cv2.GC_BGD
    cv2.setRNGSeed(0)
    cv2.grabCut(photo, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)


def take_apart(photo: np.ndarray, head: Head) -> Layers:
    """The layers of a photo (H, W, 3) with one fitted head; the masks are computed on a small copy."""
    size = photo.shape[1::-1]
    scale = min(1.0, WORK_SIDE / max(size))
    small = tuple(max(8, round(side * scale)) for side in size)
    places = transform_points(resize_matrix(size, small), head.pose.project(head.vertices))
    unit = scale * head.pose.scale
    person = person_mask(resize(photo, small), places, unit)
    above = silhouette(places, small, down_to=1.45)
    hole = np.maximum(grown(above, 0.1 * unit), grown(above, HAIR * unit) & person)
    soft, hole = (
        cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)[..., None]
        for mask in (grown(person, -1), grown(hole, 1))
    )
    colours = fill(photo, soft[..., 0] > 0.99) * (1 - soft) + photo * soft
    behind = fill(photo, hole[..., 0] < 0.01)
    return Layers(np.clip(colours, 0, 255).astype(np.uint8), np.clip(behind, 0, 255).astype(np.uint8))


def grain(rng: np.random.Generator, size: int) -> np.ndarray:  # (size, size, 1)
    """Blurred noise, so that filled regions are not perfectly smooth."""
    noise = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), rng.uniform(0.7, 4))
    return (noise / noise.std() * rng.uniform(0, 5))[..., None]


def patch(rng: np.random.Generator, photo: np.ndarray, size: int) -> np.ndarray:  # (size, size, 3)
    """A part of another photo, from near its edges, where there are no faces, enlarged and blurred."""
    height, width = photo.shape[:2]
    side = max(8, int(min(height, width) * rng.uniform(0.2, 0.45)))
    room = np.array([width - side, height - side])
    x, y = (room * rng.random(2)).astype(int)
    if rng.random() < 0.5:
        x = room[0] * rng.integers(2)
    else:
        y = room[1] * rng.integers(2)
    part = cv2.resize(photo[y : y + side, x : x + side], (size, size)).astype(np.float32)
    return cv2.GaussianBlur(part, (0, 0), rng.uniform(0.5, 5))


def background(rng: np.random.Generator, layers: Layers, matrix: np.ndarray, size: int, others) -> np.ndarray:
    """A background (size, size, 3) float32 for a view.

    matrix: 2x3, from the photo to the view, so that the photo's own background moves along with the head;
    others: photos (h, w, 3) of other people to take patches from.
    """
    kind = rng.random()
    if kind < 0.6 or (kind < 0.9 and not len(others)):
        own = cv2.warpAffine(
            layers.behind, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        return own + grain(rng, size)
    if kind < 0.9:
        return patch(rng, others[rng.integers(len(others))], size)
    return np.broadcast_to(rng.uniform(0, 255, 3).astype(np.float32), (size, size, 3))
