"""Captions as they are trained: trigger word, tag orders, the words of a new background."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, count, permutations

from frisket.data.rng import order

ORDERS = 8  # embedded orders of a tag list: enough that no order is learnt, few enough to cache
SUBSETS = 4  # regions of one clip that a subset is drawn of: 2^k - 1 captions are embedded
FEW = 3  # tags with fewer orders than that: all of them are taken


def apply_template(caption: str, template: str) -> str:
    """What stands before and after every caption, such as `masterpiece, {caption}`, laid on."""
    return template.replace("{caption}", caption).strip() if template else caption


def add_trigger(caption: str, trigger: str) -> str:
    """The caption with the trigger word first, unless it holds it already as a word of its own."""
    caption = caption.strip()
    if not trigger or f" {trigger.lower()} " in f" {_strip_words(caption)} ":
        return caption
    return f"{trigger}, {caption}" if "," in caption else f"{trigger} {caption}".strip()


def _strip_words(caption: str) -> str:
    return " ".join(word.strip(".,;:!?\"'()") for word in caption.lower().split())


def list_orders(
    caption: str, trigger: str, *, shuffle: bool, keep: int | str = 0
) -> tuple[str, ...]:
    """The caption, or up to 8 orders of its comma-separated tags (the first is the written one).

    A tag that holds the trigger stays first. `keep` is how many tags more stay in front, or a mark
    in the caption: what is before the first one stays in front, what is after the second at the
    end, and the marks themselves go. The orders depend on the caption alone, so that every run
    finds them in the cache.
    """
    front, middle, back = _split_marked(caption, keep if isinstance(keep, str) else "")
    tags = front + middle + back
    if not shuffle or len(middle) < 2:
        return (caption if not isinstance(keep, str) else ", ".join(tags),)
    fixed = front + [tag for tag in middle if trigger and trigger.lower() in tag.lower()][:1]
    rest = [tag for tag in middle if tag not in fixed]
    count_kept = keep if isinstance(keep, int) else 0
    fixed, free = fixed + rest[:count_kept], rest[count_kept:]
    captions: dict[str, None] = {", ".join(fixed + free + back): None}
    for places in _permute(len(free), caption):
        captions[", ".join(fixed + [free[place] for place in places] + back)] = None
        if len(captions) == ORDERS:
            break
    return tuple(captions)


def _permute(tags: int, caption: str) -> Iterable[Sequence[int]]:
    """Orders of so many tags: all of a few, else drawn by the caption without end."""
    if tags <= FEW:
        return permutations(range(tags))
    return (order(tags, caption, "tags", turn) for turn in count())


def _split_marked(caption: str, mark: str) -> tuple[list[str], list[str], list[str]]:
    """Tags before the first mark, between, and after the second; each tag once in its part."""
    parts = caption.split(mark, 2) if mark and mark in caption else ["", caption]
    tags = [
        list(dict.fromkeys(tag.strip() for tag in part.split(",") if tag.strip()))
        for part in (*parts, "")[:3]
    ]
    return tags[0], tags[1], tags[2]


def list_subsets(
    covered: Sequence[str], phrases: Mapping[str, str], template: str
) -> list[tuple[str, tuple[str, ...]]]:
    """Every subset of a clip's regions that have a phrase, with a caption that names just these.

    The regions are in the order of `phrases` (region -> words), the words joined by `and`, as in
    Break-A-Scene; smaller subsets first. ValueError for more than 4 regions.
    """
    names = [name for name in phrases if name in covered]
    if len(names) > SUBSETS:
        raise ValueError(
            f"subset_caption: {len(names)} regions with a phrase ({', '.join(names)}) make"
            f" {2 ** len(names) - 1} captions; at most {SUBSETS} of one clip may have one"
        )
    subsets = [group for size in range(1, len(names) + 1) for group in combinations(names, size)]
    return [
        (template.replace("{phrases}", " and ".join(phrases[name] for name in group)), group)
        for group in subsets
    ]


def weigh_subsets(sizes: Sequence[int]) -> list[float]:
    """The chance of each subset: its size is drawn first, all alike, then one of that size."""
    counts = {size: sizes.count(size) for size in sizes}
    return [1 / len(counts) / counts[size] for size in sizes]


def pick_subset(sizes: Sequence[int], chance: float) -> int:
    """Which subset a number in [0, 1) draws, by those chances."""
    reached = 0.0
    for index, share in enumerate(weigh_subsets(sizes)):
        reached += share
        if chance < reached:
            return index
    return len(sizes) - 1  # the chances sum up to 1 but for rounding


def name_background(caption: str, words: str, template: str) -> str:
    """The caption of a composite; without words for the background it stays as it is."""
    if not words:
        return caption
    return template.replace("{caption}", caption).replace("{background}", words).strip()


def join_captions(captions: Sequence[str], template: str) -> str:
    """One caption of several subjects: the template's {a} and {b}, again for each further one."""
    joined = captions[0]
    for caption in captions[1:]:
        parts = re.split(r"(\{a\}|\{b\})", template)
        joined = "".join({"{a}": joined, "{b}": caption}.get(part, part) for part in parts).strip()
    return joined
