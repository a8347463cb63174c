"""All files of a data set that cannot be used, in one error."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from frisket.media.frames import BadMedia

NAMED = 20  # files an error names before it counts the rest


class BadClips(BadMedia):
    """Files of the data set that cannot be used; all were looked at, the first 20 are named."""


def stop_if_bad(bad: Mapping[str, str], refused: Sequence[ValueError]) -> None:
    """Raise what is wrong with files: `bad` says it by path.

    BadClips, or the one error of `refused` where nothing else is wrong.
    """
    if not bad:
        return
    if len(bad) == len(refused) == 1:
        raise refused[0]
    files: defaultdict[str, list[str]] = defaultdict(list)  # a wrong setting fails every file
    for path, text in bad.items():
        files[text].append(path)
    lines = [
        text if all(path in text for path in paths) else f"{_first(paths)}: {text}"
        for text, paths in files.items()
    ]
    more = f"\n  and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    count = f"{len(bad)} file{'s' * (len(bad) > 1)}"
    raise BadClips(
        f"{count} cannot be used; mend or remove them:\n  " + "\n  ".join(lines[:NAMED]) + more
    )


def _first(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
