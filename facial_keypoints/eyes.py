"""Open and closed eyes, from the shape of the eyelids."""

import numpy as np

from facial_keypoints.schemes import check_68

# Networks predict closed eyes as narrow. With `fast`, 0.2 separates closed from open eyes best on 300-W's training
# photos; half-closed and laughing eyes are near it. How often it is wrong: results/README.md.
EYES_CLOSED_BELOW = 0.2


def eye_openness(keypoints: np.ndarray) -> tuple[float, float]:  # the person's right eye, left eye
    """The eye aspect ratio of each eye of keypoints (68, 2): mean height of the lids over width.

    Soukupova and Cech, "Real-Time Eye Blink Detection using Facial Landmarks", CVWW 2016, equation 1. Open
    about 0.3, closed near 0 (EYES_CLOSED_BELOW), at any size and tilt; 0 if the corners coincide.
    """

    def ratio(eye):
        heights = np.linalg.norm(eye[[1, 2]] - eye[[5, 4]], axis=1)
        width = np.linalg.norm(eye[3] - eye[0])
        return float(heights.mean() / width) if width > 0 else 0.0

    keypoints = check_68(keypoints)
    return ratio(keypoints[36:42]), ratio(keypoints[42:48])
