"""Procedural people: faces that somebody could be told apart by, with exact masks and key points.

A person is a row of proportions and colours that stay; a view is what changes from one picture to
the next. Lengths of a face are in halves of its head's height, v downwards, the origin between
crown and chin.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frisket.pocket.world import Background, draw_background, random_background

_Colour = tuple[float, float, float]  # RGB, 0 to 255
_Grid = NDArray[np.float64]  # H W

LEAST_SIDE = 32  # pixels; below it eyes are less than one
SKINS: tuple[_Colour, ...] = (
    (250.0, 220.0, 195.0),
    (225.0, 175.0, 140.0),
    (165.0, 110.0, 75.0),
    (90.0, 58.0, 42.0),
)
HAIRS: tuple[_Colour, ...] = (
    *((30.0, 24.0, 20.0), (95.0, 58.0, 30.0), (170.0, 80.0, 35.0), (225.0, 190.0, 110.0)),
    *((190.0, 190.0, 190.0), (60.0, 60.0, 150.0), (150.0, 40.0, 90.0), (40.0, 110.0, 80.0)),
)
EYES: tuple[_Colour, ...] = (
    (60.0, 40.0, 25.0),
    (50.0, 110.0, 60.0),
    (60.0, 120.0, 200.0),
    (120.0, 120.0, 120.0),
)


@dataclass(frozen=True, slots=True)
class ProceduralPerson:
    """What makes somebody this person."""

    head_width: float
    jaw: float  # how much narrower the chin is
    skin: _Colour
    hair: _Colour
    hairline: float  # v above which the forehead ends
    hair_length: float  # v down to which hair falls at the sides
    eye_distance: float  # half of it
    eye_height: float
    eye_size: float
    eyes: _Colour
    brow_lift: float  # above the eyes
    brow_tilt: float  # radians
    nose_length: float  # below the eyes
    nose_width: float
    mouth_width: float  # half of it
    mouth_height: float
    lip_thickness: float
    lips: _Colour


@dataclass(frozen=True, slots=True)
class FaceView:
    """What changes between two pictures of a person; places and sizes in shares of the side."""

    background: Background
    x: float = 0.5
    y: float = 0.52
    size: float = 0.32  # half of the head's height
    roll: float = 0.0  # radians, clockwise as seen
    yaw: float = 0.0  # sine of the turn to the right of the picture
    pitch: float = 0.0  # sine of the nod, downwards
    smile: float = 0.0  # -1 to 1
    mouth_open: float = 0.0  # 0 to 1
    light: float = 0.0  # radians: where the light comes from
    contrast: float = 0.0  # 0 to 1: how dark the other side is
    brightness: float = 1.0

    @property
    def caption(self) -> str:
        """What a person would write under the picture; it does not say who it is."""
        return f"a person on {self.background.words}"


@dataclass(frozen=True, slots=True)
class ProceduralPortrait:
    """A drawn face and what is exactly known of it."""

    picture: NDArray[np.uint8]  # H W 3, RGB
    keypoints: NDArray[np.float32]  # 5 2, (x, y) in pixels: eyes, nose, corners of the mouth
    planes: dict[str, NDArray[np.float32]]  # `face` and `hair`, H W in [0, 1], disjoint


def sample_person(rng: np.random.RandomState) -> ProceduralPerson:
    """Somebody new; the same state of `rng` gives the same person."""
    skin = _mix_skin(rng)
    redness = rng.uniform(0.5, 1)
    lips = (
        skin[0] * 0.55 + 110 * redness,
        skin[1] * 0.55 + 25 * redness,
        skin[2] * 0.55 + 35 * redness,
    )
    return ProceduralPerson(
        head_width=rng.uniform(0.64, 0.9),
        jaw=rng.uniform(0.0, 0.45),
        skin=skin,
        hair=_mix_tint(rng, HAIRS[rng.randint(len(HAIRS))], 18.0),
        hairline=rng.uniform(-0.75, -0.4),
        hair_length=rng.uniform(-0.3, 1.1),
        eye_distance=rng.uniform(0.24, 0.4),
        eye_height=rng.uniform(-0.22, 0.04),
        eye_size=rng.uniform(0.075, 0.135),
        eyes=_mix_tint(rng, EYES[rng.randint(len(EYES))], 12.0),
        brow_lift=rng.uniform(0.15, 0.27),
        brow_tilt=rng.uniform(-0.35, 0.35),
        nose_length=rng.uniform(0.26, 0.44),
        nose_width=rng.uniform(0.05, 0.14),
        mouth_width=rng.uniform(0.17, 0.36),
        mouth_height=rng.uniform(0.5, 0.68),
        lip_thickness=rng.uniform(0.03, 0.085),
        lips=lips,
    )


def sample_view(
    rng: np.random.RandomState, background: Background | None = None, spread: float = 1.0
) -> FaceView:
    """How a picture is taken: `spread` 0 is a passport's, 1 everyday's; faces stay in the frame."""
    return FaceView(
        background=background or random_background(rng),
        x=0.5 + spread * rng.uniform(-0.1, 0.1),
        y=0.52 + spread * rng.uniform(-0.08, 0.08),
        size=0.32 + spread * rng.uniform(-0.06, 0.04),
        roll=spread * rng.uniform(-0.4, 0.4),
        yaw=spread * rng.uniform(-0.5, 0.5),
        pitch=spread * rng.uniform(-0.3, 0.3),
        smile=spread * rng.uniform(-1, 1),
        mouth_open=spread * max(rng.uniform(-0.6, 1), 0.0),
        light=rng.uniform(-np.pi, np.pi),
        contrast=spread * rng.uniform(0, 0.45),
        brightness=1 + spread * rng.uniform(-0.25, 0.15),
    )


def draw_person(person: ProceduralPerson, view: FaceView, side: int = 64) -> ProceduralPortrait:
    """Paint a person, `side` pixels square, edges one pixel soft; ValueError below LEAST_SIDE."""
    if side < LEAST_SIDE:
        raise ValueError(f"side: {side} pixels are too few for a face; take {LEAST_SIDE} or more")
    unit = view.size * side  # pixels
    line = np.arange(side) + 0.5
    rows, columns = np.meshgrid(line, line, indexing="ij")
    dx, dy = (columns - view.x * side) / unit, (rows - view.y * side) / unit
    cos, sin = np.cos(view.roll), np.sin(view.roll)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    head = _soften(_measure_head(person, u, v), unit)
    top, behind = _measure_hair(person, view, u, v)
    fringe = _soften(top, unit) * head
    hair_behind = _soften(behind, unit) * (1 - head)
    paint = np.broadcast_to(np.array(person.skin, np.float64), (side, side, 3)).copy()
    for alpha, colour in _list_features(person, view, u, v, unit):
        paint += (np.array(colour) - paint) * alpha[..., None]
    hair = np.array(person.hair)
    face_plane, hair_plane = head - fringe, fringe + hair_behind
    subject = (paint * face_plane[..., None] + hair * hair_plane[..., None]) * _shade(view, u, v)
    ground = draw_background(view.background, side).astype(np.float64)
    picture = subject + ground * (1 - face_plane - hair_plane)[..., None]
    return ProceduralPortrait(
        picture=picture.clip(0, 255).round().astype(np.uint8),
        keypoints=_place_keypoints(person, view, side),
        planes={"face": face_plane.astype(np.float32), "hair": hair_plane.astype(np.float32)},
    )


def _mix_skin(rng: np.random.RandomState) -> _Colour:
    place = rng.uniform(0, len(SKINS) - 1)
    lighter = min(int(place), len(SKINS) - 2)
    share = place - lighter
    colour = np.array(SKINS[lighter]) * (1 - share) + np.array(SKINS[lighter + 1]) * share
    return _mix_tint(rng, (float(colour[0]), float(colour[1]), float(colour[2])), 8.0)


def _mix_tint(rng: np.random.RandomState, colour: _Colour, spread: float) -> _Colour:
    red, green, blue = np.clip(np.array(colour) + rng.uniform(-spread, spread, 3), 0, 255).tolist()
    return red, green, blue


def _soften(inside: _Grid, unit: float) -> _Grid:
    """Lengths inside a shape, in units, as coverage."""
    return np.clip(inside * unit + 0.5, 0, 1)


def _measure_head(person: ProceduralPerson, u: _Grid, v: _Grid) -> _Grid:
    """About how far inside the head a place lies: an ellipse whose lower half narrows."""
    width = person.head_width * (1 - person.jaw * np.clip(v, 0, 1) ** 2)
    return (1 - np.hypot(u / width, v)) * np.minimum(width, 1)


def _measure_hair(
    person: ProceduralPerson, view: FaceView, u: _Grid, v: _Grid
) -> tuple[_Grid, _Grid]:
    """How far inside the fringe and inside the hair around the head a place lies."""
    line = person.hairline + 0.35 * np.square((u - 0.3 * view.yaw) / person.head_width)
    around = (1 - np.hypot(u / (person.head_width + 0.16), (v + 0.08) / 1.1)) * person.head_width
    sides = np.minimum(person.head_width + 0.14 - np.abs(u), v + 0.08)
    return line - v, np.minimum(np.maximum(around, sides), person.hair_length - v)


def _turn(view: FaceView, u: float, v: float, depth: float) -> tuple[float, float]:
    """Where a place of the face goes when the head turns and nods; `depth` is its height on it."""
    cos = np.sqrt(1 - view.yaw**2)
    return float(u * cos + 0.5 * depth * view.yaw), float(v + 0.35 * depth * view.pitch)


def _list_places(person: ProceduralPerson, view: FaceView) -> list[tuple[float, float]]:
    """Eyes, nose and corners of the mouth in the turned face."""
    eye, mouth = person.eye_distance, person.mouth_width * (1 + 0.12 * view.smile)
    nose = person.eye_height + person.nose_length
    corners = person.mouth_height - 0.05 * view.smile
    return [
        _turn(view, -eye, person.eye_height, 0.6),
        _turn(view, eye, person.eye_height, 0.6),
        _turn(view, 0.0, nose, 1.0),
        _turn(view, -mouth, corners, 0.65),
        _turn(view, mouth, corners, 0.65),
    ]


def _place_keypoints(person: ProceduralPerson, view: FaceView, side: int) -> NDArray[np.float32]:
    """In pixels whose middles are whole numbers, as cv2 and face detectors count them."""
    u, v = np.array(_list_places(person, view)).T
    cos, sin = np.cos(view.roll), np.sin(view.roll)
    unit = view.size * side
    x = view.x * side + unit * (cos * u - sin * v) - 0.5
    y = view.y * side + unit * (sin * u + cos * v) - 0.5
    return np.stack([x, y], 1).astype(np.float32)


def _list_features(
    person: ProceduralPerson, view: FaceView, u: _Grid, v: _Grid, unit: float
) -> list[tuple[_Grid, _Colour]]:
    """What is painted on the skin, in order: coverage and colour."""
    left, right, nose, *corners = _list_places(person, view)
    dark: _Colour = (person.skin[0] * 0.6, person.skin[1] * 0.55, person.skin[2] * 0.55)
    features: list[tuple[_Grid, _Colour]] = []
    for side, (eye_u, eye_v) in ((-1, left), (1, right)):
        du, dv = u - eye_u, v - eye_v
        lid = person.eye_size * (1 - np.hypot(du / 1.5, dv) / person.eye_size)
        features.append((_soften(lid, unit), (245.0, 245.0, 245.0)))
        iris = np.minimum(lid, person.eye_size * 0.95 - np.hypot(du, dv))
        features.append((_soften(iris, unit), person.eyes))
        pupil = person.eye_size * 0.45 - np.hypot(du, dv)
        features.append((_soften(pupil, unit), (15.0, 15.0, 15.0)))
        slope = dv + person.brow_lift + side * person.brow_tilt * du
        brow = np.minimum(0.035 - np.abs(slope), person.eye_size * 1.9 - np.abs(du))
        features.append((_soften(brow, unit), person.hair))
    bridge = np.minimum(nose[1] - v, v - nose[1] + person.nose_length * 0.75)
    width = person.nose_width * (1 + (v - nose[1]) / person.nose_length * 0.8)
    features.append((0.7 * _soften(np.minimum(bridge, width - np.abs(u - nose[0])), unit), dark))
    middle_u = (corners[0][0] + corners[1][0]) / 2
    half = max((corners[1][0] - corners[0][0]) / 2, 0.05)
    across = (u - middle_u) / half
    curve = corners[0][1] + 0.1 * view.smile * (1 - across**2)
    thickness = (person.lip_thickness + 0.09 * view.mouth_open) * np.sqrt(
        np.clip(1 - across**2, 0, 1)
    )
    lips = np.where(np.abs(across) < 1, thickness - np.abs(v - curve), -1.0)
    features.append((_soften(lips, unit), person.lips))
    gap = np.where(np.abs(across) < 0.85, 0.09 * view.mouth_open - np.abs(v - curve), -1.0)
    features.append((_soften(gap, unit) * (view.mouth_open > 0), (50.0, 15.0, 20.0)))
    return features


def _shade(view: FaceView, u: _Grid, v: _Grid) -> NDArray[np.float64]:
    """H W 1: how much of its colour each place shows."""
    toward = np.clip((u * np.cos(view.light) + v * np.sin(view.light)) / 2 + 0.5, 0, 1)
    return (view.brightness * (1 - view.contrast * (1 - toward)))[..., None]
