"""Real little data sets on disk, and what becomes of an imported configuration."""

import json
import tomllib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit
from PIL import Image

from frisket.config.tree import Config
from frisket.importers.base import Imported, Note
from frisket.importers.files import format_key, read_config
from frisket.importers.options import OptionRules
from frisket.media.captions import Wording
from frisket.media.files import Findings, find


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., Path]:
    """Draw pictures (or masks, L; or pictures with transparency, RGBA), named with suffix."""

    def make(folder: str, *names: str, mode: str = "RGB", caption: str = "") -> Path:
        root = tmp_path / folder
        root.mkdir(parents=True, exist_ok=True)
        for seed, name in enumerate(names):
            shape = (24, 32) if mode == "L" else (24, 32, len(mode))
            pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels, mode).save(root / name)
            if caption:
                (root / name).with_suffix(".txt").write_text(caption)
        return root

    return make


@pytest.fixture
def loaded() -> Callable[[Imported], Config]:
    """The configuration as Frisket reads it back from TOML."""

    def load(imported: Imported) -> Config:
        tree = {"data": list(imported.data), **imported.sections}
        return Config.model_validate(tomllib.loads(tomlkit.dumps(tree)))

    return load


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Imported], Imported]:
    """The same with its manifests on disk, named by their whole path."""

    def write(imported: Imported) -> Imported:
        for name, lines in imported.manifests.items():
            text = "".join(f"{json.dumps(line)}\n" for line in lines)
            (tmp_path / name).write_text(text, encoding="utf-8")
        data = tuple(
            {**table, "clips": str(tmp_path / table["clips"])}
            if table["clips"] in imported.manifests
            else table
            for table in imported.data
        )
        return replace(imported, data=data)

    return write


@pytest.fixture
def found() -> Callable[..., Findings]:
    """What Frisket finds for one `[[data]]` table."""

    def look(config: Config, number: int = 0) -> Findings:
        data = config.data[number]
        masks = data.masks
        folders = {"": masks.path} if masks.path else dict(masks.regions)
        return find(
            data.clips,
            masks=masks.source,
            folders=folders,
            captions=data.captions,
            caption=data.caption,
            wording=Wording(data.caption_extension, data.caption_part),
        )

    return look


@pytest.fixture
def notes() -> Callable[[Imported], Mapping[str, Sequence[Note]]]:
    """The notes of each option."""

    def sort(imported: Imported) -> Mapping[str, Sequence[Note]]:
        sorted_: dict[str, list[Note]] = defaultdict(list)
        for note in imported.notes:
            sorted_[note.option].append(note)
        return sorted_

    return sort


@pytest.fixture
def complete() -> Callable[..., None]:
    """Every key in a file has a note, with the line it stands in; and every note says something."""

    def leaves(tree: Any, key: tuple[str | int, ...], inner: Callable[[Any], bool]) -> Any:
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for name, value in pairs:
            if inner((*key, name)):
                yield from leaves(value, (*key, name), inner)
            elif isinstance(name, str):
                yield (*key, name)

    def check(imported: Imported, file: Path, tables: Sequence[str], prefix: str = "") -> None:
        written = read_config(file)

        def inner(key: tuple[str | int, ...]) -> bool:
            names = [part for part in key if isinstance(part, str)]
            return ".".join(names) in tables

        told = {note.option: note for note in imported.notes}
        for key in leaves(written.tree, (), inner):
            note = told[prefix + format_key(key)]
            assert note.line == written.line(key)
        for note in imported.notes:
            assert note.message
            assert "  " not in note.message

    return check


@pytest.fixture
def documented() -> Callable[[OptionRules, str], set[str]]:
    """The options of a section that are named in full."""

    def names(rules: OptionRules, section: str) -> set[str]:
        return {name for name in rules.sections[section] if "*" not in name}

    return names
