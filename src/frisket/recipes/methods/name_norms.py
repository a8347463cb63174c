"""`frisket name-norms`: how long a text encoder's tokens of people's names are, for UniID."""

from pathlib import Path

from frisket.adapters.image.branches import TEXT, WEIGHTS, read_branch
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.inference.methods.identity.uniid.name_norms import (
    measure_name_norms,
    write_name_norms,
)
from frisket.inference.methods.identity.uniid.reading import refuse_others
from frisket.runs.prepare import source_of


def measure_names(config: Config, names_file: Path, folder: Path) -> Path:
    """Write `name_norms.json` into UniID's folder, from names one a line; returns its path.

    Only the text encoders of the configured model are loaded. ConfigError for a model without
    UNet, a folder without a text branch, a file without names that are long enough, and where the
    branch has another number of text encoders than the model; AdapterMismatch as `read_branch`.
    """
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    if reason := refuse_others(family, source.variant):
        raise ConfigError(reason)
    branch_folder = folder if (folder / WEIGHTS).is_file() else folder / TEXT
    if not (branch_folder / WEIGHTS).is_file():
        raise ConfigError(
            f"{folder} has no {TEXT}/{WEIGHTS}: norms are of its words; give the folder that"
            " --method-source takes"
        )
    branch = read_branch(branch_folder)
    if branch.kind != "uniid-text":
        raise ConfigError(f"{branch_folder} holds the other branch ({branch.kind})")
    names = read_names(names_file)
    try:
        norms = measure_name_norms(family.load_text(source), names, branch.tokens)
    except ValueError as error:
        raise ConfigError(f"{names_file}: {error}") from error
    if len(norms) != len(branch.width):
        raise ConfigError(
            f"{family.name} {source.variant} has {len(norms)} text encoders, and the words in"
            f' {branch_folder} are for {len(branch.width)}: sample with norms = "prompt" or "none"'
        )
    return write_name_norms(folder, norms)


def read_names(file: Path) -> list[str]:
    """The names of a file, one a line; ConfigError where there is none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file}: it cannot be read as text ({error}); give names, one a line"
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ConfigError(f"{file} holds no names: write some, one a line")
    return names
