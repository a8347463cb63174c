"""What training says before its first step: is the mask doing anything?"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from frisket.config.compat import compat_of, normalise_of
from frisket.config.regions import weights_of
from frisket.config.tree import Config
from frisket.data.cached.store import CorruptEntry
from frisket.data.mask_pipeline import arrange
from frisket.data.records import Prepared, PrepareReport
from frisket.data.schedule import Schedule
from frisket.families.base import FAMILIES, Variant
from frisket.masks.weights import BACKGROUND, WeightSummary, describe
from frisket.objectives.shift import SizeShift
from frisket.runs.card import shift_of, variant_of
from frisket.runs.control.setup import is_control_run, warn_free_cells
from frisket.runs.epochs import describe_length
from frisket.runs.methods.patch_masking import describe_masking
from frisket.runs.methods.token_routing import describe_routing, is_routed
from frisket.runs.settings_rows import list_settings
from frisket.shapes import CellPlanes, Cells

SMALL = 0.02  # coverage below this share makes the mean over the mask jump from sample to sample
HEAVY = 1.5  # how much harder than others a clip may pull before it is told
LOOKED_AT = 512  # clips whose coverage is read for the share of weight outside the regions
NAMES_LISTED = 5  # names a row lists before it counts the rest


class NothingTeaches(ValueError):
    """Under these masks and weights no cell of any clip teaches anything."""


def check(config: Config, prepared: Prepared) -> None:
    """Stop before a run that could learn nothing; NothingTeaches says which setting is why.

    (Mask sources that match nothing, and required masks that are not there, stop `prepare`.)
    """
    report = prepared.report
    weighs = config.curve.floor > 0 or config.curve.unmasked_probability > 0
    if weighs or report.silent < report.clips:
        return
    table = ", ".join(f"{name} = {weight:g}" for name, weight in config.region_weights.items())
    why = f"{len(report.all_zero)} of {report.clips} masks are empty, and [regions] has {table}"
    raise NothingTeaches(
        f"no clip has any weight: {why}. White teaches and black does not; if yours are the other"
        " way round set invert = true, else raise the weight of a region (or of background)"
    )


def layout(config: Config, prepared: Prepared) -> WeightSummary | None:
    """What the weight table makes of the coverage; None where no clip has a mask.

    At most 512 clips, evenly taken, are read for it.
    """
    masked = any(item.coverage is not None for item in prepared.items)
    return describe(weights_of(config), _planes(prepared)) if masked else None


def _planes(prepared: Prepared) -> Iterator[CellPlanes]:
    """The coverage of each masked clip, k f h w; of at most LOOKED_AT, evenly taken."""
    masked = [item for item in prepared.items if item.coverage is not None]
    step = -(-len(masked) // LOOKED_AT) or 1
    for item in masked[::step]:
        assert item.coverage is not None
        try:
            entry = prepared.cache.load("coverage", item.coverage)
        except CorruptEntry:
            if prepared.rebuild is None:
                raise
            prepared.cache.drop("coverage", item.coverage)
            prepared.rebuild()
            entry = prepared.cache.load("coverage", item.coverage)
        yield arrange(entry.tensors["planes"], entry.notes["regions"].split("\n"), prepared.regions)


def warnings(config: Config, prepared: Prepared) -> list[str]:
    """Settings and masks that run, but seldom do what was meant; one sentence each."""
    messages = [
        *_of_masks(config, prepared),
        *_of_swap(config, prepared),
        *_warn_mixes(config, prepared),
        *_of_buckets(config, prepared),
    ]
    report, floor = prepared.report, config.curve.floor
    messages += report.hints
    messages += warn_free_cells(config)
    if floor and not is_control_run(config):
        messages.append(
            f"floor = {floor:g} teaches the background as well: 0.05 let three to five times as"
            " much of it in as 0 when measured (docs/walk-of-a-mask.md)"
        )
    if report.sided:
        messages.append(
            f"{report.sided} clips are also trained mirrored, and their captions say left or right:"
            " set flip = false for them"
        )
    return messages


def _of_buckets(config: Config, prepared: Prepared) -> Iterator[str]:
    """Clips of a size of their own are drawn again and again to fill a batch."""
    schedule = Schedule(prepared.items, batch=config.run.batch, seed=config.run.seed)
    by_factor: dict[float, list[str]] = {}
    for item, factor in schedule.factors(config.optimizer.accumulate).items():
        if factor >= HEAVY:
            by_factor.setdefault(factor, []).append(prepared.items[item].name)
    for factor, names in sorted(by_factor.items(), reverse=True):
        yield (
            f"{_some(names)}: of a size that few clips have, so that each pulls {factor:.3g} times"
            f" as hard as a clip of a full batch (run.batch = {config.run.batch}); crop to a common"
            " size, or set run.batch = 1 and optimizer.accumulate"
        )


def _of_masks(config: Config, prepared: Prepared) -> Iterator[str]:
    report = prepared.report
    taught = [s.mean for name, s in report.coverage.items() if config.region_weights.get(name)]
    alone = not config.region_weights.get(BACKGROUND) and not config.curve.floor
    if alone and 0 < sum(taught) < SMALL and normalise_of(config) == "sample":
        yield (
            f"the regions cover {sum(taught):.1%} of a clip on average: with normalise = "
            '"sample" few cells set the whole loss, which spikes; crop closer, or use "area"'
        )
    if report.unmasked and report.masked:
        names = _some(report.unmasked)
        yield f"{_clips(len(report.unmasked))} without a mask, trained on whole: {names}"
    if report.left:
        yield (
            f"{_clips(len(report.left))} left out, without a mask where others have one:"
            f' {_some(report.left)}; masks.unmasked = "train" teaches them whole'
        )
    yield from _of_doubted(report)
    if report.shared:
        yield (
            f"{_clips(len(report.shared))} of [[validation.data]] also trained on:"
            f" {_some(report.shared)}; what is measured on them was learnt by heart"
        )
    if report.all_zero:
        yield f"{len(report.all_zero)} masks are empty, so their clips teach nothing of a region"
    if report.thin:
        yield (
            f"{len(report.thin)} regions are thinner than a latent cell, so no cell is mostly"
            f' theirs: {_some(report.thin)}; reading = "max" keeps them'
        )


def _of_doubted(report: PrepareReport) -> Iterator[str]:
    for doubted, how in (
        (report.doubted, "left out"),
        (report.unsure, "trained on for want of others"),
    ):
        if doubted:
            yield (
                f"{_clips(len(doubted))} {how}, whose mask `frisket masks` was unsure of:"
                f" {_some(doubted)}; look at them, mend a mask or delete its .json to take it as it"
                ' is; masks.unmasked = "train" takes all'
            )


def _of_swap(config: Config, prepared: Prepared) -> Iterator[str]:
    background = config.region_weights.get(BACKGROUND, 0.0)
    if not config.swap.rate:
        return
    if background > 0:
        yield (
            f"the background is swapped and also taught (background = {background:g}): the model"
            " learns the swapped-in pictures; set background = 0"
        )
    if not any(item.swaps for item in prepared.items):
        yield "swap is on, but no clip has a mask to swap around: nothing is swapped"
    if prepared.report.unnamed_swaps:
        yield (
            f"{prepared.report.unnamed_swaps} composites have a background without words: the"
            " template is left out, and their captions do not name it"
        )


def _warn_mixes(config: Config, prepared: Prepared) -> Iterator[str]:
    if not config.mix.rate:
        return
    background = config.region_weights.get(BACKGROUND, 0.0)
    if background > 0:
        yield (
            f"subjects are mixed and the background is taught (background = {background:g}): the"
            " model learns pasted scenes as pictures; set background = 0"
        )
    report = prepared.report
    if report.crowded_mixes:
        yield (
            f"{report.crowded_mixes} mixes are left out: no place was found for their subjects;"
            " lower mix.scale or raise mix.overlap"
        )
    if names := report.unmatched_clips:
        yield f"{_clips(len(names))} take part in no mix, no other goes with them: {_some(names)}"


def _findings(prepared: Prepared) -> list[tuple[str, Sequence[str]]]:
    report = prepared.report
    return [
        ("all-zero masks", report.all_zero),
        ("all-one masks", report.all_full),
        ("lost at the latent grid", report.thin),
        ("orphan masks", report.orphans),
        ("the fallback mask", report.lent),
        ("without caption", report.uncaptioned),
    ]


def _clips(count: int) -> str:
    return f"{count} clip is" if count == 1 else f"{count} clips are"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_LISTED} more" if len(names) > NAMES_LISTED else ""
    return ", ".join(islice(names, NAMES_LISTED)) + more


def banner(config: Config, prepared: Prepared) -> RenderableType:
    """The table and the warnings, ready for rich; `check` was passed before."""
    table = Table(title="what this run teaches", title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows(config, prepared):
        table.add_row(name, Text(value))
    notes = [Text(f"warning: {line}", style="yellow") for line in warnings(config, prepared)]
    return Group(table, *notes)


def rows(config: Config, prepared: Prepared) -> list[tuple[str, str]]:
    """The banner as pairs of name and value."""
    report, summary = prepared.report, layout(config, prepared)
    held = f", {len(prepared.held)} held out" if prepared.held else ""
    pairs = [
        ("clips", f"{report.clips}{held}; {len(prepared.items)} training items"),
        ("with a mask", f"{report.masked} of {report.clips}"),
    ]
    for name, weight in config.region_weights.items():
        if name == BACKGROUND:
            continue
        spread = report.coverage.get(name)
        shown = (
            f"covers {spread.mean:.1%} ({spread.low:.1%} to {spread.high:.1%})"
            if spread
            else "no mask"
        )
        pairs.append((name, f"weight {weight:g}, {shown}"))
    if summary is not None:
        share = f"{summary.background_share:.1%} of all weight in masked clips"
        pairs.append(
            (BACKGROUND, f"weight {summary.background_weight:g} after curve and floor, {share}")
        )
    else:
        pairs.append((BACKGROUND, "no clip has a mask: every clip teaches everywhere"))
    if config.curve.unmasked_probability:
        pairs.append(
            (
                "unmasked draws",
                f"{config.curve.unmasked_probability:.0%} of samples teach everywhere",
            )
        )
    pairs.append(("length", describe_length(config, prepared.items)))
    pairs += [
        (title, f"{len(names)}: {_some(names)}") for title, names in _findings(prepared) if names
    ]
    terms = ", ".join(
        f"{name} {table['strength']:g}" for name, table in config.losses.terms.items()
    )
    normalise = normalise_of(config)
    pairs.append(("loss", f"{terms}; normalise = {normalise}"))
    if (compat := compat_of(config)) is not None:
        pairs.append(("compat", compat.meaning(normalise)))
    pairs.append(("noise levels", describe_noise(config, {item.shape for item in prepared.items})))
    pairs += list_settings(config)
    pairs += _list_token_rows(config, prepared)
    pairs.append(("background swap", _swap_row(config, prepared)))
    if config.mix.rate:
        pairs.append(("mixes", _describe_mixes(config, prepared)))
    pairs.append(
        (
            "prepared",
            f"{report.encoded} latents, {report.covered} masks, {report.embedded} captions made",
        )
    )
    return pairs


def _list_token_rows(config: Config, prepared: Prepared) -> Iterator[tuple[str, str]]:
    """What becomes of the image's tokens where a step does not carry all of them."""
    if is_routed(config):
        yield "token routing", describe_routing(config, prepared, _planes(prepared))
    if config.patch_masking.ratio:
        yield "patch masking", describe_masking(config)


def describe_noise(config: Config, sizes: Collection[Cells]) -> str:
    """The density of t, its shift and its bounds; a shift by size for each of `sizes` in cells."""
    chosen, card = config.timesteps, FAMILIES.load(config.model.family).variants[variant_of(config)]
    parts = [chosen.density or card.density, *_shifts(shift_of(config, card), card, sizes)]
    if chosen.low > 0 or chosen.high < 1:
        how = "cut to" if chosen.bounds == "cut" else "squeezed into"
        parts.append(f"{how} {chosen.low:g} to {chosen.high:g}")
    return ", ".join(parts)


def _shifts(shift: float | SizeShift, card: Variant, sizes: Collection[Cells]) -> list[str]:
    """What to say of a shift; nothing of none."""
    if not isinstance(shift, SizeShift):
        return [] if shift == 1 else [f"shift {shift:g}"]
    pairs = sorted((shift.at(cells), cells) for cells in sizes)
    shown = pairs if len(pairs) <= NAMES_LISTED else [pairs[0], pairs[-1]]
    named = [
        f"{value:.2f} at {width * card.grid.spatial} x {height * card.grid.spatial}"
        for value, (_, height, width) in shown
    ]
    joined = ", ".join(named) if shown is pairs else " to ".join(named)
    return [f"shift by size: {joined}"]


def _describe_mixes(config: Config, prepared: Prepared) -> str:
    mix, count = config.mix, sum(len(item.mixes) for item in prepared.items)
    sheet = "" if prepared.mix_sheet is None else f"; look at {prepared.mix_sheet}"
    return (
        f"{mix.rate:.0%} of draws: {count} mixes of {mix.subjects} subjects, ground"
        f" {mix.ground}{sheet}"
    )


def _swap_row(config: Config, prepared: Prepared) -> str:
    if not config.swap.rate:
        return "off"
    latents = {swap.latents for item in prepared.items for swap in item.swaps}
    if config.swap.space == "latent":
        count = f"{len(latents)} backgrounds, laid under latents"
    else:
        count = f"{len(latents)} composites"
    return f"{config.swap.rate:.0%} of draws, from {config.swap.source}: {count}"


def show(config: Config, prepared: Prepared, console: Console | None = None) -> None:
    """Print the banner; NothingTeaches stops a run that could learn nothing."""
    check(config, prepared)
    (console or Console(stderr=True)).print(banner(config, prepared))
