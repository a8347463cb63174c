"""Changes one `[[data]]` table of a configuration, comments kept; checked before it stands."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from frisket.config.provenance import ConfigError
from frisket.media.folders.rejecting import BadRejects, read_lines, write_rejects
from frisket.studio.regions.table import edit_config, find_data_table
from frisket.studio.sets.listing import ClipRow
from frisket.studio.sets.plan import SetPlan


def set_repeats(plan: SetPlan, repeats: int) -> None:
    """How often the set is seen in one epoch. ConfigError where there is no such table."""
    _change(plan, {"repeats": repeats})


def reject_clips(plan: SetPlan, rows: Iterable[ClipRow], *, rejected: bool) -> Path:
    """Put clips on the set's list of rejected ones, or take them out; gives the list.

    The first time, the configuration is given the key that makes runs obey the list; where there
    is none yet, `frisket init` gives it.
    """
    path = plan.rejects
    try:
        lines = read_lines(path) if path.is_file() else []
    except BadRejects as error:
        raise BadRejects(f"{error}; nothing was changed") from error
    names = {row.name for row in rows}
    suffixed = {row.name + row.path.suffix for row in rows}
    kept_lines = [line for line in lines if line not in names | suffixed]
    write_rejects(path, [*kept_lines, *names] if rejected else kept_lines)
    if plan.clip_set.config is not None and not plan.obeyed:
        _change(plan, {"reject": _make_relative(path, plan.clip_set.config.parent)})
    return path


def _change(plan: SetPlan, values: dict[str, Any]) -> None:
    path = plan.clip_set.config
    if path is None:
        raise ConfigError("this data set has no configuration yet: make one first (frisket init)")
    with edit_config(path) as document:
        find_data_table(document, plan.clip_set.index).update(values)


def _make_relative(path: Path, base: Path) -> str:
    """As seen from the config file; absolute where that would climb far."""
    relative = Path(os.path.relpath(path, base))
    return (path if relative.parts.count("..") > 2 else relative).as_posix()
