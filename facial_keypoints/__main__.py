"""The command: find the faces of photos and draw their keypoints.

facial-keypoints PHOTO...        the same as python -m facial_keypoints PHOTO...
"""

import argparse
import sys
import warnings
from pathlib import Path

from facial_keypoints.drawing import draw_faces, save_picture
from facial_keypoints.images import DataError, read_image
from facial_keypoints.pipeline import DETECTORS, FacePipeline


def draw(pipeline: FacePipeline, photo: Path, folder: Path | None) -> str:
    """Draw the keypoints of one photo into FOLDER/PHOTO_keypoints.jpg; returns a line about it."""
    image = read_image(photo)
    faces = pipeline(image)
    if not faces:
        return f"{photo}: no face found"
    output = (folder or photo.parent) / f"{photo.stem}_keypoints.jpg"
    save_picture(draw_faces(image, faces), output)
    return f"{photo}: {len(faces)} face{'s' if len(faces) > 1 else ''}; drawn in {output}"


def main() -> int:
    """Draw every photo; returns the exit code, 1 when a photo could not be read or a picture not be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+", metavar="PHOTO")
    parser.add_argument("--network", default="accurate", help="accurate (default), fast, or the path of an .onnx file")
    parser.add_argument("--detector", default="yunet", choices=DETECTORS)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for the pictures (default: beside the photos)")
    args = parser.parse_args()
    warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)  # one line, no code
    try:
        pipeline = FacePipeline(args.network, args.detector)
    except (DataError, RuntimeError) as error:
        sys.exit(str(error))
    failures = 0
    for photo in args.photos:
        try:
            print(draw(pipeline, photo, args.output))
        except DataError as error:
            print(error, file=sys.stderr)
            failures += 1
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
