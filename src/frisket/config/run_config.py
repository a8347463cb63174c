"""The settings of a run, left in its folder: what later commands know it by."""

from pathlib import Path

import tomlkit

from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.media.paths import escape, is_text, replacing

TRAINED = "trained.toml"
HEAD = """\
# What this run was trained with, every path in full. `frisket evaluate` on its folder reads it, and
# `frisket train` on this file repeats the run.
"""


def check_paths(config: Config) -> None:
    """Raise ConfigError where a path cannot stand in `trained.toml`, before any work."""
    clips = [data.clips for data in (*config.data, *config.validation.data)]
    for path in (config.run.output, config.run.cache, *clips):
        if not is_text(path.absolute()):
            raise ConfigError(
                f"{escape(path.absolute())}: this path is not UTF-8, so `{TRAINED}` could not name"
                " it; rename the folder, or go to another"
            )


def write_trained(config: Config, folder: Path) -> None:
    """Write all settings, defaults too (a later version may have others), as `trained.toml`."""
    absolute = config.model_dump(mode="json", exclude_none=True)
    with replacing(folder / TRAINED) as draft:
        draft.write_text(HEAD + tomlkit.dumps(absolute), encoding="utf-8")
