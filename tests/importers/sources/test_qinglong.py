"""Presets of the qinglong GUI become the options that its own code starts musubi-tuner with."""

import json
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from frisket.importers.base import BadImport
from frisket.importers.shells.options import parse
from frisket.importers.shells.words import Word
from frisket.importers.source_base import ConfigSource, read_source

RECORD = json.loads((Path(__file__).parent / "qinglong.json").read_text("utf-8"))


def read(folder: Path, given: dict[str, Any]) -> ConfigSource:
    (folder / "preset.toml").write_text(tomlkit.dumps(given))
    found = read_source(folder / "preset.toml")
    assert found is not None
    (source,) = found
    assert isinstance(source, ConfigSource)
    return source


@pytest.mark.parametrize("case", RECORD["cases"], ids=lambda case: case["name"])
def test_every_option_is_what_the_gui_starts_with(tmp_path: Path, case: dict[str, Any]) -> None:
    given = RECORD["presets"][case["preset"]] | {"dataset_config": "data.toml"} | case["more"]
    source = read(tmp_path, given)
    words = [Word(text, 1) for text in case["args"]]
    assert source.script == case["script"]
    assert source.written.tree == parse(words, "musubi", case["script"]).tree


def test_lines_and_what_is_lacking(tmp_path: Path) -> None:
    given = RECORD["presets"]["wan2_1"] | {"soar": True, "strange": 4}
    source = read(tmp_path, given)
    rows = (tmp_path / "preset.toml").read_text().split("\n")
    assert rows[source.written.lines[("dit",)] - 1].startswith("dit_path")
    assert rows[source.written.lines[("optimizer_args",)] - 1].startswith("optimizer_type")
    notes = {note.option: note for note in source.notes}
    assert notes["soar"].kind == "no equivalent"
    assert notes["strange"].kind == "not needed"


def test_models_that_are_not_here_and_broken_numbers(tmp_path: Path) -> None:
    given = RECORD["presets"]["wan2_1"]
    with pytest.raises(BadImport, match=r"arch = 'Lens': none of the models here"):
        read(tmp_path, given | {"arch": "Lens"})
    with pytest.raises(BadImport, match=r"preset\.toml line \d+: seed = 'x'.*whole number"):
        read(tmp_path, given | {"seed": "x"})
