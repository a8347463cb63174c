"""What tells runs apart before any number is measured: settings, clips and masks."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import ANNOTATIONS, BadText, cut, parse_json, read_text
from frisket.studio.runs.index import RunFolder

CLIPS = "clips.json"  # as `data.cached.clip_keys` writes it
PLACES = frozenset({"run.output", "run.cache", "run.resume"})  # where a run lies, not what it is
MOST_ROWS = 2000  # clips that differ and are listed; all are counted
LONGEST = 400  # letters of a value that are shown
LACKING = "(none)"
KINDS: Mapping[str, str] = {  # what is kept of a clip, in words
    "coverage": "mask",
    "latents": "picture",
    "texts": "caption",
    "held": "held out",
    "repeats": "repeats",
}


def compare_settings(trees: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The keys in which the settings of runs differ, each with the value of every run as text.

    `trees` are those of their trained.toml, in which defaults are written out too. A key that one
    of them has not got (of another version, of a table that is shorter) shows as LACKING.
    """
    flat = [dict(_flatten(tree)) for tree in trees]
    rows = []
    for key in sorted({key for table in flat for key in table} - PLACES):
        values = [_show(table[key]) if key in table else LACKING for table in flat]
        if len(set(values)) > 1:
            rows.append({"key": key, "values": values})
    return rows


def _flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by dotted key; entries of a list of tables are counted from 0, as `--set` does."""
    if isinstance(tree, Mapping) and tree:
        for name, value in tree.items():
            yield from _flatten(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(tree, list) and tree and all(isinstance(entry, Mapping) for entry in tree):
        for number, entry in enumerate(tree):
            yield from _flatten(entry, f"{prefix}.{number}")
    else:
        yield prefix, tree


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return cut("[" + ", ".join(_show(entry) for entry in value) + "]", LONGEST)
    return cut(str(value), LONGEST)


def compare_clips(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Which clips, masks and captions differ between what runs were trained on.

    `lacking` names runs that kept no list of their clips (trained before Frisket wrote one); the
    others are compared. A clip is known by its name in its data set. A mask counts as changed where
    what reaches the model of it has changed: its file, or how it is read, cut and grown.
    """
    tables: dict[str, Mapping[str, dict[str, Any]]] = {}
    lacking = []
    for run in runs:
        table = read_clips(run.folder)
        if table is None:
            lacking.append(run.name)
        else:
            tables[run.id] = table
    rows = list(_list_differences(list(tables.values()))) if len(tables) > 1 else []
    counts: dict[str, int] = {}
    for row in rows:
        for kind in row["differs"]:
            counts[kind] = counts.get(kind, 0) + 1
    return {
        "runs": list(tables),
        "clips": [len(table) for table in tables.values()],
        "masked": [
            sum(bool(clip["coverage"]) for clip in table.values()) for table in tables.values()
        ],
        "lacking": lacking,
        "counts": counts,
        "rows": rows[:MOST_ROWS],
        "left_out": max(0, len(rows) - MOST_ROWS),
    }


def read_clips(folder: Path) -> Mapping[str, dict[str, Any]] | None:
    """What a run was trained on, by clip; None where it kept no list that can be read."""
    try:
        tree = parse_json(read_text(folder / CLIPS, ANNOTATIONS))
        table: dict[str, dict[str, Any]] = {}
        for entry in tree["clips"]:
            name = str(entry["name"])
            clip = table.setdefault(name, {"clip": str(entry["clip"]), **_make_row()})
            for kind in ("latents", "coverage"):
                if entry[kind] is not None:
                    clip[kind].append(str(entry[kind]))
            clip["texts"] += [str(text) for text in entry["texts"]]
            clip["held"] = bool(entry["held"])
            clip["repeats"] = int(entry["repeats"])
        return table
    except (OSError, BadText, KeyError, TypeError, ValueError):
        return None


def _make_row() -> dict[str, Any]:
    return {"latents": [], "coverage": [], "texts": [], "held": False, "repeats": 1}


def _list_differences(
    tables: Sequence[Mapping[str, dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
    """A row for each clip that is not the same to all runs."""
    for name in sorted({name for table in tables for name in table}):
        clips = [table.get(name) for table in tables]
        differs = _name_differences(clips)
        if differs:
            yield {
                "name": name,
                "differs": differs,
                "in": [clip is not None for clip in clips],
                "masked": [bool(clip and clip["coverage"]) for clip in clips],
            }


def _name_differences(clips: Sequence[dict[str, Any] | None]) -> list[str]:
    """In what a clip differs between runs, in words."""
    used_clips = [clip for clip in clips if clip is not None]
    differs = [] if len(used_clips) == len(clips) else ["clip is not in all"]
    differs += [
        words for kind, words in KINDS.items() if len({repr(clip[kind]) for clip in used_clips}) > 1
    ]
    return differs
