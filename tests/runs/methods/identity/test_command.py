"""`frisket generate --method` and `frisket methods` as they are typed."""

import json
import re
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from tests.runs.methods.identity.test_generate import write_lora
from tests.runs.methods.identity.toy import Album

from frisket.cli import app as app_module
from frisket.config.load import check
from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.inference.methods.plugin import METHODS

ROOT = Path(__file__).parents[4]
TOY = ["--method", "toy", "--face", "a.png", "--method-source", "x"]


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Run a command in this process, in `tmp_path`."""

    def run(*words: Any) -> SimpleNamespace:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["frisket", *map(str, words)])
        capsys.readouterr()
        code: Any = 0
        try:
            app_module.main()
        except SystemExit as stop:
            code = stop.code
        output = capsys.readouterr()
        return SimpleNamespace(code=code, out=output.out, error=" ".join(output.err.split()))

    return run


def list_words(album: Album, *faces: Path) -> list[Any]:
    """The options of one toy."""
    words = ["--method", "toy", "--method-source", album.folder / "toy", "--embedder", "tiny"]
    words += ["--detector", "toy_faces", "--detector-source", album.folder]
    return words + [word for face in faces for word in ("--face", face)]


def test_a_method_is_typed_with_and_without_a_lora(
    here: Any, model: Path, album: Album, tmp_path: Path
) -> None:
    ada, bob = album.draw("ada", 1), album.draw("bob", 2)
    text = f'[model]\nsource = "{model}"\ndevice = "cpu"\n[run]\noutput = "run"\n'
    (tmp_path / "frisket.toml").write_text(text)
    sampling = ["--prompt", "a ring", "--steps", 1, "-o", "out"]
    typed = here("generate", *sampling, *list_words(album, ada))
    assert typed.code == 0, typed.error
    assert "lora.safetensors is not there: the methods act on the base model" in typed.error
    record = json.loads((tmp_path / "out" / "generate.json").read_text())
    assert (record["lora"], len(record["methods"])) == ([], 1)
    table = album.table(ada, bob)
    keys = {key: str(value) for key, value in table.items() if key != "faces"}
    rows = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    tables = "\n".join(["[[identity]]", 'faces = ["album/ada.png", "album/bob.png"]', *rows])
    (tmp_path / "frisket.toml").write_text(f"{text}{tables}\n")
    (tmp_path / "run").mkdir()
    write_lora(tmp_path / "run" / "lora.safetensors")
    filed = here("generate", *sampling[:-1], "both", "--compare")
    assert filed.code == 0, filed.error
    record = json.loads((tmp_path / "both" / "generate.json").read_text())
    assert len(record["methods"][0]["faces"]) == 2
    assert len(record["pictures"]) == 4
    bare = here("generate", *sampling[:-1], "bare", "--base", "--set", "identity=[]")
    assert bare.code == 0, bare.error
    assert "methods" not in json.loads((tmp_path / "bare" / "generate.json").read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--face", "ada.png"], "--face is of a method, and none is named: add --method NAME"),
        (["--method", "toi"], "toi is shown no picture"),
        (["--method", "toi", "--face", "a.png"], "--method toi: [[identity]] needs `source`"),
        (
            ["--method", "toi", "--face", "a.png", "--method-source", "x"],
            "--method toi: no method is named 'toi', did you mean `toy`",
        ),
        (
            [*TOY, "--method-option", "tnit=1"],
            "--method toy: toy has no option 'tnit', did you mean `tint`",
        ),
        (
            TOY,
            "there is no x (--method-source); it must be a folder with tokens.safetensors",
        ),
    ],
)
def test_what_is_mistyped_is_one_line(
    here: Any, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "frisket.toml").write_text('[model]\nsource = "gone"\ndevice = "cpu"\n')
    typed = here("generate", "--prompt", "a ring", "--base", *words)
    assert typed.code == 2
    assert message in typed.error


def test_the_page_shows_options_that_there_are() -> None:
    text = (ROOT / "docs" / "identity.md").read_text(encoding="utf-8")
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    blocks, toml = (
        "\n".join(block for name, block in fences if name == language) for language in ("", "toml")
    )
    commands: Any = typer.main.get_command(app_module.app)
    options = {name for option in commands.commands["generate"].params for name in option.opts}
    assert {word for word in blocks.split() if word.startswith("-")} <= options
    names = re.findall(r"--method (\w+)", blocks)
    assert names
    assert "--method-mask" in blocks
    assert set(names) <= set(METHODS.names())
    tables = tomllib.loads(toml)
    assert tables["identity"]
    check(Config.model_validate(tables))


def test_methods_are_listed_with_what_they_need(here: Any, tmp_path: Path) -> None:
    listed = here("methods")
    for name in METHODS.names():
        assert f"{name}: {METHODS.load(name).summary}" in listed.out
    assert "pocket (image)" in listed.out
    assert 'tint = 1.0, where = "all"' in listed.out
    tree = json.loads(here("methods", "--json").out)
    entries = {entry["name"]: entry for entry in tree["methods"]}
    assert entries["toy"]["runs"] == {"pocket": ["image"]}
    count = sum(len(FAMILIES.load(name).variants) for name in FAMILIES.names())
    assert len(entries["toy"]["refused"]) == count - 1
    assert {network["kind"] for network in tree["networks"]} == {"embedder", "detector"}
    others = here("methods", "--family", "wan").out
    assert "toy:" not in others
    wrong = here("methods", "--family", "wann")
    assert (wrong.code, "did you mean 'wan'" in wrong.error) == (2, True)
    here("methods", "--reference", tmp_path / "page.md")
    assert "## `toy`" in (tmp_path / "page.md").read_text()
