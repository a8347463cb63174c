"""The settings of a run, left in its folder: what later commands know it by."""

from pathlib import Path

import tomlkit

from frisket.media.paths import replacing
from frisket.recipes.config import Config

TRAINED = "trained.toml"
HEAD = """\
# What this run was trained with, every path in full. `frisket evaluate` on its folder reads it, and
# `frisket train` on this file repeats the run.
"""


def write_trained(config: Config, folder: Path) -> None:
    """Write all settings, defaults too (a later version may have others), as `trained.toml`."""
    absolute = config.model_dump(mode="json", exclude_none=True)
    with replacing(folder / TRAINED) as draft:
        draft.write_text(HEAD + tomlkit.dumps(absolute), encoding="utf-8")
