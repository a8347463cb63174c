"""Find the control picture or clip that lies beside each clip, by the stem rules of masks."""

from collections.abc import Mapping
from pathlib import Path

from frisket.media.folders.left_out import Hint, Leftovers
from frisket.media.folders.links import find_links
from frisket.media.folders.listing import list_named_alike
from frisket.media.paths import BadMedia

NOTES = (".json",)  # `frisket control make` notes there how control pictures were made


class ControlNotFound(BadMedia):
    """A folder of control pictures that is missing or matches no clip; names both sides."""


def match_controls(
    clips: Mapping[str, Path], root: Path, folder: Path
) -> tuple[dict[str, Path], list[Hint]]:
    """Control files below `folder` by the clip of the same name, and what there is not read.

    A control is a picture, a video or a folder of frames with its clip's name and sub-folder.
    Raises ControlNotFound where the folder is not there, is the clips' own, or matches no clip;
    TwoFiles where two files have one name.
    """
    example = next(iter(clips))
    if not folder.is_dir():
        raise ControlNotFound(
            f"control {folder}: there is no such folder; a clip is {example!r}, its control picture"
            f" would be {folder / example}.png (`frisket control make` makes them)"
        )
    if folder.resolve() == root.resolve():
        raise ControlNotFound(
            f"control {folder}: is the clip folder itself, so every clip would be its own control;"
            " give a folder of control pictures"
        )
    left = Leftovers(NOTES)
    skip = frozenset({root.resolve()})
    controls = list_named_alike(clips, folder, left, skip=skip, kind="control pictures")
    matches = {name: path for name, path in controls.items() if name in clips}
    if not matches:
        example_file = (
            f"a file there is {next(iter(controls))!r}" if controls else "no picture is there"
        )
        raise ControlNotFound(
            f"control {folder}: no control picture matches any of the {len(clips)} clips; a clip is"
            f" {example!r}, {example_file}; a control picture needs its clip's name and sub-folder,"
            " with any image or video suffix"
        )
    itself = [name for name, path in matches.items() if path.resolve() == clips[name].resolve()]
    if itself:
        raise ControlNotFound(
            f"control {folder}: {matches[itself[0]]} is the clip itself, which a net would learn"
            " to copy; give a folder of control pictures"
        )
    orphans = [path for name, path in controls.items() if name not in clips]
    return matches, [*left.hints(folder, {}, ""), *_list_orphan_hints(folder, orphans)]


def _list_orphan_hints(folder: Path, orphans: list[Path]) -> list[Hint]:
    if not orphans:
        return []
    message = f"control {folder}: {len(orphans)} files have no clip, such as {orphans[0].name}"
    return [Hint("control without a clip", message, "Rename or remove them", grave=False)]


def find_outside_controls(folder: Path | None, controls: Mapping[str, Path]) -> tuple[Path, ...]:
    """Those that links bring into `folder` from elsewhere; none of those a manifest names."""
    return () if folder is None else tuple(find_links(folder, controls.values()))
