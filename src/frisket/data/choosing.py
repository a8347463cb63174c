"""Which of the clips that were found are trained on, and with which masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from frisket.data.records import Masking
from frisket.media.files import ClipFiles, MasksNotFound


@dataclass(frozen=True, slots=True)
class SelectedClips:
    """The clips of a data set in their order, and the names of those that stay out."""

    clips: list[ClipFiles]
    left: tuple[str, ...] = ()  # without a mask, where others have one
    lent: tuple[str, ...] = ()  # whose mask is the set's fallback
    doubted: tuple[str, ...] = ()  # left out as well: their mask was called unsure when made
    unsure: tuple[str, ...] = ()  # trained on with such a mask, as no other is there


def choose(masking: Masking, files: Sequence[ClipFiles]) -> SelectedClips:
    """Lend the fallback mask to clips without one; else leave those out, if any other has a mask.

    A clip without a mask beside others that have one is most often one that no mask could be made
    for: trained on whole, it teaches all that the others' masks keep out. Where no clip of the set
    has a mask, all stay. So they do with `unmasked` = "train", and with `require`, which stops the
    run at them. A clip whose mask `masking.unsure` doubts stays out as well, unless all are such.
    MasksNotFound where the fallback is no file.
    """
    selection = _choose(masking, files)
    if masking.unmasked == "train" or masking.unsure is None:
        return selection
    doubted = tuple(clip.name for clip in selection.clips if masking.unsure(clip))
    if len(doubted) == len(selection.clips):
        return replace(selection, unsure=doubted)
    kept = [clip for clip in selection.clips if clip.name not in doubted]
    return replace(selection, clips=kept, doubted=doubted)


def _choose(masking: Masking, files: Sequence[ClipFiles]) -> SelectedClips:
    without = tuple(clip.name for clip in files if not _is_masked(clip))
    if not without or masking.source == "none":
        return SelectedClips(list(files))
    if masking.fallback is not None:
        if not masking.fallback.is_file():
            raise MasksNotFound(
                f"masks.fallback: {masking.fallback} is no file that is there; {len(without)} clips"
                f" have no mask of their own ({without[0]} is one)"
            )
        lent = {"": masking.fallback}
        clips = [clip if _is_masked(clip) else replace(clip, masks=lent) for clip in files]
        return SelectedClips(clips, lent=without)
    if masking.require or masking.unmasked == "train" or len(without) == len(files):
        return SelectedClips(list(files))
    return SelectedClips([clip for clip in files if _is_masked(clip)], left=without)


def _is_masked(clip: ClipFiles) -> bool:
    return bool(clip.masks) or clip.alpha
