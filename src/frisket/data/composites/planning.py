"""Plans the composites of masked clips: backgrounds swapped, subjects mixed; encodes nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from frisket.data.composites.mixing import MaskedClip, Mixer, check_mixes
from frisket.data.composites.swapping import add_swaps
from frisket.data.encoding import Encoding
from frisket.data.mask_pipeline import Facts
from frisket.data.records import Item, MixPlan, PaintedMix, SwapPlan, Window

ROOM = 0.25  # share of a clip that must be free of regions for its surroundings to be lent

# A plan, or a function of the windows whose surroundings may stand behind other clips.
PlanSwap = SwapPlan | Callable[[Sequence[Window]], SwapPlan]
PlanMix = MixPlan | Callable[[Sequence[Window]], MixPlan]
ReadFacts = Callable[[str], Facts]
DrawMixes = Callable[[], Sequence[PaintedMix]]


def plan_composites(
    work: Encoding,
    clips: Mapping[int, MaskedClip],
    read_facts: ReadFacts,
    swap: PlanSwap | None,
    mix: PlanMix | None,
) -> tuple[dict[int, Item], DrawMixes | None]:
    """The items of masked training clips (by position) with their swaps and mixes.

    Also what draws some of the mixes, to look at. ValueError where mixes are asked for and none can
    be made.
    """
    items = {position: clip.item for position, clip in clips.items()}
    donors = _list_donors(clips, read_facts) if callable(swap) or callable(mix) else []
    if swap is not None:
        plan = swap(donors) if callable(swap) else swap
        for position, clip in clips.items():
            items[position] = add_swaps(work, plan, clip.item, clip.window, clip.caption)
    if mix is None:
        return items, None
    mixing = mix(donors) if callable(mix) else mix
    subjects = {
        position: replace(clip, item=items[position])
        for position, clip in clips.items()
        if _holds_subject(clip, work.kept, read_facts)
    }
    mixer = Mixer(work, mixing, list(subjects.values()))
    for position, clip in subjects.items():
        items[position] = mixer.add_mixes(clip)
    check_mixes(mixing, list(subjects.values()), list(items.values()))
    return items, lambda: list(mixer.draw_shown())


def _list_donors(clips: Mapping[int, MaskedClip], read_facts: ReadFacts) -> list[Window]:
    """Windows whose surroundings may stand behind other clips: enough of them to see."""
    return [
        clip.window
        for clip in clips.values()
        if clip.item.coverage is not None
        and not clip.item.flip
        and read_facts(clip.item.coverage).free >= ROOM
    ]


def _holds_subject(clip: MaskedClip, kept_regions: Sequence[str], read_facts: ReadFacts) -> bool:
    """Whether a clip shows anything that is taught."""
    key = clip.item.coverage
    return key is not None and any(read_facts(key).mean.get(name, 0.0) > 0 for name in kept_regions)
