"""Draws the pictures that `shapes` learns from, and writes their captions.

A picture shows one or two figures on a coloured ground. Figures are signed distance fields, because one formula
then gives the anti-aliased edge, the soft shadow and the bevel. `check.py` reads the pictures back and shares
nothing with this file on purpose.

    python draw.py sheet OUT.png        a contact sheet, to be looked at
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

SIZE = 64
FORMS = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "moon")
COLOURS = {
    "red": (219, 52, 58),
    "orange": (243, 136, 40),
    "yellow": (250, 212, 66),
    "green": (64, 163, 92),
    "blue": (52, 112, 214),
    "purple": (132, 78, 190),
    "pink": (246, 152, 190),
    "white": (247, 245, 240),
    "black": (40, 41, 50),
}


@dataclass(frozen=True)
class Figure:
    """What is named in a caption: a form and its colour."""

    form: str
    colour: str


@dataclass(frozen=True)
class Scene:
    """One picture's content. With two figures, the first is `left` of or `above` the second."""

    ground: str
    figures: tuple[Figure, ...]
    relation: str | None = None


def random_scene(rng: np.random.Generator) -> Scene:
    """Pairs are drawn more often than single figures: they are harder to learn."""
    ground = _pick(rng, list(COLOURS))
    colours = [name for name in COLOURS if name != ground]
    count = 1 if rng.random() < 0.4 else 2
    figures = tuple(Figure(_pick(rng, FORMS), _pick(rng, colours)) for _ in range(count))
    relation = _pick(rng, ("left", "above")) if count == 2 else None
    return Scene(ground, figures, relation)


def _pick(rng, values):
    return values[int(rng.integers(len(values)))]


# --- captions ---------------------------------------------------------------------------------------------------


def plain_caption(scene: Scene) -> str:
    """The canonical wording."""
    first = _noun(scene.figures[0], "a")
    if scene.relation is None:
        return f"{first} on {_article(scene.ground)} ground"
    where = {"left": "left of", "above": "above"}[scene.relation]
    return f"{first} {where} {_noun(scene.figures[1], 'a')} on {_article(scene.ground)} ground"


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of many wordings; sometimes one that leaves the ground open or holds a word that the vocabulary lacks."""
    article = "a" if rng.random() < 0.75 else ""
    nouns = [_noun(figure, article) for figure in scene.figures]
    subject = nouns[0] if scene.relation is None else _pair(scene.relation, nouns, rng)
    word = _pick(rng, ("ground", "background"))
    style = rng.random()
    if style < 0.06:
        text = subject
    elif style < 0.50:
        text = f"{subject} on {_article(scene.ground)} {word}"
    elif style < 0.65:
        text = f"{subject} on {scene.ground}"
    elif style < 0.90:
        text = f"{subject}, {scene.ground} {word}"
    else:
        text = f"{_article(scene.ground)} {word} with {subject}"
    if rng.random() < 0.04:
        words = text.split(" ")
        words.insert(int(rng.integers(len(words) + 1)), "unheard-of")
        text = " ".join(words)
    return text


def _pair(relation: str, nouns: list[str], rng) -> str:
    a, b = nouns
    if relation == "left":
        forward, backward = ("left of", "to the left of"), ("right of", "to the right of")
    else:
        forward, backward = ("above", "over"), ("below", "under")
    draw = rng.random()
    if draw < 0.12:
        return f"{a} and {b}"
    if draw < 0.56:
        return f"{a} {_pick(rng, forward)} {b}"
    return f"{b} {_pick(rng, backward)} {a}"


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _noun(figure: Figure, article: str) -> str:
    words = f"{figure.colour} {figure.form}"
    return _article(words) if article else words


def vocabulary() -> list[str]:
    """Every word that `caption` uses, in a fixed order."""
    glue = "a an on with and of to left right above below over under ground background ,".split()
    return glue + list(FORMS) + list(COLOURS)


# --- pictures ---------------------------------------------------------------------------------------------------

_AXIS = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE * 2 - 1
_X, _Y = np.meshgrid(_AXIS, _AXIS)
_PIXEL = 2.0 / SIZE


def draw(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """uint8 [64, 64, 3]."""
    image = _ground(scene.ground, rng)
    for figure, (x, y, radius) in zip(scene.figures, _places(scene.relation, rng)):
        _paint(image, figure, x, y, radius, rng)
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def _places(relation, rng):
    """Centre and radius of each figure, such that figures neither touch nor leave the picture.

    Little is left to chance here: what the caption does not say, the model has to learn as well.
    """
    jitter = rng.uniform(-1, 1, 4)
    if relation is None:
        return [(0.03 * jitter[0], 0.03 * jitter[1], rng.uniform(0.58, 0.64))]
    near, far = -0.47 + 0.015 * jitter[0], 0.47 + 0.015 * jitter[1]
    radii = rng.uniform(0.37, 0.40, 2)
    across = 0.03 * jitter[2:]
    if relation == "left":
        return [(near, across[0], radii[0]), (far, across[1], radii[1])]
    return [(across[0], near, radii[0]), (across[1], far, radii[1])]


def _colour(name: str, rng) -> np.ndarray:
    return np.float32(COLOURS[name]) / 255 + rng.uniform(-0.018, 0.018, 3).astype(np.float32)


def _ground(name: str, rng) -> np.ndarray:
    """A gentle light from above, and corners a little darker."""
    light = 1.03 - 0.05 * (_Y + 1) / 2 - 0.05 * (_X**2 + _Y**2)
    lift = 0.03 * (1 - _Y) / 2 if name == "black" else 0.0
    return _colour(name, rng) * light[..., None] + np.float32(lift)[..., None]


def _paint(image, figure, x, y, radius, rng):
    """Shadow, body with a soft light from the upper left, and a bevelled edge, in place."""
    angle = rng.uniform(-0.06, 0.06)
    distance = _field(figure.form, _X - x, _Y - y, radius, angle)

    shadow = _field(figure.form, _X - x - 0.04, _Y - y - 0.07, radius, angle)
    image *= 1 - 0.26 * _smooth((0.10 - shadow) / 0.20)[..., None]

    cover = np.clip(0.5 - distance / _PIXEL, 0, 1)[..., None]
    slope_y, slope_x = np.gradient(distance, _PIXEL)
    facing = np.clip(-(0.55 * slope_x + 0.83 * slope_y), -1, 1)
    rim = np.exp(-((distance / 0.055) ** 2)) * facing
    glow = 0.07 * (-(_X - x) * 0.55 - (_Y - y) * 0.83) / radius
    body = _colour(figure.colour, rng)[None, None] * (1 + glow + 0.10 * rim)[..., None]
    body = body + (0.05 * np.clip(rim, 0, 1))[..., None]
    image += cover * (body - image)


def _smooth(t):
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _field(form: str, x, y, radius, angle):
    """Signed distance in picture units, negative inside. `y` points down."""
    c, s = np.float32(np.cos(angle) / radius), np.float32(np.sin(angle) / radius)
    u, v = c * x + s * y, c * y - s * x
    return _FIELDS[form](u, v) * np.float32(radius)


def _circle(u, v):
    return np.hypot(u, v) - 0.95


def _ring(u, v):
    return np.abs(np.hypot(u, v) - 0.74) - 0.24


def _moon(u, v):
    u = u - 0.16
    return np.maximum(np.hypot(u, v) - 0.96, 0.74 - np.hypot(u - 0.46, v + 0.10))


def _heart(u, v):
    """Inigo Quilez, "2D distance functions": heart."""
    a, b = np.abs(u) / 1.62, (0.86 - v) / 1.62
    lobe = np.hypot(a - 0.25, b - 0.75) - np.float32(np.sqrt(2) / 4)
    half = 0.5 * np.maximum(a + b, 0)
    low = np.sqrt(np.minimum(a**2 + (b - 1) ** 2, (a - half) ** 2 + (b - half) ** 2)) * np.sign(a - b)
    return np.where(a + b > 1, lobe, low) * 1.62


def _polygon(points, rounding):
    """A field for a closed polygon (Inigo Quilez, "2D distance functions": polygon)."""
    points = np.float32(points)
    edges = list(zip(points, np.roll(points, 1, axis=0)))

    def field(u, v):
        square = np.full_like(u, np.inf)
        sign = np.ones_like(u)
        for (ax, ay), (bx, by) in edges:
            ex, ey = bx - ax, by - ay
            wx, wy = u - ax, v - ay
            t = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
            square = np.minimum(square, (wx - ex * t) ** 2 + (wy - ey * t) ** 2)
            above, below, turn = v >= ay, v < by, ex * wy > ey * wx
            sign = np.where((above & below & turn) | (~above & ~below & ~turn), -sign, sign)
        return sign * np.sqrt(square) - np.float32(rounding)

    return field


def _spokes(count, radii):
    turns = np.arange(count) / count * 2 * np.pi - np.pi / 2
    return [(radii[i % len(radii)] * np.cos(t), radii[i % len(radii)] * np.sin(t)) for i, t in enumerate(turns)]


def _plus(arm, half):
    corner = [(half, -arm), (half, -half), (arm, -half)]
    turn = lambda p, k: p if k == 0 else turn((-p[1], p[0]), k - 1)  # noqa: E731
    return [turn(p, k) for k in range(4) for p in corner]


_FIELDS = {
    "circle": _circle,
    "ring": _ring,
    "moon": _moon,
    "heart": _heart,
    "square": _polygon([(-0.74, -0.74), (0.74, -0.74), (0.74, 0.74), (-0.74, 0.74)], 0.08),
    "triangle": _polygon([(x, y + 0.16) for x, y in _spokes(3, (1.02,))], 0.07),
    "star": _polygon([(x, y + 0.05) for x, y in _spokes(10, (1.02, 0.44))], 0.05),
    "cross": _polygon(_plus(0.90, 0.25), 0.06),
}


def sheet(images, columns: int, scale: int = 1, gap: int = 4) -> np.ndarray:
    """Pictures side by side on one light page."""
    rows = -(-len(images) // columns)
    cell = SIZE * scale + gap
    page = np.full((rows * cell + gap, columns * cell + gap, 3), 250, np.uint8)
    for i, image in enumerate(images):
        y, x = gap + i // columns * cell, gap + i % columns * cell
        page[y : y + SIZE * scale, x : x + SIZE * scale] = image.repeat(scale, 0).repeat(scale, 1)
    return page


def main():
    from PIL import Image

    rng = np.random.default_rng(1)
    scenes = [random_scene(rng) for _ in range(60)]
    Image.fromarray(sheet([draw(s, rng) for s in scenes], 10, 2)).save(sys.argv[2])
    for scene in scenes[:20]:
        print(caption(scene, rng))


if __name__ == "__main__":
    main()
