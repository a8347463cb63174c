"""How many tokens routed steps of a configuration will carry, told from its masks on disk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isinf

import torch

from frisket.config.regions import names_of, weights_of
from frisket.config.tree import Config
from frisket.data.choosing import choose
from frisket.data.mask_pipeline import arrange, lay, read_planes
from frisket.data.records import Clipset, Window
from frisket.data.windows import cut_windows
from frisket.families.base import FAMILIES, Source, Variant
from frisket.grid import LatentGrid
from frisket.media.files import ClipFiles, find
from frisket.media.frames import probe
from frisket.media.geometry import Geometry
from frisket.routing.selection import Patch
from frisket.runs.card import variant_of
from frisket.runs.methods.token_routing import make_selection
from frisket.runs.prepare import clipset_of
from frisket.shapes import Weights

LOOKED_AT = 24  # clips of a data set, evenly taken


@dataclass(frozen=True, slots=True)
class ExpectedTokens:
    """What the batches of a run carry through the routed blocks, but for its full steps.

    routed_share: mean share of the image's tokens in batches that are routed; 0 where none is.
    largest_share: the largest of these shares.
    whole_share: share of batches that carry all: with a clip without a mask, or above max_kept.
    clip_count: how many were looked at.
    """

    routed_share: float
    largest_share: float
    whole_share: float
    clip_count: int


def expect_tokens(config: Config, patch: Patch) -> ExpectedTokens:
    """From at most LOOKED_AT clips of each `[[data]]` table, read as training reads them.

    Clips of a batch are taken to be drawn one by one from all. Left out are masks that widen with t
    and mixes of several clips. Reads masks, writes nothing.
    ValueError where there is no clip; BadMedia, OSError and ValueError as reading masks raises.
    """
    family = FAMILIES.load(config.model.family)
    source = Source(variant_of(config), config.model.source, device="meta")
    variant = family.variants[source.variant]
    shares: list[tuple[float, float]] = []  # of its tokens (inf: whole), and how often it is drawn
    looked_at = 0
    for data in config.data:
        clipset = clipset_of(config, data, family, source)
        clips = _list_clips(clipset)
        sample = clips[:: -(-len(clips) // LOOKED_AT) or 1]
        looked_at += len(sample)
        for clip in sample:
            often = clipset.repeats * len(clips) / len(sample)
            for window in _cut(clipset, clip, variant.grid):
                shares.append((_measure_share(config, variant, window, patch), often))
    if not shares:
        raise ValueError("there is no clip to look at")
    return _draw_batches(
        shares, config.run.batch, config.curve.unmasked_probability, clip_count=looked_at
    )


def _list_clips(clipset: Clipset) -> list[ClipFiles]:
    how = clipset.masking
    findings = find(
        clipset.clips,
        masks=how.source,
        folders=how.folders,
        captions=clipset.captions,
        caption=clipset.caption,
        wording=clipset.wording,
        reject=clipset.reject,
    )
    return choose(how, findings.clips).clips


def _cut(clipset: Clipset, clip: ClipFiles, grid: LatentGrid) -> Iterator[Window]:
    """The training clips of a file; mirrored ones keep as many tokens."""
    media, masking = probe(clip.clip), clipset.masking
    if masking.source == "alpha" and not clip.alpha:
        masking = replace(masking, source="none")
    for picks, target in cut_windows(clipset, media, grid):
        geometry = Geometry((media.height, media.width), target, picks, stored=media.stored)
        yield Window(clip.name, clip.clip, "", clip.masks, {}, media, geometry, masking)


def _measure_share(config: Config, variant: Variant, window: Window, patch: Patch) -> float:
    """Share of its tokens that a clip keeps alone; inf where it is carried whole."""
    # Where the model is shown what the mask leaves free, all is either taught or shown.
    if not window.masked or window.shown:
        return inf
    regions = names_of(config)
    planes = read_planes(window, regions)
    cells = lay(planes, window, variant.grid)["planes"]
    coverage = arrange(cells, tuple(planes), regions)[None]
    weights = weights_of(config)(coverage, torch.tensor([True]))
    select = make_selection(config)
    required = select.require(weights, patch, always=_mark_first_frame(variant, weights))
    count = select.count_kept(required)
    return inf if count is None else count / required.shape[1]


def _mark_first_frame(variant: Variant, weights: Weights) -> Weights | None:
    if variant.sees != "first_frame":
        return None
    clean_cells = torch.zeros_like(weights)
    clean_cells[:, :, 0] = 1
    return clean_cells


def _draw_batches(
    shares: Sequence[tuple[float, float]], batch: int, unmasked: float, *, clip_count: int
) -> ExpectedTokens:
    """A batch keeps what the clip that needs most does: the largest of `batch` draws."""
    total = sum(often for _, often in shares)
    clip_chance, batch_chance, share_sum = 0.0, 0.0, 0.0  # of keeping no more than this share
    for share, often in sorted(shares):
        if isinf(share):
            break
        clip_chance += (1 - unmasked) * often / total
        share_sum += share * (clip_chance**batch - batch_chance)
        batch_chance = clip_chance**batch
    routed_shares = [share for share, _ in shares if not isinf(share)]
    routable = (1 - unmasked) * len(routed_shares) / len(shares)  # 1 - chance has rounding in it
    return ExpectedTokens(
        routed_share=share_sum / batch_chance if batch_chance else 0.0,
        largest_share=max(routed_shares, default=0.0),
        whole_share=1 - batch_chance if routable < 1 else 0.0,
        clip_count=clip_count,
    )
