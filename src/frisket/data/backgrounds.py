"""The backgrounds of a swap: from a folder, drawn, or the surroundings of other clips."""

import heapq
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from frisket.data.background_swap import COLOURS, Drawn, composite, flat, gradient, noise
from frisket.data.cached.colours import hash_content
from frisket.data.cached.index import Index
from frisket.data.cached.store import key_of
from frisket.data.mask_pipeline import MOVING, keep_plane, mask_record
from frisket.data.records import Backdrop, SwapPlan, Window
from frisket.data.rng import draw
from frisket.media.files import find
from frisket.media.frames import decode, decode_stored, probe
from frisket.media.geometry import Geometry
from frisket.media.paths import VIDEOS
from frisket.shapes import Frames

RULE = 1  # goes into cache keys; count up when compositing changes
DRAWN = 24  # different gradients, or noises
POOL = 128  # donors a clip chooses among: keeps the choice linear in the number of clips
RIM = 3  # pixels around a donor's subject that are painted over too: its soft edge and its glow


def from_folder(folder: Path, index: Index, captions: Path | None = None) -> list[Backdrop]:
    """Pictures and videos of a folder with their captions; ValueError where there is none.

    A backdrop without a caption is used, but the caption of its composites does not name it.
    """
    clips = find(folder, masks="none", folders={}, captions=captions, caption=None).clips
    if not clips:
        raise ValueError(f"swap: no picture or video in {folder}: give a folder of backgrounds")
    return [
        Backdrop(hash_content(index, clip.clip), clip.caption.strip(), path=clip.clip)
        for clip in clips
    ]


def draw_backdrops(kind: str) -> list[Backdrop]:
    """Backgrounds that need no files, with words: the flat colours, 24 gradients or noises."""
    seeds = sorted(COLOURS) if kind == "flat" else [str(seed) for seed in range(DRAWN)]
    backdrops = []
    for seed in seeds:
        _, words = _draw_picture(kind, seed, (8, 8))
        backdrops.append(Backdrop(key_of({"drawn": [kind, seed]}), words, drawn=(kind, seed)))
    return backdrops


def _draw_picture(kind: str, seed: str, size: tuple[int, int]) -> Drawn:
    if kind == "flat":
        return flat(seed, *size)
    if kind == "gradient":
        return gradient(np.random.default_rng(int(seed)), *size)
    if kind == "noise":
        return noise(np.random.default_rng(int(seed)), *size)
    raise ValueError(f"swap: no drawn background {kind!r}; use flat, gradient or noise")


def from_donors(windows: Sequence[Window], regions: Sequence[str]) -> list[Backdrop]:
    """The surroundings of masked clips, their own subjects painted over; no words name them.

    At most 128 clips lend theirs. The hole is filled by cv2.inpaint (Telea 2004), which smears the
    surroundings inwards: good enough behind a new subject, not a picture of its own.
    """
    records = [key_of({"donor": mask_record(w, regions), "file": w.content}) for w in windows]
    backdrops = [Backdrop(record, "", donor=w) for record, w in zip(records, windows, strict=True)]
    return heapq.nsmallest(POOL, backdrops, key=lambda backdrop: draw("donor", backdrop.content))


def choose(plan: SwapPlan, window: Window) -> list[Backdrop]:
    """The backdrops of a clip: `plan.variants` different ones, or all there are.

    Each clip ranks the backdrops by a hash of its own, so that adding or deleting a backdrop
    changes only the composites it takes part in.
    """
    mine = (plan.seed, window.content, window.geometry.flip, window.geometry.picks[0])
    others = (
        backdrop
        for backdrop in plan.backdrops
        if backdrop.donor is None or backdrop.donor.content != window.content
    )
    return heapq.nsmallest(
        plan.variants, others, key=lambda backdrop: draw("swap", *mine, backdrop.content)
    )


def swap_record(
    plan: SwapPlan, window: Window, backdrop: Backdrop, kept: Sequence[str], regions: Sequence[str]
) -> dict[str, object]:
    """What a composite adds to the key of its clip's latents."""
    donor = backdrop.donor
    return {
        "rule": RULE,
        "background": backdrop.content,
        **({"moving": MOVING} if _is_video(backdrop.path) else {}),
        **({"donor_reading": list(donor.media.reading)} if donor and donor.media.reading else {}),
        "keep": {**mask_record(window, regions), "kept": sorted(kept)},
        "feather": float(plan.feather),
        "despill": float(plan.despill),
    }


def ground_record(backdrop: Backdrop, count: int, size: tuple[int, int]) -> dict[str, object]:
    """What tells the latents of a background alone, of `count` frames at a size, from others."""
    donor = backdrop.donor
    return {
        "rule": RULE,
        "background": backdrop.content,
        **({"moving": MOVING} if _is_video(backdrop.path) else {}),
        **({"donor_reading": list(donor.media.reading)} if donor and donor.media.reading else {}),
        "frames": count,
        "size": list(size),
    }


def list_files(backdrop: Backdrop) -> list[tuple[Path, str, tuple[int, ...]]]:
    """The file a backdrop is read from, its content and the frames looked at; none if drawn."""
    if backdrop.path is not None:
        return [(backdrop.path, backdrop.content, (0,))]
    if backdrop.donor is not None:
        donor = backdrop.donor
        return [(donor.clip, donor.content, donor.geometry.picks)]
    return []


def _is_video(path: Path | None) -> bool:
    return path is not None and path.suffix.lower() in VIDEOS


def swap_frames(
    frames: Frames,
    *,
    plan: SwapPlan,
    window: Window,
    backdrop: Backdrop,
    kept: Sequence[str],
    regions: Sequence[str],
) -> Frames:
    """The clip over another background: frames and result at the size it is trained at."""
    keep = keep_plane(window, kept, regions)
    background = paint_backdrop(backdrop, len(frames), window.geometry.target, regions)
    return composite(frames, keep, background, feather=plan.feather, despill=plan.despill)


def paint_backdrop(
    backdrop: Backdrop, count: int, size: tuple[int, int], regions: Sequence[str]
) -> UInt8[Tensor, "G H W 3"]:
    """The pictures of a backdrop at a size (height, width): one, or as many as `count` asks."""
    if backdrop.drawn:
        return _draw_picture(*backdrop.drawn, size)[0][None]
    if backdrop.donor is not None:
        donor = backdrop.donor
        frames = cut(donor, decode_stored(donor.clip, donor.geometry.picks))
        frames = _remove_subject(frames, donor, regions)
        geometry = Geometry(
            source=donor.geometry.target, target=size, picks=tuple(range(len(frames)))
        )
        return _extend(to_frames(geometry.pixels(frames)), count)
    if backdrop.path is None:
        raise ValueError(f"swap: backdrop {backdrop.content} has neither a file nor a recipe")
    media = probe(backdrop.path)
    picks = tuple(range(min(count, media.frames)))
    geometry = Geometry(source=(media.height, media.width), target=size, picks=picks)
    return _extend(to_frames(geometry.pixels(decode(backdrop.path, picks))), count)


def cut(window: Window, frames: Frames) -> Frames:
    """Picked frames of a file at the size the window is trained at, as uint8."""
    return to_frames(window.geometry.pixels(frames))


def to_frames(pixels: Tensor) -> Frames:
    """`3 F H W` in [-1, 1] back to uint8 `F H W 3`."""
    return (
        ((pixels + 1) * 127.5)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        .permute(1, 2, 3, 0)
        .contiguous()
    )


def _extend(frames: UInt8[Tensor, "G H W 3"], count: int) -> Frames:
    """A background that is too short runs forwards and backwards, so that nothing jumps."""
    last = len(frames) - 1
    turns = [last - abs(last - index % (2 * last)) if last else 0 for index in range(count)]
    return frames[torch.tensor(turns)]


def _remove_subject(frames: Frames, donor: Window, regions: Sequence[str]) -> Frames:
    """Frames with every region of the donor painted over from around it."""
    keep = keep_plane(donor, regions, regions)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RIM + 1, 2 * RIM + 1))
    filled = []
    for frame, plane in zip(frames.numpy(), keep.numpy(), strict=True):
        hole = cv2.dilate((plane > 0).astype(np.uint8), disc)
        filled.append(torch.from_numpy(cv2.inpaint(frame, hole, RIM, cv2.INPAINT_TELEA)))
    return torch.stack(filled)
