"""Masks that are not where they should be, or not saved as they should be."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from frisket.inspection.findings import Finding
from frisket.media.paths import plain

LOSSY = (".jpg", ".jpeg", ".avif")  # of WebP nobody knows by its name
ENDINGS = ("_mask", "-mask", ".mask", "_masks", " mask", "_alpha", "_seg", " copy", "(1)")


def look_at_orphans(
    orphans: Mapping[str, Path], lacking: Sequence[str], clips: Path
) -> Iterator[Finding]:
    """Masks without a clip, by name below their folder; `lacking` are clips without a mask."""
    by_case, by_ending = (
        match_ignoring_case(orphans, lacking),
        _match_ignoring_endings(orphans, lacking),
    )
    for name, path in orphans.items():
        if name in by_case:
            reason = f" Only capitals differ from the clip {by_case[name]}, which has no mask."
            fix = "Name it exactly like its clip; `frisket inspect --fix` does."
        elif name in by_ending:
            reason = f" The clip {by_ending[name]} has none and is called nearly so."
            fix = f"If it is meant, rename it to {by_ending[name]}{path.suffix}."
        else:
            reason, fix = "", f"Name it after its clip below {clips}, or remove it."
        yield Finding("orphan", "warning", "", f"{path} is a mask without a clip.{reason}", fix)


def look_at_links(outside: Sequence[Path], clips: Path) -> Iterator[Finding]:
    """Files that links bring from outside of the data set, told once."""
    if outside:
        first, files = outside[0], "A file is" if len(outside) == 1 else f"{len(outside)} files are"
        yield Finding(
            "link",
            "note",
            "",
            f"{files} brought to {clips} by links from elsewhere, the first is {first}, from"
            f" {first.resolve()}. They are trained on like all others.",
            "Nothing has to be done if they are yours; `frisket pack` takes them with"
            " --follow-links only.",
        )


def match_ignoring_case(orphans: Mapping[str, Path], lacking: Sequence[str]) -> dict[str, str]:
    """Orphans that differ from one clip without a mask in capitals only: orphan to clip.

    Left out where two orphans or two clips could be meant.
    """
    return _pair({name: name.casefold() for name in orphans}, lacking)


def _match_ignoring_endings(orphans: Mapping[str, Path], lacking: Sequence[str]) -> dict[str, str]:
    """The same with a usual ending of masks taken off."""

    def strip_ending(name: str) -> str:
        name = name.casefold()
        return next((name.removesuffix(end) for end in ENDINGS if name.endswith(end)), name)

    return _pair({name: strip_ending(name) for name in orphans}, lacking)


def _pair(keys: Mapping[str, str], lacking: Sequence[str]) -> dict[str, str]:
    clips: defaultdict[str, list[str]] = defaultdict(list)
    for clip in lacking:
        clips[plain(clip).casefold()].append(clip)
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for name, key in keys.items():
        owners[key].append(name)
    return {
        names[0]: clips[key][0]
        for key, names in owners.items()
        if len(names) == 1 and len(clips[key]) == 1
    }


def look_at_missing(
    clip: str,
    *,
    source: str,
    files: Sequence[str],
    regions: Sequence[str],
    require: bool,
    listed: bool = False,
    left: bool = False,
) -> Iterator[Finding]:
    """No mask, or not for all `regions`; `files` are the regions that have a file ("" for all)."""
    if files:
        lacking = sorted(set(regions) - set(files))
        if lacking and "" not in files:
            yield Finding(
                "region missing",
                "note",
                clip,
                f"There is no mask for {', '.join(lacking)}; it counts as not in the picture.",
                "Add the file if the region is to be seen.",
            )
        return
    fix = "Give its line a `mask`" if listed else f"Add a mask named {Path(clip).name}.png"
    if left:
        yield Finding(
            "missing",
            "warning",
            clip,
            f"There is no mask ({source}): training leaves the clip out, for others have one.",
            f'{fix}, or set masks.unmasked = "train" to teach such clips whole.',
        )
        return
    yield Finding(
        "missing",
        "error" if require else "warning",
        clip,
        f"There is no mask ({source}): the whole clip teaches"
        + (", and `require = true` will stop the run." if require else "."),
        f"{fix}, or remove the clip.",
    )


def look_at_formats(clip: str, masks: Sequence[Path]) -> Iterator[Finding]:
    """Masks saved with loss: ringing along borders, and labels that cannot be trusted."""
    for path in masks:
        if path.suffix.lower() in LOSSY:
            yield Finding(
                "lossy mask",
                "note",
                clip,
                f"{path.name} was saved with loss: its borders ring, and levels within 4 of black"
                " and white are taken for them.",
                "Save masks as PNG; `frisket inspect --fix` converts what is read today.",
            )
