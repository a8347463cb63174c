"""The analytic judge of the pocket world: what is on a picture, without being told the caption.

Every number here was fixed before any trained model was looked at. A picture is read on the 32 x 32
raster of the world (multiples are averaged down), each pixel is named after its nearest palette
colour, and the (shape, colour, place, background) that explains the most pixels wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from frisket.pocket.world import (
    COLOURS,
    CREATURES,
    PALETTE,
    PATTERNS,
    SHAPES,
    SIZE,
    ZIGZAG,
    Background,
    Scene,
    draw_background,
    shape_alpha,
)

_Pictures = UInt8[np.ndarray, "n H W 3"]
Raster = Float[np.ndarray, "n 32 32 3"]  # 0 to 255, on the world's own raster
_LabelMap = Int[np.ndarray, "n 32 32"]  # index into NAMES
Alphas = Float[np.ndarray, "n 32 32"]  # of the subject, in [0, 1]
Scores = Float[np.ndarray, " n"]
Truths = Bool[np.ndarray, " n"]

NAMES = tuple(PALETTE)
AGREES = 0.8  # share of the pixels outside the subject that must fit for a background to be named
SHAPE_IOU = 0.5  # overlap of template and colour below which a picture is said to hold no shape
MATCH_DB = 12.0  # template PSNR from which the creature counts as found (bench.md, part B)
RADII = (6.5, 7.0, 7.5, 8.0, 8.5, 9.0, 9.5)
CREATURE_RADII = (7.5, 8.5, 9.5)
PLACES = range(7, 26)  # centres tried on each axis; moving subjects leave the corpus' 10 to 22
CREATURE_PLACES = range(9, 24)
PRESENT = 8  # pixels a colour must have to be considered at all
CANDIDATES = 8  # backgrounds carried into the joint search


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one picture shows; `shape` and `colour` are "" where no shape stands out."""

    shape: str
    colour: str
    background: Background | None  # None: nothing fits AGREES of the pixels outside the shape
    agreement: float  # share of the pixels outside the (dilated) shape that fit the best background
    shape_iou: float  # of the best template with the pixels of its colour, in [0, 1]


@lru_cache(maxsize=1)
def _draw_templates() -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Names, binary templates and templates grown by one pixel, `N 1024` each."""
    spots = [(s, x, y, r) for s in SHAPES for y in PLACES for x in PLACES for r in RADII]
    alphas = np.stack([shape_alpha(s, float(x), float(y), r) for s, x, y, r in spots])
    hard = torch.from_numpy(alphas >= 0.5)
    grown = torch.nn.functional.max_pool2d(hard.float()[:, None], 3, 1, 1)[:, 0]
    return [spot[0] for spot in spots], hard.float().flatten(1), grown.flatten(1)


@lru_cache(maxsize=1)
def _draw_backgrounds() -> tuple[list[Background], torch.Tensor]:
    """Every corpus background and the novel one, with their label maps `B 1024`."""
    pairs = [(a, b) for a in COLOURS for b in COLOURS if a != b]
    known = [Background("wall", name, name) for name in COLOURS]
    known += [Background(p, a, b) for p in PATTERNS if p != "wall" for a, b in pairs]
    known.append(ZIGZAG)
    maps = np.stack([draw_background(background) for background in known])
    return known, torch.from_numpy(label(maps)).flatten(1)


def raster(pictures: _Pictures) -> Raster:
    """Pictures averaged down to the world's raster; ValueError unless square, of n * 32 pixels."""
    count, height, width, _ = pictures.shape
    if height != width or height % SIZE or not height:
        raise ValueError(
            f"the judge reads square pictures of n * {SIZE} pixels, got {height} x {width};"
            " resize them first"
        )
    step = height // SIZE
    cells = pictures.reshape(count, SIZE, step, SIZE, step, 3)
    averaged: Raster = cells.mean((2, 4), dtype=np.float32)
    return averaged


def label(pictures: _Pictures) -> _LabelMap:
    """Index into NAMES of each pixel's nearest palette colour (squared RGB distance)."""
    cells = raster(pictures)
    palette = np.array(list(PALETTE.values()), np.float32)
    # |a - p|^2 without |a|^2, which is the same for every p
    distance = (palette**2).sum(1) - 2 * cells @ palette.T
    nearest: _LabelMap = distance.argmin(-1)
    return nearest


def judge(pictures: _Pictures) -> list[Judgement]:
    """Say what each picture shows (blind to captions); about 5 ms a picture on one core."""
    labels = torch.from_numpy(label(pictures)).flatten(1)
    return [_judge_picture(row) for row in labels]


def _judge_picture(labels: torch.Tensor) -> Judgement:
    names, hard, grown = _draw_templates()
    known, maps = _draw_backgrounds()
    fits = (maps == labels).float()  # B 1024
    colour, template = _find_shape(labels, fits)
    overlap = 0.0
    if template >= 0:
        painted, shape = labels == colour, hard[template] > 0
        overlap = float((painted & shape).sum() / (painted | shape).sum())
    clear = overlap >= SHAPE_IOU
    outside = 1 - grown[template] if clear else torch.ones(SIZE * SIZE)
    agreement = fits @ outside / outside.sum()
    match = int(agreement.argmax())
    share = float(agreement[match])
    return Judgement(
        shape=names[template] if clear else "",
        colour=NAMES[colour] if clear else "",
        background=known[match] if share >= AGREES else None,
        agreement=share,
        shape_iou=overlap,
    )


def _find_shape(labels: torch.Tensor, fits: torch.Tensor) -> tuple[int, int]:
    """Colour and template that, with a likely background, explain most pixels; -1 for none.

    `labels` (1024) index into NAMES; `fits` (B 1024) is 1 where a background has the same.
    """
    _, hard, _ = _draw_templates()
    known, _ = _draw_backgrounds()
    total = fits.sum(1)
    likely = total.topk(CANDIDATES).indices
    colours = [
        index
        for index, name in enumerate(NAMES)
        if name in COLOURS and int((labels == index).sum()) >= PRESENT
    ]
    best, colour, template = -1.0, -1, -1
    if not colours:
        return colour, template
    is_colour = torch.stack([labels == index for index in colours]).float()
    inside = hard @ torch.cat([is_colour, fits[likely]]).T  # N (colours + backgrounds)
    for slot, index in enumerate(colours):
        allowed = torch.tensor([NAMES[index] not in _pair(known[b]) for b in likely.tolist()])
        if not allowed.any():
            continue
        # pixels explained = colour inside the template + background outside it
        gain = (
            inside[:, slot, None] + total[likely][allowed] - inside[:, len(colours) :][:, allowed]
        )
        score, place = gain.max(1).values.max(0)
        if float(score) > best:
            best, colour, template = float(score), index, int(place)
    return colour, template


def _pair(background: Background) -> tuple[str, str]:
    return background.first, background.second


def correct(verdicts: Sequence[Judgement], scenes: Sequence[Scene]) -> dict[str, float]:
    """Share of pictures whose `shape`, `colour`, `background` are those asked for, and `all` three.

    A background is right when pattern, colours and their order are; ValueError on unequal lengths.
    """
    pairs = list(zip(verdicts, scenes, strict=True))
    right = {
        "shape": [v.shape == s.shape for v, s in pairs],
        "colour": [v.colour == s.colour for v, s in pairs],
        "background": [v.background == s.background for v, s in pairs],
    }
    right["all"] = [all(row) for row in zip(*right.values(), strict=True)]
    return {name: float(np.mean(row)) if row else 0.0 for name, row in right.items()}


@lru_cache(maxsize=len(CREATURES))
def _draw_creatures(word: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Paint `N 1024 3` and alpha `N 1024` of a creature at every radius and place."""
    paints, alphas = [], []
    for radius in CREATURE_RADII:
        for y in CREATURE_PLACES:
            for x in CREATURE_PLACES:
                paint, planes = CREATURES[word](float(x), float(y), radius)
                paints.append(paint.reshape(-1, 3))
                alphas.append(np.clip(sum(planes.values()), 0, 1).reshape(-1))
    return torch.from_numpy(np.stack(paints)).float(), torch.from_numpy(np.stack(alphas))


def find_creature(pictures: _Pictures, word: str = "sks") -> tuple[Scores, Alphas]:
    """Best match of a new subject: PSNR in dB, and the alpha of the matching template.

    `word` is one of CREATURES; KeyError for another.

    The squared error of the colours is averaged under the template's alpha (so the background does
    not count) over radii CREATURE_RADII and every whole-pixel centre in CREATURE_PLACES; an error
    below 1 counts as 1, so 48.1 dB is the best there is. Found means PSNR >= FOUND_DB.
    """
    pixels = torch.from_numpy(raster(pictures)).flatten(1, 2)  # n 1024 3
    paint, alpha = _draw_creatures(word)
    weighted = paint * alpha[..., None]
    error = (
        pixels.square().sum(-1) @ alpha.T
        - 2 * pixels.flatten(1) @ weighted.flatten(1).T
        + (paint * weighted).sum((1, 2))
    )
    best = (error / (3 * alpha.sum(1))).min(1)
    psnr = 10 * torch.log10(255**2 / best.values.clamp_min(1))
    return psnr.numpy(), alpha[best.indices].view(-1, SIZE, SIZE).numpy()


def measure_backgrounds(
    pictures: _Pictures,
    masks: Alphas,
    backgrounds: Sequence[Background],
) -> dict[str, Scores]:
    """How far each picture shows the background its prompt asked for, outside the subject's mask.

    `colours`: share of the pixels with mask < 0.5 that have either colour of the background (the
    criterion of bench.md: right when > AGREES). `pattern`: share that has the right colour at the
    right place (stricter: right when >= AGREES).
    """
    labels, outside = label(pictures), masks < 0.5
    size = np.maximum(outside.sum((1, 2)), 1)
    expected = label(np.stack([draw_background(background) for background in backgrounds]))
    pairs = np.array([[NAMES.index(name) for name in _pair(b)] for b in backgrounds])
    either = (labels[..., None] == pairs[:, None, None, :]).any(-1)
    return {
        "colours": (either & outside).sum((1, 2)) / size,
        "pattern": ((labels == expected) & outside).sum((1, 2)) / size,
    }


def judge_creature(pictures: _Pictures, backgrounds: Sequence[Background]) -> dict[str, Truths]:
    """The four verdicts on samples of the creature before prompted backgrounds.

    `subject` (PSNR >= FOUND_DB), `background` (its colours on more than AGREES of the outside),
    `found` (both: the headline number), `strict` (both, and the pattern agrees too).
    """
    psnr, masks = find_creature(pictures)
    shares = measure_backgrounds(pictures, masks, backgrounds)
    subject, background = psnr >= MATCH_DB, shares["colours"] > AGREES
    found = subject & background
    return {
        "subject": subject,
        "background": background,
        "found": found,
        "strict": found & (shares["pattern"] >= AGREES),
    }


def leak(pictures: _Pictures) -> Scores:
    """Share of the pixels outside the creature that have a colour of its training background.

    For samples prompted WITHOUT a background: orange or purple by nearest palette colour. Where
    the creature is not found (FOUND_DB) the whole picture is its outside.
    """
    psnr, masks = find_creature(pictures)
    outside = (masks < 0.5) | (psnr < MATCH_DB)[:, None, None]
    zigzag = np.isin(label(pictures), [NAMES.index(name) for name in _pair(ZIGZAG)])
    share: Scores = (zigzag & outside).sum((1, 2)) / outside.sum((1, 2))
    return share
