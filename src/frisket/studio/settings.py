"""What a user chose for this folder and is remembered: folders of models."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frisket.disk.atomic import replacing
from frisket.disk.untrusted import BadText, read_table

FILE = "settings.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one opened folder."""

    models: tuple[Path, ...] = ()  # folders of SAM 2, SAM 3, CLIPSeg ...


def read_settings(home: Path) -> Settings:
    """The settings kept in `home`; ValueError where the file is damaged."""
    path = home / FILE
    if not path.is_file():
        return Settings()
    try:
        table = read_table(path)
    except BadText as error:
        raise ValueError(f"{path}: {error}; mend it, or delete it") from error
    models = table.get("models", [])
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise ValueError(f"{path}: models should be a list of folders; mend it, or delete it")
    return Settings(tuple(Path(model) for model in models))


def remember_models(home: Path, folders: Sequence[Path]) -> None:
    """Keep folders of models; FileNotFoundError for one without a config.json."""
    for folder in folders:
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"{folder}: no model lies there (no config.json); give the folder that holds it"
            )
    home.mkdir(parents=True, exist_ok=True)
    with replacing(home / FILE) as draft:
        models = [str(folder.resolve()) for folder in folders]
        draft.write_text(json.dumps({"models": models}, indent=1) + "\n", encoding="utf-8")
