"""The head: 68 points, the surface of the face through them, and rings for ear, skull, throat and neck behind it.

Everything here was made by this project: the 68 points (facial_keypoints/face_3d.py) are fitted to labels by
fit_template.py, the rest was placed by hand, guided by head measures of adults (Farkas, "Anthropometry of the head and
face", 2nd edition, 1994: about 90 mm between the outer eye corners, 75 mm from there to the ear canal, a head 190 mm
long and 150 mm wide).

The unit is the distance between the outer eye corners, the origin is halfway; x right, y down, z away from the camera.
Only the half with x <= 0 is given; the other half is its mirror image.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy.interpolate import PchipInterpolator, RBFInterpolator
from scipy.spatial import Delaunay

from facial_keypoints.face_3d import POINTS, SKIN, both_halves

# The upper edge of the face, from the temple to the middle of the forehead.
HAIRLINE = np.array(
    [
        (-0.82, -0.16, 0.62),
        (-0.77, -0.34, 0.42),
        (-0.68, -0.50, 0.24),
        (-0.55, -0.65, 0.08),
        (-0.37, -0.75, -0.06),
        (-0.19, -0.80, -0.13),
        (0.00, -0.82, -0.15),
    ]
)

# Behind the face: lines over the head that start at a point (x, y) on the edge of the face, with points of the head's
# surface (x, y, z) and the points (x, y) in the plane of the face's edge that these take their colours from. A photo
# from the front does not show the back of the head, so it gets the colours of the hair around the face.
LINES = {
    (0.00, -0.82): (  # over the top of the head
        [(0.00, -1.05, 0.03), (0.00, -1.24, 0.32), (0.00, -1.32, 0.80), (0.00, -1.10, 1.40), (0.00, -0.35, 1.83)],
        [(0.00, -0.95), (0.00, -1.06), (0.00, -1.12), (0.00, -1.00), (0.00, -0.88)],
    ),
    (-0.55, -0.65): (
        [(-0.65, -0.80, 0.30), (-0.73, -0.90, 0.60), (-0.74, -0.90, 0.95), (-0.58, -0.72, 1.45), (-0.14, -0.30, 1.82)],
        [(-0.62, -0.74), (-0.66, -0.82), (-0.66, -0.88), (-0.58, -0.96), (-0.42, -1.00)],
    ),
    (-0.77, -0.34): (  # temple
        [(-0.82, -0.38, 0.60), (-0.86, -0.42, 0.85), (-0.85, -0.40, 1.12), (-0.66, -0.32, 1.50), (-0.14, -0.20, 1.82)],
        [(-0.81, -0.36), (-0.84, -0.44), (-0.84, -0.54), (-0.76, -0.72), (-0.62, -0.86)],
    ),
    (-0.83, 0.02): (  # ear
        [(-0.86, 0.03, 0.82), (-0.93, 0.03, 0.95), (-0.84, 0.06, 1.13), (-0.64, 0.06, 1.50), (-0.14, 0.00, 1.80)],
        [(-0.86, 0.02), (-0.93, 0.01), (-0.92, -0.14), (-0.87, -0.40), (-0.78, -0.62)],
    ),
    (-0.77, 0.55): (  # below the ear
        [(-0.78, 0.56, 0.77), (-0.78, 0.57, 0.92), (-0.72, 0.60, 1.12), (-0.54, 0.64, 1.45), (-0.12, 0.62, 1.70)],
        [(-0.79, 0.56), (-0.84, 0.54), (-0.87, 0.42), (-0.88, 0.12), (-0.86, -0.20)],
    ),
    (-0.61, 0.95): (  # corner of the jaw, side of the neck
        [(-0.62, 1.00, 0.64), (-0.62, 1.15, 0.86), (-0.61, 1.45, 1.08), (-0.54, 1.90, 1.32), (-0.40, 2.60, 1.48)],
        [(-0.60, 1.02), (-0.58, 1.16), (-0.56, 1.32), (-0.54, 1.60), (-0.54, 2.00)],
    ),
    (-0.32, 1.21): (  # throat
        [(-0.36, 1.26, 0.28), (-0.44, 1.38, 0.52), (-0.50, 1.62, 0.70), (-0.54, 2.05, 0.78), (-0.56, 2.70, 0.80)],
        [(-0.32, 1.26), (-0.34, 1.36), (-0.38, 1.52), (-0.42, 1.72), (-0.46, 2.05)],
    ),
    (0.00, 1.31): (
        [(0.00, 1.34, 0.12), (0.00, 1.40, 0.36), (0.00, 1.60, 0.52), (0.00, 2.05, 0.52), (0.00, 2.70, 0.45)],
        [(0.00, 1.34), (0.00, 1.42), (0.00, 1.56), (0.00, 1.78), (0.00, 2.10)],
    ),
}
RINGS_PER_PLACE = 2  # rings of vertices for each point of LINES
GRID = 0.085  # spacing of the vertices on the face
FLAT = (-1, 1, 1)  # mirrors


@dataclass(frozen=True)
class Template:
    """The head as triangles. Vertices: the 68 points, the rest of the face, then the rings, from the face outwards.

    vertices: (V, 3); colours_from: (V, 2), the x and y in the plane of the face's edge that a vertex takes its colour
    from (its own on the face); depth_of_edge: (V,), the z of that plane; triangles: (T, 3) int, with one orientation;
    spread: (V, 68), the weights by which moves of the 68 points move every vertex; ring: (V,) int, 0 on the face;
    face: the number of vertices of the face.
    """

    vertices: np.ndarray
    colours_from: np.ndarray
    depth_of_edge: np.ndarray
    triangles: np.ndarray
    spread: np.ndarray
    ring: np.ndarray
    face: int

    @cached_property
    def lowest_point(self) -> np.ndarray:  # (T,)
        """The largest y of each triangle."""
        return self.vertices[self.triangles, 1].max(axis=1)


def edge() -> np.ndarray:  # (E, 3)
    """The closed edge of the face, each point once: down one side of the jaw, up the other, back over the forehead."""
    return np.concatenate([POINTS[:17], HAIRLINE * FLAT, HAIRLINE[-2::-1]])


def inside(points: np.ndarray, outline: np.ndarray) -> np.ndarray:  # (N,) bool
    """Which points (N, 2) lie inside a closed outline (E, 2)."""
    start, end = outline, np.roll(outline, -1, axis=0)
    crosses = (start[:, 1] > points[:, 1:]) != (end[:, 1] > points[:, 1:])
    along = (points[:, 1:] - start[:, 1]) / np.where(end[:, 1] == start[:, 1], 1, end[:, 1] - start[:, 1])
    return (crosses & (points[:, :1] < start[:, 0] + along * (end[:, 0] - start[:, 0]))).sum(axis=1) % 2 == 1


def face_surface() -> tuple[np.ndarray, np.ndarray]:
    """Vertices (F, 3) and triangles (T, 3) of the face: its 68 points first, then its edge above, then a grid."""
    known = np.concatenate([POINTS, edge()[17:]])
    sites = np.concatenate([known, both_halves(SKIN)])
    depth = RBFInterpolator(sites[:, :2], sites[:, 2], kernel="thin_plate_spline", smoothing=1e-4)
    half = np.arange(GRID / 2, 0.9, GRID)
    x, y = np.meshgrid(np.concatenate([-half[::-1], half]), np.arange(-0.8, 1.3, GRID))
    grid = np.column_stack([x.ravel(), y.ravel()])
    apart = np.linalg.norm(grid[:, None] - known[:, :2], axis=2).min(axis=1) > GRID / 2
    grid = grid[apart & inside(grid * 1.04, edge()[:, :2])]  # not on the edge itself
    vertices = np.concatenate([known, np.column_stack([grid, depth(grid)])])
    triangles = Delaunay(vertices[:, :2]).simplices
    middles = vertices[triangles, :2].mean(axis=1)
    triangles = triangles[inside(middles, edge()[:, :2])]
    first, second = (vertices[triangles[:, n], :2] - vertices[triangles[:, 0], :2] for n in (1, 2))
    clockwise = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    triangles[clockwise] = triangles[clockwise][:, ::-1]
    return vertices, triangles


def along_edge(outline: np.ndarray) -> np.ndarray:  # (E,)
    """Angles of edge points (E, 2) about the middle of the face, on either side: 0 at the top, pi at the chin."""
    return np.abs(np.arctan2(outline[:, 0], 0.3 - outline[:, 1]))


def rings(outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rings behind edge points (E, 3): their surface (R, E, 3) and the points of their colours (R, E, 2)."""
    at = along_edge(np.array(list(LINES)))
    places = along_edge(outline[:, :2])
    tables = [np.array([line[part] for line in LINES.values()], float) for part in (0, 1)]  # (lines, R, 3 or 2)
    sign = np.where(outline[:, 0] > 0, -1.0, 1.0)
    surface, colours = (PchipInterpolator(at, table)(places).transpose(1, 0, 2) for table in tables)
    surface[..., 0] *= sign
    colours[..., 0] *= sign
    return finer(outline, surface), finer(outline[:, :2], colours)


def finer(outline: np.ndarray, loops: np.ndarray) -> np.ndarray:  # (more than R, E, D)
    """RINGS_PER_PLACE times as many rings, on smooth curves through the edge (E, D) and the rings (R, E, D)."""
    along = np.arange(len(loops) + 1)
    curves = PchipInterpolator(along, np.concatenate([outline[None], loops]))
    return curves(np.arange(1, RINGS_PER_PLACE * len(loops) + 1) / RINGS_PER_PLACE)


def strips(edge_vertices: np.ndarray, first: int, count: int) -> np.ndarray:  # (T, 3)
    """Triangles between the edge of the face and `count` rings whose vertices are numbered from `first`."""
    size = len(edge_vertices)
    loops = np.concatenate([edge_vertices[None], first + np.arange(count * size).reshape(count, size)])
    near, far = loops[:-1], loops[1:]
    near_next, far_next = (np.roll(loop, -1, axis=1) for loop in (near, far))
    corners = (near, near_next, far), (near_next, far_next, far)
    return np.concatenate([np.stack(three, axis=-1).reshape(-1, 3) for three in corners])


def spread_of(vertices: np.ndarray) -> np.ndarray:  # (V, 68)
    """How moves of the 68 points move vertices (V, 2 or 3): thin-plate spline weights, fixed at the forehead."""
    held = np.array([(x, y) for y in (-1.1, -1.5) for x in (-0.9, -0.45, 0, 0.45, 0.9)])  # forehead
    sites = np.concatenate([POINTS[:, :2], held])
    moves = np.eye(len(sites))[:, :68]
    return RBFInterpolator(sites, moves, kernel="thin_plate_spline", smoothing=0.002)(vertices[:, :2])


@cache
def template() -> Template:
    """The head, built once."""
    vertices, triangles = face_surface()
    edge_vertices = np.concatenate([np.arange(17), 68 + np.arange(len(edge()) - 17)])
    surface, colours = rings(edge())
    count = len(surface)
    triangles = np.concatenate([triangles, strips(edge_vertices, len(vertices), count)])
    spread = spread_of(vertices)
    return Template(
        vertices=np.concatenate([vertices, surface.reshape(-1, 3)]),
        colours_from=np.concatenate([vertices[:, :2], colours.reshape(-1, 2)]),
        depth_of_edge=np.concatenate([vertices[:, 2], np.tile(edge()[:, 2], count)]),
        triangles=triangles,
        spread=np.concatenate([spread, np.tile(spread[edge_vertices], (count, 1))]),
        ring=np.repeat(np.arange(count + 1), [len(vertices)] + count * [len(edge())]),
        face=len(vertices),
    )
