"""The procedural world the pocket model lives in: captioned scenes with exact region masks."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_Picture = NDArray[np.uint8]  # H W 3
_Mask = NDArray[np.float32]  # H W in [0, 1]

SIZE = 32  # pixels a side of the pictures the pocket model was trained on

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (40, 80, 220),
    "yellow": (235, 210, 50),
    "white": (240, 240, 240),
    "black": (25, 25, 25),
}
# Colours and a pattern the base has never seen: the new subject and its one background.
NOVEL_COLOURS: dict[str, tuple[int, int, int]] = {
    "orange": (245, 140, 20),
    "purple": (140, 50, 190),
    "pink": (255, 120, 190),
    "teal": (20, 170, 170),
}
PALETTE = COLOURS | NOVEL_COLOURS
# Of the second creature. Outside PALETTE on purpose: the judge names pixels by PALETTE, and what it
# has said of the first creature must not change.
SECOND_COLOURS: dict[str, tuple[int, int, int]] = {"lime": (170, 255, 60), "brown": (125, 75, 35)}
SHAPES = ("circle", "square", "triangle", "cross", "ring")
PATTERNS = ("wall", "stripes", "checks", "dots")
MOTIONS = {
    "still": (0, 0),
    "rising": (0, -1),
    "falling": (0, 1),
    "leftward": (-1, 0),
    "rightward": (1, 0),
}


@dataclass(frozen=True, slots=True)
class Background:
    """A two-colour pattern; `wall` has one colour (`second` repeats `first`)."""

    pattern: str
    first: str
    second: str

    @property
    def words(self) -> str:
        """The phrase that names it, as captions and swap templates use it."""
        if self.pattern == "wall":
            return f"a {self.first} wall"
        return f"{self.first} and {self.second} {self.pattern}"


ZIGZAG = Background("zigzag", "orange", "purple")  # never in the corpus


@dataclass(frozen=True, slots=True)
class Scene:
    """A shape (or a creature, or nothing) before a background; lengths in 32nds of the side."""

    background: Background
    shape: str = ""
    colour: str = ""
    x: float = 16.0
    y: float = 16.0
    radius: float = 8.0
    motion: str = ""

    @property
    def caption(self) -> str:
        """What a person would write under the picture."""
        if not self.shape:
            subject = "nothing"
        else:
            words = " ".join(word for word in (self.motion, self.colour, self.shape) if word)
            subject = words if self.shape in CREATURES else f"a {words}"
        return f"{subject} on {self.background.words}"


def _lay_raster(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    line = (np.arange(size) + 0.5) * (SIZE / size)
    y, x = np.meshgrid(line, line, indexing="ij")
    return y, x


def draw_background(background: Background, size: int = SIZE, phase: float = 0.0) -> _Picture:
    """Paint a background; `phase` shifts a pattern (the corpus always has 0), uint8 H W 3."""
    y, x = _lay_raster(size)
    y, x = y + phase, x + phase
    match background.pattern:
        case "wall":
            second = np.zeros_like(y, dtype=bool)
        case "stripes":
            second = (y // 4) % 2 >= 1
        case "checks":
            second = (y // 4 + x // 4) % 2 >= 1
        case "dots":
            second = (x % 8 - 4) ** 2 + (y % 8 - 4) ** 2 < 5
        case "zigzag":
            second = ((y + np.abs((x - phase) % 8 - 4)) // 4) % 2 >= 1
        case unknown:
            raise ValueError(f"no background pattern {unknown!r}; known: {PATTERNS} and 'zigzag'")
    pair = np.array([PALETTE[background.first], PALETTE[background.second]], np.uint8)
    return pair[second.astype(int)]


def shape_alpha(shape: str, x: float, y: float, radius: float, size: int = SIZE) -> _Mask:
    """How much of each pixel a shape covers (edges one pixel soft), H W in [0, 1]."""
    rows, columns = _lay_raster(size)
    dx, dy = columns - x, rows - y
    distance = np.hypot(dx, dy)
    match shape:
        case "circle":
            inside = radius - distance
        case "square":
            inside = radius * 0.88 - np.maximum(np.abs(dx), np.abs(dy))
        case "triangle":
            inside = np.minimum(radius * 0.75 - dy, (dy + radius) * 0.5 - np.abs(dx))
        case "cross":
            inside = np.maximum(
                np.minimum(radius * 0.38 - np.abs(dx), radius - np.abs(dy)),
                np.minimum(radius * 0.38 - np.abs(dy), radius - np.abs(dx)),
            )
        case "ring":
            inside = radius * 0.28 - np.abs(distance - radius * 0.72)
        case unknown:
            raise ValueError(f"no shape {unknown!r}; known: {SHAPES}")
    return np.clip(inside * (size / SIZE) + 0.5, 0, 1).astype(np.float32)


def creature(
    x: float, y: float, radius: float, size: int = SIZE
) -> tuple[_Picture, dict[str, _Mask]]:
    """Draw the subject no corpus picture holds: half pink half teal, one white eye, two black legs.

    Returns the paint (H W 3, meaningless where no region covers) and the exact planes of its
    regions `body`, `eye` and `legs` (disjoint; their sum is the whole subject).
    """
    rows, columns = _lay_raster(size)
    dx, dy = columns - x, rows - y
    sharp = size / SIZE
    disc = np.clip((radius * 0.85 - np.hypot(dx, dy)) * sharp + 0.5, 0, 1)
    eye = np.clip((radius * 0.32 - np.hypot(dx, dy + radius * 0.15)) * sharp + 0.5, 0, 1)
    legs = np.minimum(
        radius * 0.14 - np.abs(np.abs(dx) - radius * 0.4),
        np.minimum(dy - radius * 0.5, radius * 1.15 - dy),
    )
    legs = np.clip(legs * sharp + 0.5, 0, 1) * (disc < 0.5)
    paint = np.where((dx < 0)[..., None], PALETTE["pink"], PALETTE["teal"]).astype(np.float64)
    paint += (np.array(PALETTE["white"]) - paint) * eye[..., None]
    paint += (np.array(PALETTE["black"]) - paint) * legs[..., None]
    subject = np.maximum(disc, legs)
    eye = np.minimum(eye, disc)
    planes = {"body": subject - eye - np.minimum(legs, subject - eye), "eye": eye, "legs": legs}
    planes["legs"] = subject - planes["body"] - planes["eye"]
    return paint.round().astype(np.uint8), {k: v.astype(np.float32) for k, v in planes.items()}


def draw_second_creature(
    x: float, y: float, radius: float, size: int = SIZE
) -> tuple[_Picture, dict[str, _Mask]]:
    """Draw another such subject: a lozenge, lime above, brown below, black eye, two white ears.

    Returns as `creature` does; the regions are `body`, `eye` and `ears`.
    """
    rows, columns = _lay_raster(size)
    dx, dy = columns - x, rows - y
    sharp = size / SIZE
    body = radius * 1.05 - np.abs(dx) - np.abs(dy)
    body = np.clip(np.minimum(body, radius * 0.8 - np.abs(dx)) * sharp + 0.5, 0, 1)
    eye = np.clip((radius * 0.28 - np.hypot(dx, dy - radius * 0.1)) * sharp + 0.5, 0, 1)
    ears = radius * 0.26 - np.hypot(np.abs(dx) - radius * 0.55, dy + radius * 0.75)
    ears = np.clip(ears * sharp + 0.5, 0, 1) * (body < 0.5)
    paint = np.where((dy < 0)[..., None], SECOND_COLOURS["lime"], SECOND_COLOURS["brown"])
    paint = paint.astype(np.float64)
    paint += (np.array(PALETTE["black"]) - paint) * eye[..., None]
    paint += (np.array(PALETTE["white"]) - paint) * ears[..., None]
    subject = np.maximum(body, ears)
    eye = np.minimum(eye, body)
    planes = {"body": subject - eye - np.minimum(ears, subject - eye), "eye": eye, "ears": ears}
    planes["ears"] = subject - planes["body"] - planes["eye"]
    return paint.round().astype(np.uint8), {k: v.astype(np.float32) for k, v in planes.items()}


CREATURES = {"sks": creature, "zwx": draw_second_creature}


def draw(scene: Scene, size: int = SIZE) -> tuple[_Picture, dict[str, _Mask]]:
    """Paint a scene; returns the picture (uint8 H W 3) and its exact region planes (H W).

    A corpus shape has one region, `subject`; a creature (`sks`, `zwx`) has those of its parts.
    """
    ground = draw_background(scene.background, size).astype(np.float32)
    if not scene.shape:
        return ground.astype(np.uint8), {}
    if scene.shape in CREATURES:
        paint, planes = CREATURES[scene.shape](scene.x, scene.y, scene.radius, size)
    else:
        alpha = shape_alpha(scene.shape, scene.x, scene.y, scene.radius, size)
        paint = np.broadcast_to(np.array(COLOURS[scene.colour], np.uint8), (size, size, 3))
        planes = {"subject": alpha}
    alpha = np.clip(sum(planes.values()), 0, 1)[..., None]
    return (ground * (1 - alpha) + paint * alpha).round().astype(np.uint8), planes


def frames_of(scene: Scene, frames: int, stride: float = 1.5) -> Iterator[Scene]:
    """The scene at each frame: the subject moves `stride` units a frame, centred on mid-clip."""
    right, down = MOTIONS[scene.motion or "still"]
    for index in range(frames):
        shift = (index - (frames - 1) / 2) * stride
        yield replace(scene, x=scene.x + right * shift, y=scene.y + down * shift)


def random_background(rng: np.random.RandomState) -> Background:
    """A background of the corpus."""
    pattern = PATTERNS[rng.randint(len(PATTERNS))]
    first, second = rng.permutation(list(COLOURS))[:2]
    return Background(pattern, str(first), str(first if pattern == "wall" else second))


def random_scene(
    rng: np.random.RandomState, *, empty: float = 0.0, motions: tuple[str, ...] | None = None
) -> Scene:
    """A scene of the corpus: a shape whose colour is not in its background.

    `empty` is the share of scenes without a shape; `motions` (for clips) are drawn from evenly.
    """
    background = random_background(rng)
    if rng.rand() < empty:
        return Scene(background)
    free = [name for name in COLOURS if name not in (background.first, background.second)]
    x, y = rng.uniform(10, 22, 2)
    return Scene(
        background,
        shape=SHAPES[rng.randint(len(SHAPES))],
        colour=free[rng.randint(len(free))],
        x=float(x),
        y=float(y),
        radius=float(rng.uniform(6.5, 9.5)),
        motion=motions[rng.randint(len(motions))] if motions else "",
    )


def is_held_out(scene: Scene) -> bool:
    """Whether the pocket base never saw this caption: one in eight, by its checksum."""
    return bool(scene.shape) and zlib.crc32(scene.caption.encode()) % 8 == 0


def random_creature(
    rng: np.random.RandomState, background: Background = ZIGZAG, word: str = "sks"
) -> Scene:
    """A new subject (`word` of CREATURES) somewhere before a background."""
    x, y = rng.uniform(11, 21, 2)
    return Scene(background, word, "", float(x), float(y), float(rng.uniform(7.5, 9.5)))
