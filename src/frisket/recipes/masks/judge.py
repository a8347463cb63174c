"""`frisket masks accept` and `reject`: a person's word on masks that were made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from frisket.maskgen.files import record, verdicts
from frisket.maskgen.files.record import VerdictKind
from frisket.maskgen.files.store import MaskStore
from frisket.media.files import ClipFiles
from frisket.recipes.masks.folder import BadMaskOption
from frisket.recipes.masks.make import clips_of, place_of
from frisket.registry import suggest


@dataclass(slots=True)
class JudgedMasks:
    """What became of each clip, by name."""

    folder: Path
    judged: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # and why


def judge_masks(
    folder: Path,
    kind: VerdictKind,
    *,
    names: Sequence[str] = (),
    above: float | None = None,
    undo: bool = False,
    output: Path | None = None,
    beside: bool = False,
) -> JudgedMasks:
    """Judge the masks of the clips named, or of all whose confidence is at least `above`.

    With `undo` the verdict is taken back. Raises BadMaskOption for a name that is not there, and
    where neither names nor `above` say which masks are meant.
    """
    if not names and above is None:
        raise BadMaskOption("name clips, or give --above 0.8 for all that sure")
    if above is not None and not 0 <= above <= 1:
        raise BadMaskOption(f"--above {above:g}: confidence goes from 0 to 1")
    clips, place = place_of(folder, output, beside=beside)
    files = {clip.name: clip for clip in clips_of(clips, place)}
    chosen_clips = _choose_clips(files, names)
    result = JudgedMasks(place.folder)
    for clip in chosen_clips if above is None else _list_sure(place, chosen_clips, above):
        try:
            path = place.record(clip.name)
            if undo:
                verdicts.withdraw(path)
            else:
                present = place.present(clip.name, clip.clip)
                verdicts.judge(path, list(present.values()), kind)
            result.judged.append(clip.name)
        except ValueError as error:  # BadMaskRecord and NoVerdict among them
            result.refused[clip.name] = str(error)
    return result


def _choose_clips(files: Mapping[str, ClipFiles], names: Sequence[str]) -> list[ClipFiles]:
    """The clips named, all where none is; BadMaskOption for a name that is not there."""
    for name in names:
        if name not in files:
            raise BadMaskOption(f"no clip is named {name!r}{suggest(name, list(files))}")
    return [files[name] for name in names or files]


def _list_sure(place: MaskStore, clips: Sequence[ClipFiles], above: float) -> Iterator[ClipFiles]:
    """Clips whose mask was made and is at least so sure; a damaged record is none."""
    for clip in clips:
        try:
            mask_record = record.load(place.record(clip.name))
        except ValueError:
            continue
        if mask_record is None or mask_record.status not in ("done", "unsure"):
            continue
        if mask_record.confidence is not None and mask_record.confidence >= above:
            yield clip
