"""The mask of one clip as a run weighs it: the trainer's own path, from planes to weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from frisket.config.compat import betas_of, normalise_of
from frisket.config.regions import weights_of
from frisket.config.tree import Config
from frisket.data.mask_pipeline import arrange, lay, list_regions, read_planes
from frisket.data.records import Clipset, Window
from frisket.data.windows import cut_windows
from frisket.families.base import FAMILIES, Variant
from frisket.grid import LatentGrid
from frisket.losses.weighting import Weighed, Weighting, list_exclusive, weigh
from frisket.masks.coverage import group_frames
from frisket.masks.morphology import feather_cells
from frisket.masks.weights import RegionWeights
from frisket.media.frames import Media, probe
from frisket.media.geometry import Geometry
from frisket.runs.concepts.terms import terms_of
from frisket.runs.prepare import clipset_of, source_of
from frisket.shapes import CellPlanes, Coverage, FrameCells, PerSample, Plane

ON = torch.ones(1, dtype=torch.bool)


@dataclass(frozen=True, slots=True)
class Lens:
    """How the masks of one `[[data]]` table of a configuration are read and weighed."""

    config: Config
    clipset: Clipset
    family: str
    variant: str
    card: Variant
    region_weights: RegionWeights
    weighting: Weighting

    @property
    def grid(self) -> LatentGrid:
        """The latent grid of the variant."""
        return self.card.grid

    @property
    def regions(self) -> tuple[str, ...]:
        """The configured regions in their order, without `background`."""
        return tuple(self.region_weights.regions)

    @property
    def table(self) -> dict[str, float]:
        """Region to weight, `background` last."""
        return {**self.region_weights.regions, "background": self.region_weights.background}


def open_lens(
    config: Config,
    number: int = 0,
    *,
    weights: Mapping[str, float] | None = None,
    resolution: int | tuple[int, int] | None = None,
) -> Lens:
    """How a run with this configuration sees its data set `number`.

    `weights` and `resolution` stand in for those of the file, to be tried without writing it.
    ValueError for a data set or region that is not there; UnknownPlugin for the family.
    """
    if not 0 <= number < len(config.data):
        raise ValueError(f"data set {number}: the config has {len(config.data)} [[data]] tables")
    table = weights_of(config)
    for name in weights or {}:
        if name not in config.regions and name != "background":
            raise ValueError(f"{name}: [regions] of the config has no such region; add it there")
    tried_weights = {name: value for name, value in (weights or {}).items() if name != "background"}
    table = replace(
        table,
        regions={**table.regions, **tried_weights},
        background=(weights or {}).get("background", table.background),
    )
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    clipset = clipset_of(config, config.data[number], family, source)
    card = family.variants[source.variant]
    beta, raw_beta = betas_of(config)
    pixels = config.curve.feather_t

    def soften(coverage: Coverage, t: PerSample) -> Coverage:
        """As the trainer widens borders with t."""
        return feather_cells(coverage, pixels * t, card.grid)

    weighting = Weighting(
        table=table,
        channels=card.grid.channels,
        normalise=normalise_of(config),
        beta=beta,
        raw_beta=raw_beta,
        soften=soften if pixels else None,
        exclusive=list_exclusive(term for term, _ in terms_of(config).values()),
    )
    if resolution is not None:
        clipset = replace(clipset, resolution=resolution)
    return Lens(config, clipset, family.name, source.variant, card, table, weighting)


def open_window(
    lens: Lens, clip: Path, name: str, masks: Mapping[str, Path], frame: int, media: Media | None
) -> Window:
    """The training clip that takes `frame` of a file, else the first; not mirrored.

    BadMedia where the file cannot be read, ValueError where it is too short for the windows.
    """
    media = media or probe(clip)
    masking = lens.clipset.masking
    if masking.source == "alpha" and not media.alpha:
        masking = replace(masking, source="none")
    cuts = cut_windows(lens.clipset, media, lens.grid)
    picks, target = next((cut for cut in cuts if frame in cut[0]), cuts[0])
    geometry = Geometry((media.height, media.width), target, picks, stored=media.stored)
    return Window(name, clip, "", masks, {}, media, geometry, masking)


def split_labels(
    labels: Tensor, legend: Mapping[str, int], window: Window, regions: Sequence[str]
) -> dict[str, Plane]:
    """A label map H W as the planes that `read` would make of it, each 1 H W in {0, 1}.

    Of the configured regions those that the masks of this set may hold (`list_regions`); one that
    the legend lacks is empty.
    """
    blank = torch.zeros(1, *labels.shape)
    return {
        name: (labels == legend[name]).float()[None] if name in legend else blank
        for name in list_regions(window, regions)
    }


def read_saved(lens: Lens, window: Window) -> dict[str, Plane]:
    """The planes of a window's masks on disk, at the mask's own size."""
    return read_planes(window, lens.regions)


def lay_saved(lens: Lens, window: Window) -> FrameCells:
    """The cells of each picked frame of the masks on disk, k F h w in the configured order.

    Not yet grouped in time (`group_frames` does), so that a frame can be exchanged.
    """
    saved_planes = read_saved(lens, window)
    single = replace(lens.grid, temporal=1)
    return arrange(lay(saved_planes, window, single)["planes"], tuple(saved_planes), lens.regions)


def lay_frame(lens: Lens, window: Window, planes: Mapping[str, Plane]) -> FrameCells:
    """The cells of one frame, k 1 h w in the configured order; `planes` are 1 H W each."""
    geometry = replace(window.geometry, picks=window.geometry.picks[:1])
    single = replace(lens.grid, temporal=1)
    cells = lay(planes, replace(window, geometry=geometry), single)["planes"]
    return arrange(cells, tuple(planes), lens.regions)


@dataclass(frozen=True, slots=True)
class RegionView:
    """What one region comes to; shares in [0, 1]. `background` is what no region covers.

    `cells` is its mean coverage of the latent cells of the window, `best` its largest; `loss` is
    its share of the weighted loss where every cell errs alike, after normalisation.
    """

    name: str
    weight: float
    cells: float
    best: float
    loss: float


@dataclass(frozen=True, slots=True)
class LossView:
    """One window as the loss sees it.

    `weights` f h w, after curve, clean cells and exclusive terms; `coverage` k f h w in the order
    of the configured regions. `predicted` is the share of the cells that the model predicts.
    """

    weights: Tensor
    coverage: Tensor
    regions: tuple[RegionView, ...]
    divisor: float
    silent: bool
    exclusive: float  # share of the weight that a term has taken for itself
    clean_frames: int  # latent frames that are handed over clean


def weigh_cells(lens: Lens, frames: FrameCells, t: float = 0.0) -> LossView:
    """Weights and shares of a window; `frames` k F h w are the cells of each pixel frame.

    The order is the trainer's (`losses.weighting.weigh`) at noise level `t`, at the end of the run.
    Latent frame 0 is handed over clean by variants that say so; balance of concepts is left out, as
    it is measured on whole data sets.
    """
    coverage = group_frames(frames, lens.grid, lens.clipset.masking.reading)
    clean = None
    if lens.card.hands_over and coverage.shape[1] > 1:
        clean = torch.zeros(1, 1, *coverage.shape[1:])
        clean[:, :, :1] = 1
    level = torch.tensor([t])
    weighed = weigh(lens.weighting, coverage[None], ON, level, clean=clean)
    without_terms = weigh(
        replace(lens.weighting, exclusive=()), coverage[None], ON, level, clean=clean
    )
    soften = lens.weighting.soften
    soft = coverage[None] if soften is None else soften(coverage[None], level)
    before = float(without_terms.weights.double().sum())
    exclusive_share = 1 - float(weighed.weights.double().sum()) / before if before else 0.0
    return LossView(
        weights=weighed.weights[0, 0],
        coverage=coverage,
        regions=_share_loss(lens, coverage, soft, weighed),
        divisor=float(weighed.divisor[0]),
        silent=bool(weighed.silent[0]),
        exclusive=exclusive_share,
        clean_frames=0 if clean is None else 1,
    )


def _share_loss(
    lens: Lens, coverage: CellPlanes, soft: Coverage, weighed: Weighed
) -> tuple[RegionView, ...]:
    """Every region, and the background last."""
    weights = weighed.weights.double()
    total = float(weights.sum())
    shares = lens.region_weights.share_weights(soft, ON).double()
    weight_shares = (
        (weights * shares).sum((0, 2, 3, 4)) / total if total else torch.zeros(len(coverage))
    )
    means, tops = coverage.double().mean((1, 2, 3)), coverage.flatten(1).amax(1)
    table = lens.table
    views = [
        RegionView(name, table[name], float(mean), float(top), float(share))
        for name, mean, top, share in zip(lens.regions, means, tops, weight_shares, strict=True)
    ]
    free = (1 - coverage.sum(0)).clamp_min(0)
    rest = max(1 - float(weight_shares.sum()), 0.0) if total else 0.0
    rest = rest if rest > 1e-9 else 0.0  # what rounding leaves
    background = RegionView(
        "background", table["background"], float(free.double().mean()), float(free.max()), rest
    )
    return (*views, background)
