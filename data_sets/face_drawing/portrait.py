"""Paints a portrait, from back to front.

`face` is a people.Face: its projected points say where every line goes. Sharp things (outline, lids, lips, brows)
are drawn through the points, soft things (skin, shading, beard, hairline) are warped from maps.
"""

import cv2
import numpy as np

from .brushes import DARK, blend, cloud, curve, ellipse, fill, mask_of, stroke
from .hair import hair_texture, paint_back_hair, paint_front_hair
from .maps import face_outline, on_canvas, shading_map, skin_map, skull_outline, warp_grid


def paint(shape: tuple[int, int], face, rng) -> np.ndarray:
    """The whole portrait on a new canvas, float32 (H, W, 3); shape is (H, W)."""
    canvas = np.empty((*shape, 3), np.float32)
    paint_background(canvas, face, rng)
    grid = warp_grid(face, shape)
    strands = hair_texture(face, shape, rng)
    paint_body(canvas, face)
    paint_back_hair(canvas, face, strands, rng)
    paint_neck(canvas, face)
    head = paint_head(canvas, face, grid, rng)
    paint_front_hair(canvas, face, grid, strands, rng)
    paint_ears(canvas, face, head)
    paint_glints(canvas, face)
    if face.person.glasses:
        paint_glasses(canvas, face)
    return canvas


def paint_background(canvas, face, rng) -> None:
    """A colour gradient with clutter, more or less out of focus."""
    height, width = canvas.shape[:2]
    hue = rng.normal(0, 18, 3)
    corners = rng.uniform(25, 225) + hue + rng.normal(0, 25, (2, 2, 1)) + rng.normal(0, 8, (2, 2, 3))
    small = cv2.resize(corners.astype(np.float32), (width // 4 + 1, height // 4 + 1), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(0, 14)):
        centre, reach = rng.random(2) * small.shape[1::-1], rng.uniform(0.02, 0.3, 2) * small.shape[0]
        box = centre + reach * ((-1, -1), (1, -1), (1, 1), (-1, 1))
        shape = box if rng.random() < 0.7 else ellipse(centre, (reach[0], 0), (0, reach[0]))
        colour = rng.uniform(10, 240) + rng.normal(0, 25, 3)
        fill(small, shape, np.clip(colour, 0, 255), rng.uniform(0.3, 1))
    small += rng.uniform(0, 12) * (cloud(rng, small.shape, 3)[..., None] - 0.5)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.3, 3))
    canvas[:] = cv2.resize(small, (width, height)) * face.scene.backdrop


def paint_body(canvas, face) -> None:
    """Shoulders and clothes."""
    unit, person, base = face.unit, face.person, face.neck + (0, 0.42 * face.unit)
    side = np.array([(0.45, -0.06), (0.75, 0.06), (1.45, 0.24), (2.0, 0.6), (2.3, 2.0), (2.3, 9.0)]) * unit
    outline = np.vstack([curve(base + side), curve(base + side * (-1, 1))[::-1]])
    fill(canvas, outline, face.lit(person.shirt, 0.9))
    clothes = mask_of(canvas.shape, outline)
    stripes = [base + np.array([(x, -0.5), (x * 1.1, 3)]) * unit for x in np.arange(-2.2, 2.3, 0.22)]
    if person.pattern:
        stroke(canvas, stripes, face.lit(person.tie), 0.04 * unit, 0.6, clip=clothes)
    if person.jacket:
        paint_lapels(canvas, face, base, clothes)
    for x, strength in ((-1.7, 0.45), (1.7, 0.45), (-face.scene.light[0], 0.35)):
        shade = ellipse(base + (x * unit, 1.0 * unit), (0.7 * unit, 0), (0, 1.4 * unit))
        fill(canvas, shade, DARK, strength, 0.3 * unit, clothes)


def paint_lapels(canvas, face, base, clothes) -> None:
    """A jacket's opening with shirt and tie."""
    unit, person = face.unit, face.person
    opening = np.array([(-0.55, -0.2), (0.55, -0.2), (0.06, 1.9), (-0.06, 1.9)])
    fill(canvas, base + opening * unit, face.lit((225, 225, 230)), clip=clothes)
    tie = np.array([(-0.09, 0.16), (0.09, 0.16), (0.06, 0.32), (0.14, 1.9), (-0.14, 1.9), (-0.06, 0.32)])
    fill(canvas, base + tie * unit, face.lit(person.tie), clip=clothes)
    for side in (-1, 1):
        edge = base + np.array([(0.55 * side, -0.2), (0.06 * side, 1.9)]) * unit
        stroke(canvas, edge, DARK, 0.03 * unit, 0.5, 0.02 * unit, clothes)
        collar = base + np.array([(0.52 * side, -0.2), (0.02 * side, 0.20), (0.30 * side, 0.46)]) * unit
        fill(canvas, collar, face.lit((238, 238, 242)), clip=clothes)


def paint_neck(canvas, face) -> None:
    """The neck, darker at its sides and under the chin."""
    unit, top = face.unit, face.neck - (0, 0.5 * face.unit)
    side = (
        np.array([(0.30, 0.0), (0.50, 0.30), (0.54, 0.60), (0.58, 0.80), (0.76, 0.95), (0.30, 1.05), (0.0, 1.08)])
        * unit
    )
    outline = np.vstack([curve(top + side), curve(top + side * (-1, 1))[::-1]])
    skin = face.lit(face.person.skin, 0.80)
    fill(canvas, outline, skin)
    mask = mask_of(canvas.shape, outline)
    for side in (-1, 1):
        edge = ellipse(top + (0.6 * side * unit, 0.6 * unit), (0.25 * unit, 0), (0, 0.9 * unit))
        fill(canvas, edge, skin * 0.3, 0.4 - 0.25 * side * face.scene.light[0], 0.10 * unit, mask)
        tendon = top + np.array([(0.42 * side, 0.3), (0.10 * side, 1.0)]) * unit
        stroke(canvas, tendon, skin * 0.5, 0.05 * unit, 0.3, 0.03 * unit, mask)
    under_chin = curve(face.points[2:15]) + (0, 0.12 * unit)
    fill(canvas, under_chin, skin * 0.28, 0.85, 0.08 * unit, mask)


def paint_head(canvas, face, grid, rng) -> np.ndarray:
    """Skull, skin and features in their own colours, then lit; returns the mask of the face (H, W)."""
    front = mask_of(canvas.shape, face_outline(face))
    skull = cv2.bitwise_or(front, mask_of(canvas.shape, skull_outline(face)))
    albedo = on_canvas(grid, skin_map(face.person, rng))
    for side in (0, 6):
        paint_eye(albedo, face, face.points[36 + side : 42 + side])
    paint_nose(albedo, face)
    paint_mouth(albedo, face)
    for brow in (slice(17, 22), slice(22, 27)):
        paint_brow(albedo, face, curve(face.points[brow]), rng)
    albedo *= on_canvas(grid, shading_map(face))
    blend(canvas, skull * np.float32(1 / 255), albedo)
    return front


def paint_eye(canvas, face, eye) -> None:
    """One eye from its six points: white, iris, pupil, lids, lashes, crease."""
    unit, person = face.unit, face.person
    upper, lower = curve(eye[:4]), curve(eye[[3, 4, 5, 0]])
    outline = np.vstack([upper, lower])
    opening = mask_of(canvas.shape, outline)
    fill(canvas, outline, (240, 232, 226))
    centre = eye[[1, 2, 4, 5]].mean(0) + face.scene.gaze * unit - (0, 0.004 * unit)
    for radius, colour in ((0.070, person.iris * 0.45), (0.060, person.iris), (0.032, (12, 10, 10))):
        fill(canvas, ellipse(centre, (radius * unit, 0), (0, radius * unit)), colour, clip=opening)
    stroke(canvas, upper + (0, 0.012 * unit), DARK, 0.03 * unit, 0.6, 0.012 * unit, opening)
    skin = person.skin * 0.38
    stroke(canvas, upper - (0, 0.050 * unit), skin, 0.014 * unit, 0.55, 0.008 * unit)
    stroke(canvas, lower, skin, 0.010 * unit, 0.7, 0.003 * unit)
    stroke(canvas, lower + (0, 0.045 * unit), skin, 0.012 * unit, 0.15 + 0.3 * person.age, 0.015 * unit)
    stroke(canvas, upper, DARK, (0.014 + 0.012 * person.lashes) * unit, 0.95)


def paint_nose(canvas, face) -> None:
    """Nostrils, wings, the edge of the ridge; the rest of the nose is shading."""
    unit, points, skin = face.unit, face.points, face.person.skin
    across, down = face.rotation[:2, 0] * unit, face.rotation[:2, 1] * unit
    stroke(canvas, curve(points[31:36]), skin * 0.35, 0.022 * unit, 0.6, 0.014 * unit)
    for inner, outer, sign in ((32, 31, -1), (34, 35, 1)):
        hole = 0.55 * points[inner] + 0.45 * points[outer] - 0.022 * down
        fill(canvas, ellipse(hole, 0.040 * across, 0.018 * down), skin * 0.12, 0.9, 0.008 * unit)
        wing = points[outer] + np.array([(0.00, 0.0), (0.035, -0.03), (0.035, -0.08), (0.01, -0.12)]) @ (
            np.stack([across * sign, down])
        )
        stroke(canvas, curve(wing), skin * 0.40, 0.014 * unit, 0.6, 0.010 * unit)
    turn = -face.rotation[0, 2]
    edge = curve(points[27:31]) + np.sign(turn) * 0.035 * across
    stroke(canvas, edge, skin * 0.45, 0.025 * unit, min(0.7, abs(turn)), 0.014 * unit)


def paint_mouth(canvas, face) -> None:
    """Lips, and between them teeth, tongue or a dark line."""
    unit, points, lips = face.unit, face.points, face.person.lips
    top, bottom = curve(points[48:55]), curve(points[[54, 55, 56, 57, 58, 59, 48]])
    inner_top, inner_bottom = curve(points[60:65]), curve(points[[64, 65, 66, 67, 60]])
    fill(canvas, np.vstack([top, inner_top[::-1]]), lips * 0.86)
    fill(canvas, np.vstack([bottom, inner_bottom[::-1]]), lips)
    stroke(canvas, top, face.person.skin * 0.5, 0.008 * unit, 0.4, 0.004 * unit)
    stroke(canvas, bottom[4:-4] + (0, 0.01 * unit), face.person.skin * 0.4, 0.02 * unit, 0.4, 0.015 * unit)
    inside = np.vstack([inner_top, inner_bottom])
    clip = mask_of(canvas.shape, inside)
    fill(canvas, inside, (52, 16, 16))
    gap = points[66] - points[62]
    teeth = np.vstack([inner_top - 0.1 * gap, inner_top[::-1] + min(0.6, 0.09 * unit / (abs(gap[1]) + 1)) * gap])
    fill(canvas, teeth, (222, 214, 200), 0.9 * face.scene.teeth, 0.01 * unit, clip)
    fill(canvas, ellipse(points[66], (0.13 * unit, 0), 0.35 * gap), (150, 62, 62), 0.8, 0.02 * unit, clip)
    stroke(canvas, inner_top, DARK, 0.014 * unit, 0.75, 0.004 * unit)
    stroke(canvas, inner_bottom, DARK, 0.008 * unit, 0.5, 0.004 * unit)


def paint_brow(canvas, face, line, rng) -> None:
    """One brow: a soft tapered band with hairs along it, centred on its points."""
    unit, person = face.unit, face.person
    inner_first = np.linalg.norm(line[0] - face.points[27]) < np.linalg.norm(line[-1] - face.points[27])
    line = line if inner_first else line[::-1]
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-6
    across = along[:, ::-1] * (-1, 1)
    taper = np.interp(np.linspace(0, 1, len(line)), (0, 0.15, 0.6, 1), (0.6, 1, 0.8, 0.15))[:, None]
    half = 0.5 * person.brow * unit * taper
    fill(
        canvas, np.vstack([line + across * half, (line - across * half)[::-1]]), person.brow_colour, 0.6, 0.012 * unit
    )
    pick, place = rng.integers(0, len(line), 60), rng.uniform(-1, 1, (60, 1))
    start = line[pick] + across[pick] * half[pick] * place
    tip = start + (along[pick] + (0, -0.35)) * rng.uniform(0.04, 0.08, (60, 1)) * unit * (0.4 + 0.6 * taper[pick])
    hairs = [np.stack(pair) for pair in zip(start, tip, strict=True)]
    stroke(canvas, hairs, person.brow_colour * 0.7, 0.008 * unit, 0.6)


def paint_ears(canvas, face, front) -> None:
    """Ears beside the jaw points, where the face does not hide them."""
    clip, person = 255 - front, face.person
    if person.style.covers_ears:
        return
    for side in (-1, 1):
        light = face.lit(person.skin, 0.85 + 0.25 * side * face.scene.light[0]) * np.float32((1.0, 0.90, 0.88))
        for size, amount in ((1.0, 1.0), (0.66, 0.75), (0.36, 0.5)):
            centre = np.array((0.85 * side, -0.20 - 0.04 * (1 - size), 0.42))
            ear = ellipse(
                centre, np.array((0.10 * side, -0.04, 0.10)) * size, np.array((-0.03 * side, 0.25, -0.02)) * size
            )
            fill(canvas, face.project(ear * person.size), light * amount, 1.0, 0.015 * face.unit, clip)


def paint_glints(canvas, face) -> None:
    """Reflections of the light in the eyes and on the lower lip."""
    unit, scene = face.unit, face.scene
    for first in (36, 42):
        eye = face.points[first : first + 6]
        opening = mask_of(canvas.shape, np.vstack([curve(eye[:4]), curve(eye[[3, 4, 5, 0]])]))
        spot = eye[[1, 2, 4, 5]].mean(0) + (scene.gaze + 0.022 * scene.light[:2]) * unit
        fill(canvas, ellipse(spot, (0.013 * unit, 0), (0, 0.013 * unit)), face.lit((255, 255, 255)), 0.9, 0, opening)
    gloss = 0.5 * (face.points[57] + face.points[66]) + (0.05 * scene.light[0] * unit, 0)
    fill(canvas, ellipse(gloss, (0.09 * unit, 0), (0, 0.014 * unit)), face.lit((255, 235, 230)), 0.22, 0.02 * unit)


def paint_glasses(canvas, face) -> None:
    """Spectacles in 3D before the eyes, with bridge, arms, tint and a reflection."""
    unit, person, spec = face.unit, face.person, face.person.glasses
    t = np.linspace(0, 2 * np.pi, 40)
    corner = np.abs(np.stack([np.cos(t), np.sin(t)])) ** (2 / spec.squareness) * np.sign([np.cos(t), np.sin(t)])
    for side in (-1, 1):
        x, y = 0.365 * side + spec.width * corner[0], -0.385 + spec.height * corner[1]
        rim = face.project(np.column_stack([x, y, -0.10 + 0.35 * x**2]) * person.size)
        fill(canvas, rim, face.lit(spec.tint), spec.darkness)
        fill(canvas, rim[[2, 8, 14]], face.lit((255, 255, 255)), 0.10, 0.03 * unit)
        stroke(canvas, rim, face.lit(spec.colour), spec.rim * unit)
        hinge, ear = face.project(np.array([(0.60 * side, -0.46, 0.05), (0.86 * side, -0.42, 0.45)]) * person.size)
        if (ear - hinge)[0] * side > 0.1 * unit:
            stroke(canvas, np.stack([hinge, ear]), face.lit(spec.colour), spec.rim * unit)
    inner = 0.365 - spec.width
    bridge = np.array([(-inner, -0.42, -0.09), (0, -0.46, -0.12), (inner, -0.42, -0.09)])
    stroke(canvas, curve(face.project(bridge * person.size)), face.lit(spec.colour), spec.rim * unit)
