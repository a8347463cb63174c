"""SimpleTuner's settings as a config.env or a config.toml, beside the config.json it reads now."""

import re
from pathlib import Path

from frisket.disk.untrusted import BadText, read_text
from frisket.importers.base import BadImport
from frisket.importers.files import Written, locate, peek, read_config
from frisket.importers.shells.simpletuner_env import read_environment
from frisket.importers.source_base import ConfigSource, SourceForm, Sources

POINTER = "data_backend_config"
_SETS_DATA = re.compile(r"^\s*(?:export\s+)?(DATALOADER_CONFIG|DATA_BACKEND_CONFIG)=", re.MULTILINE)
_UP = 3  # folders above a configuration in which SimpleTuner may have been started


def matches(path: Path) -> bool:
    """An .env or .toml file that says where the list of data sets is."""
    suffix = path.suffix.lower()
    if path.name == "config.env":
        return True
    if suffix == ".env":
        try:
            return bool(_SETS_DATA.search(read_text(path)))
        except (BadText, OSError):
            return False
    tree = peek(path) if suffix == ".toml" else None
    return isinstance(tree, dict) and bool({POINTER, f"--{POINTER}"} & set(tree))


def read(path: Path, command: int | None = None) -> Sources:
    """The settings, with the list of data sets as it is found from here."""
    if command is not None:
        raise BadImport(f"{path}: holds no commands; leave --command out")
    if path.suffix.lower() == ".toml":
        written = read_config(path)
        tree = {_strip_dashes(name): value for name, value in written.tree.items()}
        lines = {
            (_strip_dashes(str(key[0])), *key[1:]): line for key, line in written.lines.items()
        }
        written, form = Written(path, tree, lines), "SimpleTuner config.toml"
    else:
        written, form = read_environment(path), "SimpleTuner config.env"
    if POINTER not in written.tree:
        return (_find_beside(path),)
    listed = written.tree[POINTER]
    if isinstance(listed, str) and locate(listed, path.parent)[0] is None:
        folders = list(path.absolute().parents)[1 : 1 + _UP]
        places = (locate(listed, folder)[0] for folder in folders)
        if (file := next((place for place in places if place is not None), None)) is not None:
            written.tree[POINTER] = str(file)
    return (ConfigSource("simpletuner", "both", form, written),)


def _find_beside(path: Path) -> Path:
    """What an environment that names no list belongs to; BadImport where nothing lies beside it."""
    for name in ("config.json", "multidatabackend.json"):
        if path.with_name(name).is_file():
            return path.with_name(name)
    raise BadImport(
        f"{path}: sets no DATALOADER_CONFIG, and no config.json or multidatabackend.json lies"
        " beside it: add DATALOADER_CONFIG with the list of its data sets"
    )


def _strip_dashes(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


FORM = SourceForm("SimpleTuner's config.env or config.toml", matches, read)
