"""Find the pictures that an edit model is given beside each clip."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from frisket.media.paths import IMAGES, BadMedia, plain

NAMED = 5  # clips an error names before it counts the rest


class ReferencesNotFound(BadMedia):
    """A folder of reference pictures that is missing, or lacks those of some clips."""


def find_references(
    folder: Path, clips: Iterable[str], *, required: bool = True
) -> dict[str, tuple[Path, ...]]:
    """The reference pictures of each clip: `name.png`, or `name_0.png`, `name_1.png`, ... in order.

    `clips` are names as `media.files.find` gives them (path below the clip folder, no suffix); a
    picture has its clip's name and sub-folder. Raises ReferencesNotFound where the folder is not
    there, a clip has none (unless not `required`), or has both kinds.
    """
    if not folder.is_dir():
        raise ReferencesNotFound(f"{folder}: there is no such folder of reference pictures")
    pictures = _list_pictures(folder)
    numbered = _number(pictures)
    names = list(clips)
    references: dict[str, tuple[Path, ...]] = {}
    for name in names:
        # Where a clip is called `name_0`, that picture is its own, and `name` has no numbered ones.
        series = numbered.get(name, ()) if f"{name}_0" not in names else ()
        if name in pictures and series:
            raise ReferencesNotFound(
                f"{folder}: clip {name!r} has the reference {pictures[name].name} and numbered ones"
                f" ({series[0].name}): keep one kind"
            )
        references[name] = (pictures[name],) if name in pictures else series
    lacking = [name for name in names if not references[name]]
    if lacking and required:
        raise ReferencesNotFound(
            f"{folder}: no reference picture for {_spell_names(lacking)}; each clip needs name.png,"
            " or name_0.png, name_1.png, ..."
        )
    return {name: paths for name, paths in references.items() if paths}


def _list_pictures(folder: Path) -> dict[str, Path]:
    """Pictures by their path below the folder, without suffix, NFC; hidden ones left out."""
    return {
        plain(path.relative_to(folder).with_suffix("").as_posix()): path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGES and not path.name.startswith(".")
    }


def _number(pictures: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """Pictures called `name_NUMBER` by name, in the order of their numbers."""
    numbered: dict[str, dict[int, Path]] = {}
    for name, path in pictures.items():
        if match := re.fullmatch(r"(.+)_(\d+)", name):
            numbered.setdefault(match[1], {})[int(match[2])] = path
    return {
        name: tuple(paths[number] for number in sorted(paths)) for name, paths in numbered.items()
    }


def check_references(
    manifest: Path, listed: Mapping[str, tuple[Path, ...]]
) -> dict[str, tuple[Path, ...]]:
    """The reference pictures that a manifest lists; ReferencesNotFound where a clip has none."""
    lacking = [name for name, pictures in listed.items() if not pictures]
    if lacking:
        raise ReferencesNotFound(
            f"{manifest}: no reference picture for {_spell_names(lacking)}; give each line"
            " `references`, or the config a folder of them"
        )
    return dict(listed)


def _spell_names(lacking: Sequence[str]) -> str:
    more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
    return f"{', '.join(lacking[:NAMED])}{more}"
