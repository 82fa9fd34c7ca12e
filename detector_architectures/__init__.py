"""Face detectors, one module each.

A detector is a callable: RGB uint8 image (H, W, 3) -> boxes (N, 4) x, y, w, h and scores (N,), both float32.
A box means the tight bounding box of the face's keypoints; nobody there is N = 0, never an error.
"""
