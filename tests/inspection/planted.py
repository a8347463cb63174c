"""Data sets on disk with faults planted on known clips: what the doctor is measured on.

Written before the detectors, and not fitted to them. One clip has one fault.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from tests.inspection.drawn import TRIGGER, Drawing, clean, draw, roll, save, words

from frisket.media.frames import write_video

PLACES = (
    *("on a sandy beach", "in a kitchen", "in front of a brick wall", "in a dense forest"),
    *("at the train station", "against a white background", "on a city street at night"),
    *("in the garden", "standing in a field of sunflowers", "in a living room with a sofa"),
    *("on a rooftop", "by the river", "in an office", "next to a parked car", "under a bridge"),
    *("in front of snowy mountains", "at a concert", "inside a cathedral", "near a lake"),
    *("on stage", "in a hotel lobby", "behind a wooden fence", "in the desert", "at the gym"),
)


@dataclass
class PlantedSet:
    """A data set on disk, and which clip holds which fault."""

    folder: Path
    faults: list[tuple[str, str]] = field(default_factory=list)  # kind, clip (or file name)
    clips: int = 0


def misaligned(rng, one, folder):
    side = min(one.mask.shape)
    angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.12) * side
    move = np.float32([[1, 0, far * np.cos(angle)], [0, 1, far * np.sin(angle)]])
    one.mask = cv2.warpAffine(one.mask, move, one.mask.shape[::-1])


def inverted(rng, one, folder):
    one.mask = 255 - one.mask


def black(rng, one, folder):
    one.mask = np.zeros_like(one.mask)


def white(rng, one, folder):
    one.mask = np.full_like(one.mask, 255)


def outlier(rng, one, folder):
    """The mask has run out over most of the picture, or caught a scrap of the subject."""
    height, width = one.mask.shape
    if rng.rand() < 0.5:
        edge = int(rng.uniform(0.02, 0.05) * min(height, width)) + 1
        one.mask = np.zeros_like(one.mask)
        one.mask[edge:-edge, edge:-edge] = 255
    else:
        ys, xs = np.nonzero(one.mask > 127)
        pick = rng.randint(len(ys))
        scrap = np.zeros_like(one.mask)
        cv2.circle(scrap, (int(xs[pick]), int(ys[pick])), int(0.05 * min(height, width)), 255, -1)
        one.mask = scrap


def thin(rng, one, folder):
    """An outline where a filled mask should be, or a few strokes."""
    outline = (one.mask > 127).astype(np.uint8)
    found, _ = cv2.findContours(outline, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    one.mask = np.zeros_like(one.mask)
    cv2.drawContours(one.mask, found, -1, 255, int(rng.randint(1, 4)))


def aspect(rng, one, folder):
    cut = int(rng.uniform(0.05, 0.3) * min(one.mask.shape))
    one.mask = one.mask[cut:] if rng.rand() < 0.5 else one.mask[:, cut:]


def place(rng, one, folder):
    head, _, tail = one.caption.partition(", ")
    where = str(rng.choice(PLACES))
    one.caption = f"{head} {where}, {tail}" if rng.rand() < 0.5 else f"{one.caption}, {where}"


def no_trigger(rng, one, folder):
    one.caption = one.caption.replace(f"{TRIGGER} ", "a ")


def missing(rng, one, folder):
    (folder / "masks" / f"{one.name}.png").unlink()


def orphan(rng, one, folder):
    old = folder / "masks" / f"{one.name}.png"
    other = str(rng.choice([f"{one.name}_mask", f"{one.name} copy", f"x{one.name}"]))
    shutil.copy(old, old.with_name(f"{other}.png"))
    return other


def ambiguous(rng, one, folder):
    assert cv2.imwrite(str(folder / "masks" / f"{one.name}.bmp"), one.mask)


def broken(rng, one, folder):
    path = next((folder / "clips").glob(f"{one.name}.[pj]*"))
    raw = path.read_bytes()
    way = rng.randint(3)
    path.write_bytes((raw[: len(raw) // 2], b"", b"<html>not found</html>" * 40)[way])


def encoding(rng, one, folder):
    path = folder / "clips" / f"{one.name}.txt"
    path.write_bytes(f"{one.caption}, caf\u00e9 br\u00fbl\u00e9e".encode("latin-1"))


def twin(rng, one, folder):
    """The same picture again under another name: saved anew, resized, relit or trimmed."""
    height, width = one.picture.shape[:2]
    way = rng.randint(4)
    picture, mask = one.picture, one.mask
    if way == 1:
        size = (int(width * 0.75), int(height * 0.75))
        picture, mask = (cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (picture, mask))
    elif way == 2:
        lit = picture.astype(np.float32) * rng.uniform(0.85, 1.15) + rng.uniform(-8, 8)
        picture = lit.clip(0, 255).astype(np.uint8)
    elif way == 3:
        edge = max(int(0.015 * min(height, width)), 2)
        picture, mask = (p[edge:-edge, edge:-edge] for p in (picture, mask))
    again = Drawing(f"{one.name}-again", picture, mask, words(rng))
    save(folder, again, ".jpg")
    return again.name


def same_words(rng, one, folder):
    """Another picture with the caption of this one."""
    other = draw(rng, f"{one.name}-words")
    other.caption = one.caption
    save(folder, other)
    return other.name


def cropped(rng, one, folder):
    """A strip wider than any bucket, its subject at one end."""
    height, width = 160, int(rng.randint(1100, 1400))
    left = rng.rand() < 0.5
    at = (rng.uniform(0.05, 0.09) if left else rng.uniform(0.91, 0.95)) * width
    other = draw(rng, one.name, (height, width), share=0.05, place=[at, height / 2])
    one.picture, one.mask = other.picture, other.mask


Fault = Callable[[np.random.RandomState, Drawing, Path], str | None]
DRAWN: dict[str, Fault] = {  # change the drawing before it is saved
    "misaligned": misaligned,
    "inverted": inverted,
    "black": black,
    "white": white,
    "outlier": outlier,
    "thin": thin,
    "aspect": aspect,
    "background named": place,
    "trigger": no_trigger,
    "cropped": cropped,
}
FILED: dict[str, Fault] = {  # change the files afterwards
    "missing": missing,
    "orphan": orphan,
    "ambiguous": ambiguous,
    "broken": broken,
    "encoding": encoding,
    "twin": twin,
    "same words": same_words,
}
KINDS = [*DRAWN, *FILED]


def plant(folder: Path, seed: int, count: int, each: int) -> PlantedSet:
    """A set of `count` drawn pictures, `each` of them with every kind of fault."""
    rng = np.random.RandomState(seed)
    made = PlantedSet(folder)
    drawings = clean(rng, count)
    chosen = list(rng.permutation(count))
    jobs = [(kind, drawings[chosen.pop()]) for kind in KINDS for _ in range(each)]
    for kind, one in jobs:
        if kind in DRAWN:
            DRAWN[kind](rng, one, folder)
            made.faults.append((kind, one.name))
    for one in drawings:
        save(folder, one, ".jpg" if rng.rand() < 0.3 else ".png")
    for kind, one in jobs:
        if kind in FILED:
            made.faults.append((kind, FILED[kind](rng, one, folder) or one.name))
    made.clips = count
    return made


def flicker(rng, masks):
    """Frames that lose the mask, lose half of it, or take something of the background in."""
    masks = masks.copy()
    for frame in rng.choice(np.arange(1, len(masks) - 1), 2, replace=False):
        way = rng.randint(3)
        if way == 0:
            masks[frame] = 0
        elif way == 1:
            columns = np.nonzero(masks[frame].any(0))[0]
            masks[frame][:, : int(columns.mean())] = 0
        else:
            size = masks.shape[1]
            corner = rng.randint(0, size // 2, 2)
            masks[frame][corner[0] : corner[0] + size // 3, corner[1] : corner[1] + size // 2] = 255
    return masks


def plant_rolls(folder: Path, seed: int, count: int, each: int) -> PlantedSet:
    """A set of `count` clips that move, `each` of them with flickering masks."""
    rng = np.random.RandomState(seed)
    made = PlantedSet(folder, clips=count)
    for kind in ("clips", "masks"):
        (folder / kind).mkdir(parents=True)
    bad = set(rng.choice(count, each, replace=False))
    for index in range(count):
        name, pictures, masks, caption = roll(rng, f"roll{index:03d}")
        if index in bad:
            masks = flicker(rng, masks)
            made.faults.append(("flicker", name))
        grey = torch.from_numpy(np.repeat(masks[..., None], 3, -1))
        clip = torch.from_numpy(pictures)
        write_video(folder / "clips" / f"{name}.mkv", clip, 8.0, lossless=True)
        write_video(folder / "masks" / f"{name}.mkv", grey, 8.0, lossless=True)
        (folder / "clips" / f"{name}.txt").write_text(caption, encoding="utf-8")
    return made
