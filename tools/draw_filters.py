"""Draw the pictures of the library's page: filters on a portrait and on drawn heads that turn, and their poses.

python -m tools.draw_filters
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data_sets.drawn_faces import draw_frame
from data_sets.face_drawing.people import draw_person, draw_scene
from facial_keypoints.drawing import draw_axes
from facial_keypoints.eyes import EYES_CLOSED_BELOW, eye_openness
from facial_keypoints.filters import WEARABLES, wear
from facial_keypoints.geometry import crop_matrix, tight_box, warp
from facial_keypoints.mouth import MOUTH_OPEN_ABOVE, mouth_openness
from facial_keypoints.pose import head_pose

IMAGES = Path(__file__).resolve().parent.parent / "images"
SIDE = 216  # pixels of a tile
YAWS = (50, 25, 0, -25, -50)
PEOPLE = (4, 9, 15, 12, 7)  # seeds


def portrait_with(photo: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """A row of tiles: one person with each of the filters."""
    matrix = crop_matrix(tight_box(keypoints) + [0, -30, 0, 0], SIDE, margin=0.7)
    return np.hstack([warp(wear(photo, keypoints, name), matrix, (SIDE, SIDE)) for name in WEARABLES])


def turned_heads() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Drawn people who turn from side to side, and their keypoints."""
    for number, (seed, yaw) in enumerate(zip(PEOPLE, YAWS, strict=True)):
        rng = np.random.default_rng((seed, 1))
        calm = {"lids": np.full(2, 0.05 if number == 1 else 1.1), "gape": 0.6 if number == 3 else 0.0, "smile": 0.4}
        scene = replace(draw_scene(rng), angles=np.radians([yaw, 4, 6 - 3 * number]), **calm)
        person = replace(draw_person(np.random.default_rng((seed, 0))), glasses=None)
        yield draw_frame(person, scene, rng, SIDE, SIDE)


def described(image: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """The head's axes, and below them its yaw and whether eyes and mouth are open."""
    pose = head_pose(keypoints)
    eyes = "closed" if np.mean(eye_openness(keypoints)) < EYES_CLOSED_BELOW else "open"
    mouth = "open" if mouth_openness(keypoints) > MOUTH_OPEN_ABOVE else "closed"
    text = np.full((40, SIDE, 3), 255, np.uint8)
    for line, words in enumerate((f"yaw {round(pose.yaw)}", f"eyes {eyes}, mouth {mouth}")):
        cv2.putText(text, words, (6, 15 + 18 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([draw_axes(image, pose), text])


def draw(photo: np.ndarray, keypoints: np.ndarray) -> None:
    """Write images/filters.jpg and images/heads.jpg; photo: a portrait with keypoints (68, 2)."""
    heads = list(turned_heads())
    worn = [wear(*head, name) for head, name in zip(heads, WEARABLES, strict=True)]
    filters = np.vstack([portrait_with(photo, keypoints), np.hstack(worn)])
    Image.fromarray(filters).save(IMAGES / "filters.jpg", quality=88)
    Image.fromarray(np.hstack([described(*head) for head in heads])).save(IMAGES / "heads.jpg", quality=88)


def main() -> None:
    """Draw with the astronaut that comes with scikit-image."""
    import skimage.data

    from facial_keypoints import FacePipeline

    photo = skimage.data.astronaut()
    draw(photo, FacePipeline()(photo)[0].keypoints)
    print(f"written: filters.jpg and heads.jpg in {IMAGES}")


if __name__ == "__main__":
    main()
