"""SimpleTuner's settings as a config.env or a config.toml, beside the config.json it reads now."""

import re
from pathlib import Path

from frisket.disk.untrusted import BadText, read_text
from frisket.importers.base import BadLayout
from frisket.importers.files import Written, peek, place, read_config
from frisket.importers.shells.simpletuner_env import read_environment
from frisket.importers.source_base import Form, Source, Sources

POINTER = "data_backend_config"
_SETS_DATA = re.compile(r"^\s*(?:export\s+)?(DATALOADER_CONFIG|DATA_BACKEND_CONFIG)=", re.MULTILINE)
_UP = 3  # folders above a configuration in which SimpleTuner may have been started


def suits(path: Path) -> bool:
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
        raise BadLayout(f"{path}: holds no commands; leave --command out")
    if path.suffix.lower() == ".toml":
        written = read_config(path)
        plain = {_bare(name): value for name, value in written.tree.items()}
        lines = {(_bare(str(key[0])), *key[1:]): line for key, line in written.lines.items()}
        written, form = Written(path, plain, lines), "SimpleTuner config.toml"
    else:
        written, form = read_environment(path), "SimpleTuner config.env"
    if POINTER not in written.tree:
        return (_beside(path),)
    listed = written.tree[POINTER]
    if isinstance(listed, str) and place(listed, path.parent)[0] is None:
        folders = list(path.absolute().parents)[1 : 1 + _UP]
        found = (place(listed, folder)[0] for folder in folders)
        if (file := next((each for each in found if each is not None), None)) is not None:
            written.tree[POINTER] = str(file)
    return (Source("simpletuner", "both", form, written),)


def _beside(path: Path) -> Path:
    """What an environment that names no list belongs to; BadLayout where nothing lies beside it."""
    for name in ("config.json", "multidatabackend.json"):
        if path.with_name(name).is_file():
            return path.with_name(name)
    raise BadLayout(
        f"{path}: sets no DATALOADER_CONFIG, and no config.json or multidatabackend.json lies"
        " beside it: add DATALOADER_CONFIG with the list of its data sets"
    )


def _bare(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


FORM = Form("SimpleTuner's config.env or config.toml", suits, read)
