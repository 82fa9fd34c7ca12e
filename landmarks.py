"""The 68-point landmark scheme: mirror table, face parts, eye corners and a rigid 3D face.

Points are counted from 0. The scheme is that of Multi-PIE / iBUG 300-W (Sagonas et al., "300 Faces
in-the-Wild Challenge", ICCV Workshops 2013, figure 1).
"""

import numpy as np

NUM_KEYPOINTS = 68

# The outer corners of the eyes: their distance is the unit of the normalised mean error (Sagonas et al., section 4).
EYE_CORNERS = (36, 45)

PARTS = {
    "jaw": range(0, 17),
    "brows": range(17, 27),
    "nose": range(27, 36),
    "eyes": range(36, 48),
    "mouth": range(48, 68),
}

# Runs of points that belong to one line; closed ones (eyes, lips) end where they begin.
CONTOURS = {
    "jaw": list(range(0, 17)),
    "right brow": list(range(17, 22)),
    "left brow": list(range(22, 27)),
    "nose bridge": list(range(27, 31)),
    "nostrils": list(range(31, 36)),
    "right eye": [*range(36, 42), 36],
    "left eye": [*range(42, 48), 42],
    "outer lips": [*range(48, 60), 48],
    "inner lips": [*range(60, 68), 60],
}

# MIRROR[i] is the point that point i becomes when left and right are swapped.
MIRROR = np.array(
    [16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]  # jaw
    + [26, 25, 24, 23, 22, 21, 20, 19, 18, 17]  # brows
    + [27, 28, 29, 30, 35, 34, 33, 32, 31]  # nose
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]  # eyes
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]  # mouth
)

# A rigid 3D face: x to the right of the image, y down, z away from the camera; the unit is the distance of
# the outer eye corners. Fitted to the 300-W labels by tools/fit_face_3d.py; the outline is flatter than a real
# head, because people label the visible edge of the cheek, which slides over the head as it turns.
FACE_3D = np.array(
    [
        (-0.824, -0.339, 0.362),
        (-0.817, -0.145, 0.325),
        (-0.793, 0.051, 0.295),
        (-0.748, 0.242, 0.263),
        (-0.664, 0.415, 0.204),
        (-0.534, 0.562, 0.126),
        (-0.375, 0.683, 0.037),
        (-0.200, 0.778, -0.046),
        (0.000, 0.804, -0.075),
        (0.200, 0.778, -0.046),
        (0.375, 0.683, 0.037),
        (0.534, 0.562, 0.126),
        (0.664, 0.415, 0.204),
        (0.748, 0.242, 0.263),
        (0.793, 0.051, 0.295),
        (0.817, -0.145, 0.325),
        (0.824, -0.339, 0.362),
        (-0.665, -0.532, 0.117),
        (-0.563, -0.621, 0.068),
        (-0.422, -0.652, 0.021),
        (-0.275, -0.639, -0.022),
        (-0.136, -0.594, -0.057),
        (0.136, -0.594, -0.057),
        (0.275, -0.639, -0.022),
        (0.422, -0.652, 0.021),
        (0.563, -0.621, 0.068),
        (0.665, -0.532, 0.117),
        (0.000, -0.436, -0.075),
        (0.000, -0.312, -0.128),
        (0.000, -0.190, -0.185),
        (0.000, -0.065, -0.242),
        (-0.165, 0.038, -0.136),
        (-0.086, 0.062, -0.159),
        (0.000, 0.084, -0.173),
        (0.086, 0.062, -0.159),
        (0.165, 0.038, -0.136),
        (-0.500, -0.398, 0.061),
        (-0.413, -0.449, 0.040),
        (-0.305, -0.449, 0.030),
        (-0.215, -0.385, 0.024),
        (-0.314, -0.367, 0.021),
        (-0.419, -0.366, 0.031),
        (0.215, -0.385, 0.024),
        (0.305, -0.449, 0.030),
        (0.413, -0.449, 0.040),
        (0.500, -0.398, 0.061),
        (0.419, -0.366, 0.031),
        (0.314, -0.367, 0.021),
        (-0.316, 0.300, -0.031),
        (-0.201, 0.244, -0.108),
        (-0.082, 0.215, -0.152),
        (0.000, 0.232, -0.160),
        (0.082, 0.215, -0.152),
        (0.201, 0.244, -0.108),
        (0.316, 0.300, -0.031),
        (0.205, 0.396, -0.098),
        (0.089, 0.434, -0.143),
        (0.000, 0.442, -0.150),
        (-0.089, 0.434, -0.143),
        (-0.205, 0.396, -0.098),
        (-0.268, 0.304, -0.043),
        (-0.083, 0.281, -0.147),
        (0.000, 0.287, -0.156),
        (0.083, 0.281, -0.147),
        (0.268, 0.304, -0.043),
        (0.084, 0.337, -0.136),
        (0.000, 0.345, -0.144),
        (-0.084, 0.337, -0.136),
    ]
)
