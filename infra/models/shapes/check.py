"""Reads a picture of `shapes` back: which figures it shows, in which colours, where, on which ground.

Independent of what it judges: no neural network, and nothing of `draw.py` but the words. It segments by colour and
tells the forms apart by what is measured on their outlines.

    python check.py            measures itself on drawn pictures, whose content is known
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Representative colours in CIELAB (L, a, b), as a person would place the words; not the drawer's values.
NAMED = {
    "red": (47, 64, 40),
    "orange": (67, 37, 64),
    "yellow": (86, 2, 68),
    "green": (60, -42, 24),
    "blue": (48, 14, -58),
    "purple": (43, 45, -51),
    "pink": (73, 40, -3),
    "white": (96, 0, 2),
    "black": (17, 1, -5),
}
SRGB_TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
SMALLEST = 60  # pixels of a figure; what is smaller is dirt


@dataclass(frozen=True)
class Seen:
    """A figure as it was found; `x` and `y` are its centre in pixels."""

    form: str
    colour: str
    x: float
    y: float


@dataclass(frozen=True)
class Reading:
    ground: str
    figures: tuple[Seen, ...]


def read(image: np.ndarray) -> Reading:
    """`image`: uint8 [H, W, 3]."""
    lab = to_lab(image)
    border = np.concatenate([lab[:2].reshape(-1, 3), lab[-2:].reshape(-1, 3), lab[:, :2].reshape(-1, 3)])
    border = np.concatenate([border, lab[:, -2:].reshape(-1, 3)])
    ground = np.median(border, axis=0)
    figures = []
    for mask in components(_unlike(lab, ground) > 20):
        if mask.sum() < SMALLEST:
            continue
        core = erode(mask)
        colour = np.median(lab[core if core.any() else mask], axis=0)
        mask = _refine(lab, mask, ground, colour)
        rows, columns = np.nonzero(mask)
        if len(rows) >= SMALLEST:
            figures.append(Seen(form_of(mask), name_of(colour), columns.mean(), rows.mean()))
    return Reading(name_of(ground), tuple(figures))


def agrees(image: np.ndarray, ground: str, figures, relation: str | None) -> bool:
    """Whether the picture shows exactly this. `figures`: (form, colour) pairs, the first one `left` or `above`."""
    seen = read(image)
    if seen.ground != ground or len(seen.figures) != len(figures):
        return False
    found = seen.figures
    if relation is not None:
        axis = "x" if relation == "left" else "y"
        found = sorted(found, key=lambda figure: getattr(figure, axis))
        dx, dy = abs(found[0].x - found[1].x), abs(found[0].y - found[1].y)
        if (dx if relation == "left" else dy) < (dy if relation == "left" else dx):
            return False
    return [(figure.form, figure.colour) for figure in found] == list(figures)


# --- colour -----------------------------------------------------------------------------------------------------


def to_lab(image: np.ndarray) -> np.ndarray:
    """sRGB to CIELAB with white point D65 (IEC 61966-2-1; CIE 15)."""
    value = image.astype(np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array(SRGB_TO_XYZ).T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def name_of(lab) -> str:
    """The nearest word; hue says more than lightness, which light and shadow change."""
    weights = np.array([0.6, 1.0, 1.0])
    return min(NAMED, key=lambda word: np.sum((weights * (np.asarray(lab) - NAMED[word])) ** 2))


def _unlike(lab, ground):
    """Distance from the ground. A shadow only darkens, so darkening counts less than any other change."""
    delta = lab - ground
    lightness = np.where(delta[..., 0] < 0, 0.55, 0.8) * delta[..., 0]
    # A shadow on a strong colour also takes saturation along: forgive change along the ground's own hue.
    chroma = math.hypot(ground[1], ground[2])
    if chroma > 12:
        along = (delta[..., 1] * ground[1] + delta[..., 2] * ground[2]) / chroma
        across = (delta[..., 1] * -ground[2] + delta[..., 2] * ground[1]) / chroma
        fading = (along < 0) & (delta[..., 0] < 0)
        along = np.where(fading, 0.5 * along, along)
        return np.sqrt(lightness**2 + along**2 + across**2)
    return np.sqrt(lightness**2 + delta[..., 1] ** 2 + delta[..., 2] ** 2)


def _refine(lab, mask, ground, colour):
    """The half-way line between the two colours, near the first guess."""
    axis = colour - ground
    share = (lab - ground) @ axis / (axis @ axis)
    near = dilate(dilate(mask))
    found = components(near & (share > 0.5))
    return max(found, key=np.sum) if found else mask


# --- areas ------------------------------------------------------------------------------------------------------


def components(mask: np.ndarray) -> list[np.ndarray]:
    """Connected areas (four neighbours), by flood fill."""
    left, found = mask.copy(), []
    while left.any():
        start = tuple(np.argwhere(left)[0])
        stack, area = [start], np.zeros_like(mask)
        left[start] = False
        while stack:
            y, x = stack.pop()
            area[y, x] = True
            for p in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= p[0] < mask.shape[0] and 0 <= p[1] < mask.shape[1] and left[p]:
                    left[p] = False
                    stack.append(p)
        found.append(area)
    return found


def erode(mask):
    return ~dilate(~mask)


def dilate(mask):
    wide = np.pad(mask, 1)
    return mask | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]


def holes(mask) -> int:
    """Pixels of areas that the figure encloses."""
    outside = components(~np.pad(mask, 1))
    return int(sum(area.sum() for area in outside if not area[0, 0]))


def hull(points: np.ndarray) -> np.ndarray:
    """Convex hull (Andrew's monotone chain)."""
    points = sorted(map(tuple, points))
    halves = []
    for order in (points, points[::-1]):
        half = []
        for p in order:
            while len(half) >= 2 and _turn(half[-2], half[-1], p) <= 0:
                half.pop()
            half.append(p)
        halves += half[:-1]
    return np.array(halves, float)


def _turn(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def area_of(polygon) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def corners_of(mask) -> np.ndarray:
    """The corner points of all pixels, so that an area has its true size."""
    rows, columns = np.nonzero(mask)
    return np.unique(np.concatenate([np.stack([columns + i, rows + j], 1) for i in (0, 1) for j in (0, 1)]), axis=0)


# --- form -------------------------------------------------------------------------------------------------------


def describe(mask) -> dict[str, float]:
    """What is measured: all are free of position and scale, and nearly of rotation."""
    area = float(mask.sum())
    outline = hull(corners_of(mask))
    hull_area = area_of(outline)
    rows, columns = np.nonzero(mask)
    centre = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    radii = _hull_radii(mask, centre)
    spectrum = np.abs(np.fft.rfft(radii)) / len(radii) / radii.mean()
    hull_centre = _centroid(outline)
    return {
        "hole": holes(mask) / area,
        "solidity": area / hull_area,
        "roundness": hull_area / (math.pi * _enclosing_radius(outline) ** 2),
        "lean": float(np.linalg.norm(centre - hull_centre) / math.sqrt(hull_area)),
        "k3": float(spectrum[3]),
        "k4": float(spectrum[4]),
        "k5": float(spectrum[5]),
    }


def _hull_radii(mask, centre, turns=72):
    """Distance from the centre to the furthest pixel of the figure, for each direction."""
    radii = np.zeros(turns)
    steps = np.arange(0, 64, 0.5)
    for i in range(turns):
        angle = 2 * math.pi * i / turns
        x = np.floor(centre[0] + steps * math.cos(angle)).astype(int)
        y = np.floor(centre[1] + steps * math.sin(angle)).astype(int)
        inside = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
        hit = np.zeros_like(inside)
        hit[inside] = mask[y[inside], x[inside]]
        radii[i] = steps[hit].max() if hit.any() else 0.5
    return radii


def _centroid(polygon):
    following = np.roll(polygon, -1, axis=0)
    cross = polygon[:, 0] * following[:, 1] - following[:, 0] * polygon[:, 1]
    return ((polygon + following) * cross[:, None]).sum(0) / (3 * cross.sum())


def _enclosing_radius(points):
    """Smallest enclosing circle (Badoiu and Clarkson's iteration; exact enough here)."""
    centre = points.mean(0)
    for i in range(1, 200):
        far = points[np.argmax(((points - centre) ** 2).sum(1))]
        centre = centre + (far - centre) / (i + 1)
    return math.sqrt(((points - centre) ** 2).sum(1).max())


def form_of(mask) -> str:
    return decide(describe(mask))


def decide(d: dict[str, float]) -> str:
    """From the plainest mark to the finest; what lies between two forms is `unclear`."""
    if d["hole"] > 0.08:
        return "ring" if d["roundness"] > 0.86 else "unclear"
    if d["solidity"] < 0.82:
        if d["lean"] > 0.07:
            return "moon" if d["k3"] > 0.10 else "unclear"
        if d["k5"] > 0.09 and d["k4"] < 0.06:
            return "star"
        return "cross" if d["k4"] > 0.11 and d["k5"] < 0.06 else "unclear"
    if d["k3"] > 0.105:
        return "triangle" if d["roundness"] < 0.60 else "unclear"
    if d["k3"] > 0.04:
        return "heart" if 0.62 < d["roundness"] < 0.85 else "unclear"
    if d["k4"] > 0.04:
        return "square" if d["roundness"] < 0.76 else "unclear"
    return "circle" if d["roundness"] > 0.86 else "unclear"


def main():
    """The checker's own error rate, and that it does say no: to the same pictures with one word changed."""
    import draw

    rng, right, fooled, count = np.random.default_rng(7), 0, 0, 500
    for _ in range(count):
        scene = draw.random_scene(rng)
        image = draw.draw(scene, rng)
        figures = [(figure.form, figure.colour) for figure in scene.figures]
        good = agrees(image, scene.ground, figures, scene.relation)
        right += good
        if not good:
            print("misread:", draw.plain_caption(scene), "->", read(image))
        (form, colour), *others = figures
        others_form = draw.FORMS[(draw.FORMS.index(form) + 1 + rng.integers(7)) % 8]
        fooled += agrees(image, scene.ground, [(others_form, colour), *others], scene.relation)
    print(f"read {right} of {count} drawn pictures right; accepted {fooled} of {count} with a wrong form")


if __name__ == "__main__":
    main()
