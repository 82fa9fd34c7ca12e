"""Draw the README's pictures: drawn faces, and public-domain portraits with keypoints.

python -m tools.draw_figures
"""

from pathlib import Path

import skimage.data
from matplotlib.cbook import get_sample_data

import visualize
from data_sets.drawn_faces import draw_face
from facial_keypoints.drawing import draw_axes, draw_faces
from facial_keypoints.filters import wear
from facial_keypoints.geometry import crop_matrix, warp
from facial_keypoints.images import read_image
from facial_keypoints.morph import morph, swap_face
from facial_keypoints.pipeline import FacePipeline
from facial_keypoints.pose import head_pose

IMAGES = Path(__file__).resolve().parent.parent / "images"
DRAWN_SEEDS = (1, 4, 7, 9, 12, 13, 15, 17)


def main() -> None:
    """Write images/drawn_faces.jpg, images/portraits.jpg and images/swap_and_morph.jpg."""
    drawn = [draw_face(seed) for seed in DRAWN_SEEDS]
    visualize.show_images(*zip(*drawn, strict=True), columns=8).savefig(IMAGES / "drawn_faces.jpg", dpi=100)

    pipeline = FacePipeline()
    portraits = [read_image(get_sample_data("grace_hopper.jpg", asfileobj=False)), skimage.data.astronaut()]
    found = [pipeline(photo)[0] for photo in portraits]
    pictures = [draw_faces(photo, [face]) for photo, face in zip(portraits, found, strict=True)]
    hopper, astronaut = (face.keypoints for face in found)
    pictures.append(wear(portraits[0], hopper, "sunglasses"))
    pictures.append(draw_axes(portraits[1], head_pose(astronaut)))
    closer = [crop_matrix(face.box, 320, margin=0.7) for face in found * 2]
    pictures = [warp(picture, matrix, (320, 320)) for picture, matrix in zip(pictures, closer, strict=True)]
    visualize.show_images(pictures).savefig(IMAGES / "portraits.jpg", dpi=100)

    two = portraits[0], hopper, portraits[1], astronaut
    swaps = [swap_face(*two), swap_face(*two[2:], *two[:2])]
    swaps = [warp(swap, crop_matrix(face.box, 320, 0.6), (320, 320)) for swap, face in zip(swaps, found, strict=True)]
    morphs = [morph(*two, part, 320) for part in (0.25, 0.5, 0.75)]
    visualize.show_images(swaps + morphs, columns=5).savefig(IMAGES / "swap_and_morph.jpg", dpi=100)
    print(f"written: drawn_faces.jpg, portraits.jpg and swap_and_morph.jpg in {IMAGES}")


if __name__ == "__main__":
    main()
