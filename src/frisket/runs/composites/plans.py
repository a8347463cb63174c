"""What composites a run makes, from its configuration: backgrounds swapped, subjects mixed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from frisket.config.tree import Config
from frisket.data import backgrounds
from frisket.data.cached.index import Index
from frisket.data.composites.planning import PlanMix, PlanSwap
from frisket.data.records import Backdrop, MixPlan, SwapPlan, Window
from frisket.families.base import Family, Source
from frisket.progress import Progress
from frisket.runs.background_bank import sample_bank

# Makes the folder of backgrounds sampled from the base model, for clips of (frames, height, width).
MakeBank = Callable[[Config, Family, Source, tuple[int, int, int]], Path]


@dataclass(frozen=True, slots=True)
class _FromClips:
    """A swap plan whose backdrops are the surroundings of the masked clips themselves."""

    plan: SwapPlan
    regions: tuple[str, ...]

    def __call__(self, windows: Sequence[Window]) -> SwapPlan:
        return replace(self.plan, backdrops=backgrounds.from_donors(windows, self.regions))


def plan_swap(
    config: Config,
    family: Family,
    source: Source,
    index: Index,
    progress: Progress,
    bank: MakeBank | None,
) -> PlanSwap | None:
    """The `[swap]` table with its backgrounds; None where it is off. May sample the bank."""
    swap = config.swap
    if not swap.rate:
        return None
    plan = SwapPlan(
        backdrops=(),
        variants=swap.variants,
        template=swap.template,
        feather=swap.feather,
        despill=swap.despill,
        seed=config.run.seed,
        space=swap.space,
        grow=swap.grow,
    )
    backdrops: list[Backdrop]
    match swap.source:
        case "clips":
            return _FromClips(plan, tuple(name for name in config.regions if name != "background"))
        case "folder":
            assert swap.path is not None  # the config refuses it otherwise
            backdrops = backgrounds.from_folder(swap.path, index)
        case "bank":
            folder = _make_bank(config, family, source, progress, bank)
            backdrops = backgrounds.from_folder(folder, index)
        case request:
            backdrops = backgrounds.draw_backdrops(request)
    return replace(plan, backdrops=tuple(backdrops))


def _make_bank(
    config: Config, family: Family, source: Source, progress: Progress, bank: MakeBank | None
) -> Path:
    variant = family.variants[source.variant]
    lengths = [data.frames or variant.frames for data in config.data] or [variant.frames]
    frames = max(length if isinstance(length, int) else max(length) for length in lengths)
    size = (variant.grid.fit_frames(frames), variant.height, variant.width)
    if bank is not None:
        return bank(config, family, source, size)
    return sample_bank(config, family, source, size, progress)


def plan_mix(config: Config, swap: PlanSwap | None) -> PlanMix | None:
    """The `[mix]` table with what its subjects stand before; None where it is off."""
    mix = config.mix
    if not mix.rate:
        return None
    plan = MixPlan(
        variants=mix.variants,
        subjects=mix.subjects,
        scale=mix.scale,
        overlap=mix.overlap,
        template=mix.template,
        background_template=config.swap.template,
        despill=mix.despill,
        seed=config.run.seed,
        space=mix.space,
    )
    if mix.ground == "flat":
        return replace(plan, backdrops=tuple(backgrounds.draw_backdrops("flat")))
    if mix.ground == "clip":
        return plan
    assert swap is not None  # the config refuses it otherwise
    if isinstance(swap, SwapPlan):
        return replace(plan, backdrops=swap.backdrops)
    take = swap
    return lambda windows: replace(plan, backdrops=take(windows).backdrops)
