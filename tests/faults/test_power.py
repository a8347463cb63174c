"""What a stranger's file could make the command line do or say, and does not."""

import errno
import sys
from pathlib import Path

import pytest
from PIL import Image

from frisket.cli import app, options
from frisket.config.load import ConfigError, check, read
from frisket.maskgen.files import record
from frisket.recipes.import_ import run as imported


def test_an_import_brings_no_module_that_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evilmod.py").write_text("raise RuntimeError('it ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    theirs = tmp_path / "theirs"
    (theirs / "cats").mkdir(parents=True)
    Image.new("RGB", (32, 32), 200).save(theirs / "cats" / "a.png")
    (theirs / "set.toml").write_text('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\n')
    (theirs / "train.toml").write_text(
        'dataset_config = "set.toml"\noptimizer_type = "evilmod.Evil"\ntrust = true\n'
        'optimizer_args = ["trust=True"]\nnetwork_module = "networks.lora"\n'
    )
    said = imported(theirs / "train.toml", tmp_path / "mine.toml", trainer="kohya")
    assert any("optimizer.trust = true" in line for line in said)
    config, origin = read(tmp_path / "mine.toml")
    assert (config.optimizer.name, config.optimizer.trust) == ("evilmod.Evil", False)
    with pytest.raises(ConfigError, match=r"would import the module 'evilmod'"):
        check(config, origin)
    assert "evilmod" not in sys.modules


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\x07", r"a\x1b[31mred\x07"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("über 😀", "über 😀"),
        ("\x9b31m\r", r"\x9b31m\r"),
    ],
)
def test_control_characters_of_a_name_are_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert options.escape_controls(text) == shown
    assert app._format_error(ValueError(text)) == shown


def test_no_message_is_endless() -> None:
    said = app._format_error(ValueError("a" * 5_000_000 + "z"))
    assert len(said) < 9000
    assert said.endswith("z")
    assert "(4992001 letters)" in said


def test_a_full_disk_that_nobody_named_is_explained() -> None:
    said = app._format_error(OSError(errno.ENOSPC, "No space left on device"))
    assert said.startswith("No space left on device: free some space where run.output, run.cache")
    assert "TMPDIR" in said


def test_a_record_cannot_have_another_file_removed(tmp_path: Path) -> None:
    """A mask that is made anew takes the place of those its record names: of its own folder."""
    (tmp_path / "masks").mkdir()
    precious = tmp_path / "precious.png"
    Image.new("L", (8, 8)).save(precious)
    made = record.MaskRecord(
        clip=record.Stamp.of(precious),
        frames=1,
        height=8,
        width=8,
        status="done",
        settings={},
        key="",
        masks=(record.Stamp.of(precious, "../precious.png"),),
    )
    record.save(made, tmp_path / "masks" / "a.json")
    with pytest.raises(record.BadMaskRecord, match="outside its folder"):
        record.load(tmp_path / "masks" / "a.json")
