"""Open and closed mouths, from the inner edges of the lips."""

import numpy as np

from facial_keypoints.schemes import check_68

# In half of 300-W's labels the lips touch, and few gaps are between 0.01 and 0.06. With `fast`, 0.06 separates open
# from closed mouths best on its training photos; how often it is wrong: results/README.md.
MOUTH_OPEN_ABOVE = 0.06


def mouth_openness(keypoints: np.ndarray) -> float:
    """The aspect ratio of the gap between the lips of keypoints (68, 2): mean height over width.

    Closed near 0, open from MOUTH_OPEN_ABOVE to 1, at any size and tilt; 0 if the corners coincide.
    """
    lips = check_68(keypoints)[60:68]
    width = np.linalg.norm(lips[4] - lips[0])
    return float(np.linalg.norm(lips[[1, 2, 3]] - lips[[7, 6, 5]], axis=1).mean() / width) if width > 0 else 0.0
