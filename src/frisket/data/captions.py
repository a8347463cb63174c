"""Captions as they are trained: trigger word, tag orders, the words of a new background."""

from collections.abc import Iterable, Sequence
from itertools import count, permutations

from frisket.data.draws import order

ORDERS = 8  # embedded orders of a tag list: enough that no order is learnt, few enough to cache
FEW = 3  # tags with fewer orders than that: all of them are taken


def triggered(caption: str, trigger: str) -> str:
    """The caption with the trigger word first, unless it holds it already as a word of its own."""
    caption = caption.strip()
    if not trigger or f" {trigger.lower()} " in f" {_bare(caption)} ":
        return caption
    return f"{trigger}, {caption}" if "," in caption else f"{trigger} {caption}".strip()


def _bare(caption: str) -> str:
    return " ".join(word.strip(".,;:!?\"'()") for word in caption.lower().split())


def orders(caption: str, trigger: str, *, shuffle: bool) -> tuple[str, ...]:
    """The caption, or up to 8 orders of its comma-separated tags (the first is the written one).

    A tag that holds the trigger stays first. The orders depend on the caption alone, so that every
    run finds them in the cache.
    """
    tags = list(dict.fromkeys(tag.strip() for tag in caption.split(",") if tag.strip()))
    if not shuffle or len(tags) < 2:
        return (caption,)
    fixed = [tag for tag in tags if trigger and trigger.lower() in tag.lower()][:1]
    free = [tag for tag in tags if tag not in fixed]
    seen: dict[str, None] = {", ".join(fixed + free): None}
    if len(free) <= FEW:
        found: Iterable[Sequence[int]] = permutations(range(len(free)))
    else:
        found = (order(len(free), caption, "tags", turn) for turn in count())
    for places in found:
        seen[", ".join(fixed + [free[place] for place in places])] = None
        if len(seen) == ORDERS:
            break
    return tuple(seen)


def on_background(caption: str, words: str, template: str) -> str:
    """The caption of a composite; without words for the background it stays as it is."""
    if not words:
        return caption
    return template.replace("{caption}", caption).replace("{background}", words).strip()
