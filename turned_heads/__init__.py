"""Turned views of labelled photos for training: a head is fitted to 68 points, turned, and rendered.

After "face profiling" (Zhu et al., "Face alignment across large poses: a 3D solution", arXiv:1511.07212, section 4).
Lengths on the head are in inter-ocular distances (outer eye corners); x to the right of the picture, y down, z away
from the camera. Angles are in radians unless a name says degrees.
"""
