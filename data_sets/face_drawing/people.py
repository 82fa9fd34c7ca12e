"""Who is drawn and how: Person (shape, skin, hair, clothes), Scene (pose, expression, light), Face (both, placed).

Lengths are in outer-eye distances, colours RGB 0 to 255.
"""

from dataclasses import dataclass

import numpy as np

from .shape import DRAWN_FACE

MAX_YAW, MAX_PITCH, MAX_ROLL = 40, 20, 20  # degrees
# From very light to very dark, after the Monk Skin Tone scale (skintone.google), a little redder.
# fmt: off
SKIN_TONES = np.array([
    (236, 204, 188), (232, 194, 172), (228, 184, 156), (220, 172, 138), (206, 156, 118), (186, 134, 98),
    (160, 110, 80), (132, 88, 64), (106, 70, 54), (84, 56, 44),
], np.float32)
HAIR_COLOURS = np.array([
    (22, 18, 18), (36, 26, 22), (62, 42, 30), (96, 64, 40), (138, 98, 58), (190, 154, 98), (214, 184, 130),
    (124, 58, 30), (140, 136, 134), (206, 204, 202),
], np.float32)
# fmt: on
IRIS_COLOURS = np.array([(62, 38, 22), (84, 54, 30), (104, 84, 48), (88, 112, 92), (96, 128, 156)], np.float32)


@dataclass(frozen=True)
class HairStyle:
    """Lengths in outer-eye distances; y is 0 between nose and eyes, negative upwards."""

    hairline: float = -1.10
    sideburn: float = -0.25
    recede: float = 0.0
    volume: float = 0.06
    length: float | None = 0.0  # None: bald; 0: short; else how far down it hangs
    curl: float = 0.0
    contrast: float = 0.6
    cover: float = 1.0
    covers_ears: bool = False
    parting: float = 0.0


HAIR_STYLES = (
    HairStyle(length=None),
    HairStyle(volume=0.01, cover=0.55, contrast=0.3, recede=0.05),  # shaved
    HairStyle(volume=0.07, parting=0.35),
    HairStyle(volume=0.12, hairline=-1.05, parting=-0.4),
    HairStyle(volume=0.08, hairline=-0.84, sideburn=-0.15),  # fringe
    HairStyle(volume=0.04, hairline=-1.30, recede=0.20),  # receding
    HairStyle(volume=0.24, curl=1.0, contrast=0.9, hairline=-1.02),
    HairStyle(volume=0.10, length=0.55, sideburn=0.10, covers_ears=True, parting=0.2),
    HairStyle(volume=0.10, length=1.35, sideburn=0.15, covers_ears=True, hairline=-1.12),
    HairStyle(volume=0.10, length=1.20, hairline=-0.82, covers_ears=True, sideburn=0.05),
    HairStyle(volume=0.22, length=0.85, curl=0.9, contrast=0.9, covers_ears=True),
    HairStyle(volume=0.07, length=1.10, contrast=0.15, covers_ears=True, hairline=-0.98, sideburn=0.2),  # scarf
)


@dataclass(frozen=True)
class Glasses:
    """Sizes in outer-eye distances."""

    width: float
    height: float
    squareness: float
    rim: float
    colour: np.ndarray
    tint: np.ndarray
    darkness: float


@dataclass(frozen=True)
class Person:
    """What stays the same in every picture of somebody; colours are RGB 0 to 255."""

    shape: np.ndarray  # (68, 3), DRAWN_FACE's units
    size: np.ndarray  # (3,) stretch of the whole head
    skin: np.ndarray
    hair: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    brow_colour: np.ndarray
    shirt: np.ndarray
    tie: np.ndarray
    style: HairStyle
    brow: float
    lashes: float
    flush: float
    age: float
    shine: float
    beard: float
    moustache: float
    jacket: bool
    pattern: bool
    glasses: Glasses | None


@dataclass(frozen=True)
class Scene:
    """What changes from picture to picture."""

    angles: np.ndarray  # yaw, pitch, roll in radians
    distance: float  # of the camera, in outer-eye distances
    smile: float
    gape: float  # how far the mouth is open
    brow_lift: float
    frown: float
    lids: np.ndarray  # (2,) 0 closed, 1 as usual
    gaze: np.ndarray  # (2,)
    teeth: float
    light: np.ndarray  # (3,) unit vector towards the light
    ambient: np.ndarray  # (3,)
    diffuse: np.ndarray  # (3,)
    level: np.ndarray  # (3,) light on things without a shading of their own
    backdrop: float


@dataclass
class Face:
    """A person in a scene, placed on a canvas: everything that painting needs."""

    person: Person
    scene: Scene
    shape: np.ndarray  # (68, 3), with this scene's expression
    rotation: np.ndarray  # (3, 3)
    unit: float = 1.0  # pixels per outer-eye distance
    offset: np.ndarray | float = 0.0

    def project(self, points: np.ndarray) -> np.ndarray:
        """3D points (N, 3) to canvas pixels (N, 2), in perspective."""
        turned = points @ self.rotation.T
        return turned[:, :2] / (1 + turned[:, 2:] / self.scene.distance) * self.unit + self.offset

    @property
    def points(self) -> np.ndarray:
        return self.project(self.shape)

    def lit(self, colour, amount: float = 1.0) -> np.ndarray:
        """A colour in the scene's average light."""
        return np.asarray(colour, np.float32) * self.scene.level * np.float32(amount)

    @property
    def neck(self) -> np.ndarray:
        """The middle of the throat, on the canvas."""
        base = self.project(np.array([(0.0, 0.45, 0.48)]) * self.person.size)[0]
        return base + np.array((-0.25 * np.sin(self.scene.angles[2]), 0.25)) * self.unit


def stretch(points: np.ndarray, part: range, factors) -> None:
    """Scale some points (in place) about their own centre."""
    centre = points[part].mean(0)
    points[part] = centre + (points[part] - centre) * factors


def draw_shape(rng) -> np.ndarray:
    """DRAWN_FACE with somebody's own jaw, eyes, nose, brows and mouth, (68, 3)."""
    p = DRAWN_FACE.copy()
    lower = np.clip((p[:17, 1] - 0.05) / 0.75, 0, 1)
    p[:17, 0] *= 1 + rng.normal(0, 0.06) * np.sin(np.pi * lower)
    p[:17, 1] += rng.normal(0, 0.05) * lower
    apart, eye_size = rng.normal(0, 0.015), rng.normal(1, (0.06, 0.15, 0.0))
    for part, side in ((range(36, 42), -1), (range(42, 48), 1)):
        stretch(p, part, eye_size)
        p[part, 0] += side * apart
    p[17:27, 1] += rng.normal(0, 0.03) + rng.normal(0, 0.10) * (np.abs(p[17:27, 0]) - 0.4) ** 2
    p[27:36, 0] *= rng.normal(1.05, 0.13)
    p[30:36, 1] += rng.normal(0, 0.025)
    p[28:36, 2] *= rng.normal(1, 0.12)
    stretch(p, range(48, 68), rng.normal(1, (0.08, 0.14, 0.0)))
    p[48:68, 1] += rng.normal(0, 0.015)
    return p


def draw_glasses(rng) -> Glasses:
    """Spectacles of some shape and colour."""
    colour = rng.choice(np.array([(25, 22, 22), (70, 45, 30), (150, 150, 155), (170, 140, 70)], np.float32))
    tint = rng.choice(np.array([(30, 30, 35), (200, 215, 220)], np.float32))
    return Glasses(
        rng.uniform(0.22, 0.28),
        rng.uniform(0.13, 0.21),
        rng.uniform(2, 5),
        rng.choice((0.012, 0.022, 0.04)),
        colour,
        tint,
        rng.choice((0.06, 0.10, 0.25)),
    )


def draw_person(rng) -> Person:
    """Somebody: everything that does not change from picture to picture."""
    size = rng.normal(1, (0.05, 0.05, 0.05))
    tone = rng.uniform(0, len(SKIN_TONES) - 1)
    skin = SKIN_TONES[int(tone)] + (SKIN_TONES[int(tone) + 1] - SKIN_TONES[int(tone)]) * (tone % 1)
    skin = (skin * rng.normal(1, (0.02, 0.02, 0.03))).astype(np.float32)
    darkest = 4 if tone > 4 else len(HAIR_COLOURS)
    hair = HAIR_COLOURS[rng.integers(darkest)] if rng.random() < 0.8 else HAIR_COLOURS[rng.choice((0, 8, 9))]
    style = HAIR_STYLES[rng.integers(len(HAIR_STYLES))]
    bearded = not style.covers_ears and rng.random() < 0.5
    lips = (
        skin * np.array((0.92, 0.62, 0.62)) if bearded or rng.random() < 0.7 else skin * 0.35 + np.array((110, 18, 36))
    )
    scarf = style is HAIR_STYLES[-1]
    return Person(
        shape=draw_shape(rng) * size,
        size=size,
        skin=skin,
        lips=lips.astype(np.float32),
        style=style,
        hair=(rng.uniform(40, 190) + rng.normal(0, 20, 3)).astype(np.float32) if scarf else hair,
        brow_colour=np.minimum(hair * 0.75, skin * 0.6),
        iris=IRIS_COLOURS[rng.integers(2 if tone > 4 else 5)],
        shirt=np.clip(rng.uniform(15, 230) + rng.normal(0, 28, 3), 5, 250),
        tie=rng.uniform(10, 220, 3),
        brow=rng.uniform(0.05, 0.095),
        lashes=rng.random(),
        flush=rng.uniform(0.05, 0.35),
        age=max(0.0, rng.uniform(-0.2, 0.55)),
        shine=rng.uniform(0, 0.30),
        beard=rng.choice((0.15, 0.35, 0.9)) * bearded,
        moustache=rng.choice((0.15, 0.5, 0.9)) * bearded,
        jacket=bool(rng.random() < 0.35),
        pattern=bool(rng.random() < 0.3),
        glasses=draw_glasses(rng) if rng.random() < 0.25 else None,
    )


def draw_scene(rng) -> Scene:
    """Pose, expression and light of one picture."""
    limits = np.array((MAX_YAW, MAX_PITCH, MAX_ROLL))
    angles = np.radians(np.clip(rng.normal((0, 2, 0), limits * (0.5, 0.4, 0.4)), -limits, limits))
    azimuth, height = rng.normal(0, 0.7), rng.uniform(-0.1, 0.9)
    light = np.array((np.sin(azimuth) * np.cos(height), -np.sin(height), -np.cos(azimuth) * np.cos(height)))
    exposure = rng.uniform(0.4, 0.65) if rng.random() < 0.2 else rng.uniform(0.85, 1.15)
    warmth, green = rng.normal(0, (0.06, 0.015))
    tint = exposure * np.array((1 + warmth, 1 + green, 1 - warmth))
    share = rng.uniform(0.35, 0.65)  # of ambient light
    blink = rng.random()
    lids = np.full(2, 0.0 if blink < 0.05 else rng.uniform(0.3, 0.7) if blink < 0.2 else rng.uniform(0.9, 1.45))
    mouth = rng.random()
    return Scene(
        angles=angles,
        distance=rng.uniform(6, 20),
        smile=float(np.clip(rng.normal(0.4, 0.45), -0.3, 1.2)),
        gape=0.0 if mouth < 0.45 else rng.uniform(0.05, 0.3) if mouth < 0.8 else rng.uniform(0.3, 1.0),
        brow_lift=rng.normal(0, 0.4),
        frown=max(0.0, rng.normal(0, 0.4)),
        lids=lids,
        gaze=rng.normal(0, (0.025, 0.008)),
        teeth=float(rng.random() < 0.75),
        light=light,
        ambient=(share * tint).astype(np.float32),
        diffuse=((1.18 - share) * tint).astype(np.float32),
        level=(0.9 * tint).astype(np.float32),
        backdrop=exposure**0.5 * rng.uniform(0.6, 1.05),
    )


def express(shape: np.ndarray, scene: Scene) -> np.ndarray:
    """Move brows, lids, lips and jaw; (68, 3)."""
    p = shape.copy()
    inner = 1 - np.clip(np.abs(p[17:27, 0]) / 0.66, 0, 1)
    p[17:27, 1] += -0.07 * scene.brow_lift + 0.09 * scene.frown * inner
    p[17:27, 0] *= 1 - 0.15 * scene.frown * inner
    for uppers, lowers, opening in (((37, 38), (41, 40), scene.lids[0]), ((43, 44), (47, 46), scene.lids[1])):
        p[lowers, 1] -= 0.012 * max(scene.smile, 0)
        p[uppers, :] = p[lowers, :] + (p[uppers, :] - p[lowers, :]) * (opening, opening, opening)
    corner = np.zeros(68)
    corner[[48, 54, 60, 64]], corner[[49, 53, 55, 59]] = 1, 0.45
    p[:, 0] += corner * scene.smile * 0.06 * np.sign(p[:, 0])
    p[:, 1] -= corner * scene.smile * 0.07
    p[:, 2] += corner * max(scene.smile, 0) * 0.05
    open_mouth(p, scene.gape)
    return p


def open_mouth(p: np.ndarray, gape: float) -> None:
    """Set the gap between the lips (in place): the lower lip and the jaw go down together."""
    closing = (p[65:68] - p[[63, 62, 61]]) * (0, 1, 0)
    drop = 0.42 * gape
    lower = np.array((0.55, 0.9, 1.0, 0.9, 0.55))  # points 55 to 59
    p[65:68] -= closing - np.array([(0, drop * w, 0) for w in (0.85, 1.0, 0.85)])
    p[55:60, 1] += lower * (drop - closing[1, 1])
    p[[48, 54, 60, 64], 1] += 0.25 * drop
    p[[48, 54, 60, 64], 0] *= 1 - 0.15 * gape
    p[61:64, 1] -= 0.04 * gape
    p[:17, 1] += 0.7 * drop * np.clip((p[:17, 1] - 0.05) / 0.7, 0, 1) ** 1.5


def rotation_of(angles: np.ndarray) -> np.ndarray:
    """Roll after pitch after yaw, (3, 3)."""
    (sy, sp, sr), (cy, cp, cr) = np.sin(angles), np.cos(angles)
    yaw = np.array([(cy, 0, sy), (0, 1, 0), (-sy, 0, cy)])
    pitch = np.array([(1, 0, 0), (0, cp, -sp), (0, sp, cp)])
    roll = np.array([(cr, -sr, 0), (sr, cr, 0), (0, 0, 1)])
    return roll @ pitch @ yaw


def slide_outline(shape: np.ndarray, yaw: float) -> None:
    """The visible edge of the cheek that turns away slides forward over the head (in place)."""
    away = shape[:17, 0] * np.sin(yaw) < 0
    edge = np.clip(np.abs(shape[:17, 0]) / 0.8, 0, 1) * np.abs(np.sin(yaw))
    shape[:17, 2] -= away * edge * 0.32
