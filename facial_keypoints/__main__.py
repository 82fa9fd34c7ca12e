"""The command: find the faces of a photo and draw their keypoints."""

import argparse
from pathlib import Path

from facial_keypoints.drawing import draw_faces, save_picture
from facial_keypoints.images import DataError, read_image
from facial_keypoints.pipeline import DEFAULT_MODEL, FacePipeline


def main() -> None:
    """Draw the keypoints of one photo and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="a weights file")
    parser.add_argument("--output", type=Path, help="where to (default: PHOTO_keypoints.jpg beside the photo)")
    args = parser.parse_args()
    image = read_image(args.photo)
    faces = FacePipeline(model=args.model)(image)
    if not faces:
        print(f"{args.photo}: no face found")
        return
    output = args.output or args.photo.with_name(f"{args.photo.stem}_keypoints.jpg")
    save_picture(draw_faces(image, faces), output)
    print(f"{args.photo}: {len(faces)} face{'s' if len(faces) > 1 else ''}; drawn in {output}")


if __name__ == "__main__":
    try:
        main()
    except (DataError, RuntimeError) as error:
        raise SystemExit(str(error)) from None
