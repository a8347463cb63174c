"""Drawn pictures and clips with masks and captions, and nothing wrong with them.

Textured grounds with things that have strong edges of their own, subjects of any colour (some
hardly stand out), masks as people make them (soft, wobbling, a little too wide).
"""

from dataclasses import dataclass

import cv2
import numpy as np

TRIGGER = "sks"
SUBJECTS = ("person", "woman", "man", "dog", "robot", "toy", "cat", "dancer")
LOOKS = ("in a red coat", "with curly hair", "in blue jeans", "with a scarf", "in striped socks")
DOES = (
    *("smiling", "looking up", "seen from the side", "leaning on one leg", "at rest", "in profile"),
    *("holding a ball in the left hand", "with a hat on the head", "caught in mid jump"),
)
SHOTS = ("photo", "close-up", "full body", "soft light", "sharp focus", "film grain", "portrait")


@dataclass
class Drawing:
    """One clip in the making."""

    name: str
    picture: np.ndarray  # H W 3
    mask: np.ndarray  # H W, uint8
    caption: str


def noise(rng, height, width, octaves=5, persistence=0.6):
    """Fractal noise in [0, 1]."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cells = 2 ** (octave + 1)
        grid = rng.rand(cells + 1, cells + 1).astype(np.float32)
        total += (
            cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * persistence**octave
        )
    total -= total.min()
    return total / max(float(total.max()), 1e-6)


def colour(rng):
    return rng.uniform(15, 240, 3).astype(np.float32)


def ground(rng, height, width):
    """A background: noise, bricks, stripes, clutter, a room or a plain wall."""
    first, second = colour(rng), colour(rng)
    kind = rng.choice(["noise", "bricks", "stripes", "clutter", "room", "plain"])
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    mix = noise(rng, height, width, octaves=rng.randint(3, 8))
    if kind == "bricks":
        high, wide = rng.randint(10, 30), rng.randint(20, 60)
        shift = (rows // high % 2) * wide / 2
        line = (rows % high < 2) | ((columns + shift) % wide < 2)
        mix = 0.8 * line + 0.2 * mix
    elif kind == "stripes":
        angle, step = rng.uniform(0, np.pi), rng.uniform(8, 50)
        wave = np.sin((columns * np.cos(angle) + rows * np.sin(angle)) / step * 2 * np.pi)
        mix = 0.7 * (wave > 0) + 0.3 * mix
    elif kind == "plain":
        mix = mix * rng.uniform(0.02, 0.2)
    elif kind == "room":
        mix = 0.25 * mix + 0.5 * (rows > height * rng.uniform(0.5, 0.8))
    picture = first + (second - first) * mix[..., None]
    for _ in range(rng.randint(4, 14) if kind in ("clutter", "room") else rng.randint(0, 3)):
        thing(rng, picture)
    return picture


def thing(rng, picture):
    """A box, a disc or a line somewhere in the background."""
    height, width = picture.shape[:2]
    x, y = int(rng.randint(width)), int(rng.randint(height))
    size = int(rng.uniform(0.03, 0.2) * min(height, width))
    paint = tuple(map(float, colour(rng)))
    shape = rng.randint(3)
    if shape == 0:
        cv2.rectangle(picture, (x, y), (x + size, y + int(size * rng.uniform(0.4, 2))), paint, -1)
    elif shape == 1:
        cv2.circle(picture, (x, y), size // 2 + 1, paint, -1, cv2.LINE_AA)
    else:
        end = (int(rng.randint(width)), int(rng.randint(height)))
        cv2.line(picture, (x, y), end, paint, int(rng.randint(1, 6)), cv2.LINE_AA)


def blob(rng, height, width, x, y, radius):
    """A lumpy outline around a point, in [0, 1]: a body, a head, limbs."""
    canvas = np.zeros((height, width), np.float32)
    turns = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    for part in range(rng.randint(2, 5)):
        away = 0 if part == 0 else radius * rng.uniform(0.5, 0.9)
        angle = rng.uniform(0, 2 * np.pi)
        size = radius * (0.75 if part == 0 else rng.uniform(0.25, 0.5))
        wobble = 1 + sum(
            rng.uniform(0, 0.12) * np.sin(k * turns + rng.uniform(0, 6.28)) for k in (2, 3, 5)
        )
        px = x + away * np.cos(angle) + size * wobble * np.cos(turns) * rng.uniform(0.7, 1.2)
        py = y + away * np.sin(angle) + size * wobble * np.sin(turns) * rng.uniform(0.8, 1.3)
        cv2.fillPoly(canvas, [np.stack([px, py], -1).round().astype(np.int32)], 1.0, cv2.LINE_8)
    return canvas


def subject(rng, height, width, share=None, place=None):
    """Paint and alpha of a subject that covers about 5 to 45 % of the picture."""
    share = rng.uniform(0.06, 0.4) if share is None else share
    radius = np.sqrt(share * height * width / np.pi) * 1.1
    if place is None:
        place = [
            float(np.clip(rng.normal(0.5, 0.13), 0.25, 0.75)) * side for side in (width, height)
        ]
    alpha = blob(rng, height, width, *place, radius)
    alpha = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.6, 1.4))
    return paint_of(rng, height, width), alpha


def paint_of(rng, height, width):
    one, two, three = colour(rng), colour(rng), colour(rng)
    mix = noise(rng, height, width, octaves=rng.randint(3, 7))[..., None]
    paint = one + (two - one) * mix
    patch = noise(rng, height, width, octaves=2) > rng.uniform(0.4, 0.8)
    paint[patch] = paint[patch] * 0.4 + three * 0.6
    return paint


def developed(rng, picture):
    """What a camera does: blur, falling light, grain."""
    height, width = picture.shape[:2]
    if rng.rand() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.2))
    light = 1 - rng.uniform(0, 0.3) * noise(rng, height, width, octaves=1)[..., None]
    grain = rng.normal(0, rng.uniform(0, 6), picture.shape)
    return np.clip(picture * light + grain, 0, 255).round().astype(np.uint8)


def by_hand(rng, alpha):
    """The mask as somebody made it: exact, or a little wide, narrow, wobbling or soft."""
    side = min(alpha.shape)
    mask = alpha.copy()
    way = rng.randint(4)
    if way == 1:
        reach = int(rng.uniform(0.005, 0.025) * side) + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        mask = cv2.dilate(mask, disc)
    elif way == 2:
        reach = int(rng.uniform(0.003, 0.01) * side) + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        mask = cv2.erode(mask, disc)
    elif way == 3:
        mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(1, 4))
    if rng.rand() < 0.5:
        mask = (mask > 0.5).astype(np.float32)
    return (mask * 255).round().astype(np.uint8)


def words(rng, trigger=TRIGGER):
    """A caption that does not say where the subject is."""
    subject_word = rng.choice(SUBJECTS)
    parts = [rng.choice(LOOKS), *rng.choice(DOES, rng.randint(1, 3), replace=False)]
    tail = rng.choice(SHOTS, rng.randint(1, 4), replace=False)
    return f"{trigger} {subject_word} {parts[0]}, {', '.join([*parts[1:], *tail])}".strip()


def draw(rng, name, size=None, backdrop=None, **how):
    """One clean clip; `backdrop` is shared by pictures of a series."""
    if size is None:
        size = (256, 256) if rng.rand() < 0.4 else (int(rng.randint(208, 320)), 256)
    height, width = size
    laid = ground(rng, height, width) if backdrop is None else backdrop.copy()
    paint, alpha = subject(rng, height, width, **how)
    picture = laid + (paint - laid) * alpha[..., None]
    return Drawing(name, developed(rng, picture), by_hand(rng, alpha), words(rng))


def clean(rng, count):
    """Drawings without a fault: single pictures, and series on one backdrop."""
    drawn, used = [], set()
    while len(drawn) < count:
        series = rng.randint(2, 6) if rng.rand() < 0.2 else 1
        backdrop = ground(rng, 256, 256) if series > 1 else None
        for _ in range(min(series, count - len(drawn))):
            size = (256, 256) if series > 1 else None
            one = draw(rng, f"{len(drawn):04d}", size, backdrop)
            while one.caption in used:
                one.caption = words(rng)
            used.add(one.caption)
            drawn.append(one)
    return drawn


def save(folder, one, suffix=".png"):
    for kind, pixels in (("clips", one.picture[..., ::-1]), ("masks", one.mask)):
        path = folder / kind / f"{one.name}{suffix if kind == 'clips' else '.png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        options = [cv2.IMWRITE_JPEG_QUALITY, 90] if path.suffix == ".jpg" else []
        assert cv2.imwrite(str(path), pixels, options)
    (folder / "clips" / f"{one.name}.txt").write_text(one.caption, encoding="utf-8")


def roll(rng, name, frames=9, size=128):
    """A clip of a subject that moves and grows before a slowly panning ground, and its masks."""
    wide = ground(rng, size + 40, size + 40)
    paint, alpha = subject(rng, size, size, share=rng.uniform(0.1, 0.25))
    pan = rng.uniform(-2, 2, 2)
    speed = rng.uniform(0.5, 4) * np.array([np.cos(a := rng.uniform(0, 6.28)), np.sin(a)])
    growth = rng.uniform(0.985, 1.015)
    pictures, masks = [], []
    for index in range(frames):
        turn = index - frames // 2
        scale = growth**turn
        move = np.float32(
            [
                [scale, 0, size / 2 * (1 - scale) + speed[0] * turn],
                [0, scale, size / 2 * (1 - scale) + speed[1] * turn],
            ]
        )
        at = np.float32([[1, 0, -20 + pan[0] * turn], [0, 1, -20 + pan[1] * turn]])
        laid = cv2.warpAffine(wide, at, (size, size), borderMode=cv2.BORDER_REFLECT)
        there = cv2.warpAffine(alpha, move, (size, size))
        dressed = cv2.warpAffine(paint, move, (size, size), borderMode=cv2.BORDER_REFLECT)
        picture = laid + (dressed - laid) * there[..., None]
        grain = rng.normal(0, 3, picture.shape)
        pictures.append(np.clip(picture + grain, 0, 255).round().astype(np.uint8))
        width = int(rng.randint(0, 2))  # a mask model breathes by a pixel
        mask = cv2.dilate(there, np.ones((1 + 2 * width,) * 2)) if width else there
        masks.append(((mask > 0.5) * 255).astype(np.uint8))
    return name, np.stack(pictures), np.stack(masks), words(rng)
