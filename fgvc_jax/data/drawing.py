"""How a sketchbird is drawn: parts and their variants, geometry, scenes, the bird, its masks.

A scene is what a random generator draws, and no draw of it knows the species: any code can be drawn
into any scene.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "crown": ("smooth-crowned", "crested", "plumed", "spiky"),
    "eye": ("plain-faced", "spectacled", "white-browed", "masked"),
    "bill_shape": ("finch", "snipe", "falcon", "curlew"),
    "bill_colour": ("yellow-billed", "red-billed", "black-billed", "blue-billed"),
    "breast": ("plain-breasted", "streaked", "spotted", "banded"),
    "wing": ("plain-winged", "bar-winged", "double-barred", "patch-winged"),
    "tail": ("square-tailed", "fork-tailed", "pin-tailed", "fan-tailed"),
    "legs": ("yellow-legged", "red-legged", "black-legged", "blue-legged"),
}
"""Parts and the names of their variants, indexed by the code."""

PARTS = tuple(VARIANTS)

_SUPERSAMPLING = 3


# ------------------------------------------------------------------------------------- geometry

_ANGLES = np.linspace(0, 2 * math.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


@dataclass(frozen=True)
class _Frame:
    """An affine map from local coordinates (x forward, y down, body length 1) to canvas pixels."""

    matrix: np.ndarray
    origin: np.ndarray

    def points(self, local: ArrayLike) -> np.ndarray:
        return np.asarray(local, float) @ self.matrix.T + self.origin

    def local(self, points: np.ndarray) -> np.ndarray:
        return np.linalg.solve(self.matrix, points - self.origin)

    def inner(self, origin: ArrayLike, angle: float = 0.0, flip: bool = False) -> _Frame:
        """The frame of a limb at `origin`, turned by `angle` (radians) and perhaps mirrored."""
        c, s, m = math.cos(angle), math.sin(angle), -1.0 if flip else 1.0
        return _Frame(self.matrix @ np.array([[c * m, -s], [s * m, c]]), self.points(origin))


def _ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    return _CIRCLE * (rx, ry) + (x, y)


def _stroke(points: ArrayLike, width: float, taper: float = 1.0) -> np.ndarray:
    """The outline of a line through `points`, `width` wide at first, `taper * width` at last."""
    line = np.asarray(points, float)
    direction = np.gradient(line, axis=0)
    normal = direction[:, ::-1] * (-1, 1) / np.linalg.norm(direction, axis=1, keepdims=True)
    half = normal * np.linspace(width / 2, taper * width / 2, len(line))[:, None]
    return np.concatenate([line + half, (line - half)[::-1]])


class _Canvas:
    """A picture, and on demand, in parallel, the number of the part that is on top (0 = none)."""

    def __init__(self, background: Image.Image, with_parts: bool):
        self.image = background
        self._draw = ImageDraw.Draw(background)
        self.parts = Image.new("L", background.size) if with_parts else None
        self._draw_parts = self.parts and ImageDraw.Draw(self.parts)

    def fill(self, frame: _Frame, outline: ArrayLike, colour: np.ndarray, part: str = "") -> None:
        """Paints the polygon `outline` (n,2), given in `frame`; without a part it hides parts."""
        corners = frame.points(outline).ravel().tolist()
        self._draw.polygon(corners, fill=tuple(int(c) for c in colour))
        if self._draw_parts:
            self._draw_parts.polygon(corners, fill=PARTS.index(part) + 1 if part else 0)


# --------------------------------------------------------------------------------------- scenes

_WHITE = np.array((242, 238, 228))
_DARK = np.array((38, 30, 30))
_PAINTS = np.array(((238, 188, 40), (205, 48, 40), (34, 32, 36), (84, 140, 205)))
_PLUMAGES = np.array(
    [(150, 112, 78), (128, 132, 138), (172, 140, 84)]
    + [(112, 132, 84), (98, 124, 150), (170, 104, 80)]
)
_SCENERIES = np.array(
    [(110, 150, 90), (160, 190, 215), (190, 170, 130)]
    + [(80, 105, 70), (205, 200, 190), (130, 115, 95)]
)
_GROUND = 0.68
_LEAVES = np.array(((70, 115, 50), (110, 140, 55), (50, 85, 50), (165, 120, 50), (130, 70, 45)))
_WOOD = np.array(((105, 80, 58), (80, 66, 56), (140, 116, 88)))


def _pick(rng: np.random.Generator, palette: np.ndarray, spread: float) -> np.ndarray:
    return palette[rng.integers(len(palette))] + rng.uniform(-spread, spread, 3)


@dataclass(frozen=True)
class _Pose:
    """Where a bird stands and how: all that varies between two images of one species."""

    frame: _Frame
    tilt: float
    head: np.ndarray
    nod: float
    looks_back: bool
    plumpness: float
    tail: float
    legs: np.ndarray
    slope: float
    perch: np.ndarray
    plumage: np.ndarray
    tints: np.ndarray


def _pose(rng: np.random.Generator, pixels: int) -> _Pose:
    scale = pixels * rng.uniform(0.37, 0.48)
    facing, turn, roll = rng.choice((-1, 1)), rng.uniform(0.75, 1.0), rng.uniform(-0.12, 0.12)
    c, s = math.cos(roll), math.sin(roll)
    matrix = scale * np.array([[c, -s], [s, c]]) @ np.diag((facing * turn, 1.0))
    centre = pixels * (0.5 + rng.uniform(-0.07, 0.07, 2))
    return _Pose(
        frame=_Frame(matrix, centre),
        tilt=rng.uniform(-0.65, 0.05),
        head=np.array((0.42, -0.27)) + rng.uniform(-0.05, 0.05, 2),
        nod=rng.uniform(-0.3, 0.35),
        looks_back=rng.random() < 0.12,
        plumpness=rng.uniform(0.30, 0.37),
        tail=rng.uniform(-0.35, 0.35),
        legs=rng.uniform(-1, 1, 2),
        slope=rng.uniform(-0.25, 0.25),
        perch=_pick(rng, _WOOD, 12),
        plumage=_pick(rng, _PLUMAGES, 18) * rng.uniform(0.85, 1.15),
        tints=rng.uniform(-14, 14, (2, 3)),
    )


def _background(rng: np.random.Generator, pixels: int) -> Image.Image:
    """Blurred scenery: a coarse grid of two colours, smoothly enlarged."""
    near, far = _pick(rng, _SCENERIES, 25), _pick(rng, _SCENERIES, 25)
    grid = rng.integers(3, 9)
    blend = np.clip(np.linspace(0, 1, grid)[:, None] + rng.normal(0, 0.45, (grid, grid)), 0, 1)
    colours = far + (near - far) * blend[..., None] + rng.normal(0, 9, (grid, grid, 3))
    coarse = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    return coarse.resize((pixels, pixels), Image.Resampling.BICUBIC)


def _twig(rng: np.random.Generator, canvas: _Canvas, world: _Frame) -> None:
    start, angle = rng.uniform(-0.2, 1.2, 2), rng.uniform(-math.pi, math.pi)
    steps = np.linspace(-1.2, 1.2, 5)[:, None] * (math.cos(angle), math.sin(angle))
    line = start + steps + rng.uniform(-0.03, 0.03, (5, 2))
    canvas.fill(world, _stroke(line, rng.uniform(0.01, 0.035)), _pick(rng, _WOOD, 12))


def _leaf(rng: np.random.Generator, canvas: _Canvas, world: _Frame, length: float) -> None:
    leaf = world.inner(rng.uniform(0.05, 0.95, 2), rng.uniform(-math.pi, math.pi))
    x = np.linspace(0, 1, 7)
    rim = np.stack([x * length, 0.28 * length * np.sin(math.pi * x)], axis=1)
    colour = _pick(rng, _LEAVES, 18)
    canvas.fill(leaf, np.concatenate([rim, rim[::-1] * (1, -1)]), colour)
    canvas.fill(leaf, np.concatenate([rim, rim[::-1] * (1, 0)]), colour * 0.86)


def _clutter(
    rng: np.random.Generator,
    canvas: _Canvas,
    world: _Frame,
    *,
    twigs: int,
    leaves: int,
    length: tuple[float, float],
) -> None:
    """At most so many twigs and leaves (of a length within these bounds), anywhere."""
    for _ in range(rng.integers(0, twigs, endpoint=True)):
        _twig(rng, canvas, world)
    for _ in range(rng.integers(0, leaves, endpoint=True)):
        _leaf(rng, canvas, world, rng.uniform(*length))


def _light(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Uneven, slightly coloured light, haze and sensor noise."""
    size = image.shape[0]
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.3)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    gain = 1 + strength * (math.cos(angle) * ramp + math.sin(angle) * ramp[:, None])
    tint = rng.uniform(0.78, 1.15) * rng.uniform(0.92, 1.08, 3)
    lit = image * (gain[..., None] * tint.astype(np.float32))
    haze = rng.uniform(0, 0.2)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(2, 6)
    return np.clip(lit * (1 - haze) + 160 * haze + noise, 0, 255).astype(np.uint8)


# ----------------------------------------------------------------------------------------- bird


_TAILS = (
    [(0.1, -0.11), (-0.46, -0.12), (-0.46, 0.12), (0.1, 0.11)],
    [(0.1, -0.1), (-0.64, -0.25), (-0.3, 0), (-0.64, 0.25), (0.1, 0.1)],
    [(0.1, -0.12), (-0.3, -0.05), (-0.82, 0), (-0.3, 0.05), (0.1, 0.12)],
    [(0.1, -0.1), (-0.36, -0.3), (-0.5, -0.15), (-0.53, 0), (-0.5, 0.15), (-0.36, 0.3), (0.1, 0.1)],
)
_WING = [(0.2, -0.05), (0.1, -0.15), (-0.2, -0.16), (-0.68, 0.03), (-0.3, 0.17), (0.05, 0.16)]
_WING_MARKS: tuple[Sequence[ArrayLike], ...] = (
    [],
    [_stroke([(-0.1, -0.15), (-0.02, 0), (-0.08, 0.16)], 0.08)],
    [_stroke([(x - 0.06, -0.15), (x, 0), (x - 0.06, 0.16)], 0.075) for x in (0.06, -0.16)],
    [_ellipse(-0.25, 0.02, 0.15, 0.10)],
)
_BREAST_MARKS: tuple[Sequence[ArrayLike], ...] = (
    [],
    [_stroke([(x, -0.13), (x, 0.14)], 0.05) for x in (-0.19, -0.095, 0, 0.095, 0.19)],
    [_ellipse(x, y, 0.042, 0.042) for x in (-0.17, 0, 0.17) for y in (-0.12, 0.12)]
    + [_ellipse(x, 0, 0.042, 0.042) for x in (-0.1, 0.07, 0.24)],
    [_stroke([(0.11, -0.2), (0.03, 0), (0.11, 0.2)], 0.14)],
)
_CAP = [(0.24 * math.cos(a), 0.24 * math.sin(a)) for a in np.linspace(-0.5, -2.75, 9)]
_CRESTS: tuple[Sequence[ArrayLike], ...] = (
    [],
    [[(0.05, -0.2), (-0.16, -0.3), (-0.46, -0.34), (-0.2, -0.08)]],
    [_stroke([(-0.02, -0.2), (0, -0.36), (0.1, -0.46), (0.22, -0.44)], 0.06, taper=2.0)],
    [
        [(x - 0.06, y), (1.5 * x, y - 0.22), (x + 0.06, y)]
        for x, y in ((-0.13, -0.16), (0, -0.2), (0.13, -0.16))
    ],
)
_BILLS = (
    [(0.17, -0.13), (0.42, 0.03), (0.17, 0.14)],
    [(0.18, -0.08), (0.72, 0), (0.72, 0.03), (0.18, 0.09)],
    [(0.17, -0.13), (0.34, -0.11), (0.45, 0), (0.42, 0.19), (0.34, 0.07), (0.17, 0.1)],
    _stroke([(0.18, 0), (0.36, -0.01), (0.54, 0.08), (0.64, 0.26)], 0.15, taper=0.3),
)
_EYE = (0.08, -0.04)
_EYE_MARKS: tuple[list[tuple[np.ndarray, np.ndarray]], ...] = (
    [],
    [(_ellipse(*_EYE, 0.12, 0.12), _WHITE)],
    [(_stroke([(0.21, -0.12), (0.03, -0.16), (-0.2, -0.06)], 0.075), _WHITE)],
    [(_stroke([(0.21, 0), (0.05, -0.05), (-0.22, 0)], 0.12), _DARK)],
)
"""Outlines of the variants, in the frame of the limb that carries them."""


def _draw_legs(canvas: _Canvas, body: _Frame, pose: _Pose, colour: np.ndarray) -> None:
    for side, stride in enumerate(pose.legs):
        hip = pose.frame.local(body.points((-0.08 + 0.14 * side, 0.6 * pose.plumpness)))
        foot = np.array((hip[0] + 0.1 * stride, _GROUND - 0.03))
        shade = colour * (0.85 + 0.15 * side)
        canvas.fill(pose.frame, _stroke([hip, foot], 0.11, taper=0.8), shade, "legs")
        for toe in ((0.13, 0.02), (-0.09, 0.02)):
            canvas.fill(pose.frame, _stroke([foot, foot + toe], 0.075), shade, "legs")


def _draw_head(canvas: _Canvas, head: _Frame, pose: _Pose, code: Mapping[str, int]) -> None:
    canvas.fill(head, _ellipse(0, 0, 0.245, 0.235), pose.plumage)
    for outline in (*_CRESTS[code["crown"]], _CAP):
        canvas.fill(head, outline, 0.5 * pose.plumage, "crown")
    bill_colour = _PAINTS[code["bill_colour"]] + pose.tints[1]
    canvas.fill(head, _BILLS[code["bill_shape"]], bill_colour, "bill_shape")
    for outline, colour in _EYE_MARKS[code["eye"]]:
        canvas.fill(head, outline, colour, "eye")
    canvas.fill(head, _ellipse(*_EYE, 0.06, 0.06), 0.5 * _DARK, "eye")
    canvas.fill(head, _ellipse(_EYE[0] + 0.02, _EYE[1] - 0.02, 0.02, 0.02), _WHITE, "eye")


def _draw_bird(canvas: _Canvas, pose: _Pose, code: Mapping[str, int]) -> None:
    plumage = pose.plumage
    dark, pale = 0.62 * plumage, 0.45 * plumage + 0.55 * _WHITE
    body = pose.frame.inner((0, 0), pose.tilt)
    tail = body.inner((-0.42, 0.02), pose.tail)
    breast = body.inner((0.19, 0.34 * pose.plumpness), -0.6)
    wing = body.inner((-0.03, -0.07), -0.04)
    level = pose.frame.inner((0, 0), pose.nod, flip=pose.looks_back)
    head = _Frame(1.15 * level.matrix, body.points(pose.head))

    slope = (0, pose.slope)
    perch = _stroke([np.subtract((-1.6, _GROUND), slope), np.add((1.6, _GROUND), slope)], 0.09)
    canvas.fill(pose.frame, perch, pose.perch)
    canvas.fill(tail, _TAILS[code["tail"]], dark, "tail")
    _draw_legs(canvas, body, pose, _PAINTS[code["legs"]] + pose.tints[1])
    canvas.fill(body, _ellipse(0, 0, 0.5, pose.plumpness), plumage)
    canvas.fill(breast, _ellipse(0, 0, 0.31, 0.66 * pose.plumpness), pale, "breast")
    for mark in _BREAST_MARKS[code["breast"]]:
        canvas.fill(breast, mark, _DARK + pose.tints[0], "breast")
    canvas.fill(body, _stroke([np.array((0.15, -0.12)), pose.head], 0.42), plumage)
    canvas.fill(wing, _WING, dark, "wing")
    for mark in _WING_MARKS[code["wing"]]:
        canvas.fill(wing, mark, _WHITE + pose.tints[0], "wing")
    _draw_head(canvas, head, pose, code)


def draw_bird(
    rng: np.random.Generator, code: Mapping[str, int], *, size: int, with_masks: bool = False
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draws the scene that `rng` stands for with a bird of species `code` (part -> variant) in it.

    Returns the image (size,size,3) uint8 and, if asked for, the mask (size,size) bool of each part:
    the pixels of which at least half show it, all False where it is hidden or out of the picture.
    A part is the region that carries its variants, the plain one too; the shape and the colour of
    the bill share theirs, the other parts are disjoint.
    """
    pixels = size * _SUPERSAMPLING
    world = _Frame(np.eye(2) * pixels, np.zeros(2))
    pose = _pose(rng, pixels)
    canvas = _Canvas(_background(rng, pixels), with_masks)
    _clutter(rng, canvas, world, twigs=3, leaves=5, length=(0.10, 0.22))
    _draw_bird(canvas, pose, code)
    _clutter(rng, canvas, world, twigs=2, leaves=5, length=(0.15, 0.33))
    image = np.asarray(canvas.image.reduce(_SUPERSAMPLING), np.float32)
    return _light(rng, image), _masks(canvas) if with_masks else {}


def _masks(canvas: _Canvas) -> dict[str, np.ndarray]:
    fine = np.asarray(canvas.parts)
    size, s = fine.shape[0] // _SUPERSAMPLING, _SUPERSAMPLING
    cells = fine.reshape(size, s, size, s).transpose(1, 3, 0, 2).reshape(s * s, size, size)
    masks = {
        part: np.count_nonzero(cells == number, axis=0) * 2 >= s * s
        for number, part in enumerate(PARTS, start=1)
    }
    return masks | {"bill_colour": masks["bill_shape"]}
