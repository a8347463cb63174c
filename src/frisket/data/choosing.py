"""Which of the clips that were found are trained on, and with which masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from frisket.data.records import Masking
from frisket.media.files import Found, MasksNotFound


@dataclass(frozen=True, slots=True)
class Chosen:
    """The clips of a data set in their order, and the names of those that stay out."""

    clips: list[Found]
    left: tuple[str, ...] = ()  # without a mask, where others have one
    lent: tuple[str, ...] = ()  # whose mask is the set's fallback
    doubted: tuple[str, ...] = ()  # left out as well: their mask was called unsure when made
    unsure: tuple[str, ...] = ()  # trained on with such a mask, as no other is there


def choose(masking: Masking, found: Sequence[Found]) -> Chosen:
    """Lend the fallback mask to clips without one; else leave those out, if any other has a mask.

    A clip without a mask beside others that have one is most often one that no mask could be made
    for: trained on whole, it teaches all that the others' masks keep out. Where no clip of the set
    has a mask, all stay. So they do with `unmasked` = "train", and with `require`, which stops the
    run at them. A clip whose mask `masking.unsure` doubts stays out as well, unless all are such.
    MasksNotFound where the fallback is no file.
    """
    chosen = _choose(masking, found)
    if masking.unmasked == "train" or masking.unsure is None:
        return chosen
    doubted = tuple(one.name for one in chosen.clips if masking.unsure(one))
    if len(doubted) == len(chosen.clips):
        return replace(chosen, unsure=doubted)
    kept = [one for one in chosen.clips if one.name not in doubted]
    return replace(chosen, clips=kept, doubted=doubted)


def _choose(masking: Masking, found: Sequence[Found]) -> Chosen:
    without = tuple(one.name for one in found if not _masked(one))
    if not without or masking.source == "none":
        return Chosen(list(found))
    if masking.fallback is not None:
        if not masking.fallback.is_file():
            raise MasksNotFound(
                f"masks.fallback: {masking.fallback} is no file that is there; {len(without)} clips"
                f" have no mask of their own ({without[0]} is one)"
            )
        lent = {"": masking.fallback}
        clips = [one if _masked(one) else replace(one, masks=lent) for one in found]
        return Chosen(clips, lent=without)
    if masking.require or masking.unmasked == "train" or len(without) == len(found):
        return Chosen(list(found))
    return Chosen([one for one in found if _masked(one)], left=without)


def _masked(found: Found) -> bool:
    return bool(found.masks) or found.alpha
