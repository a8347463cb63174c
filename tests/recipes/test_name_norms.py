"""`frisket name-norms`: the lengths of people's names, by command and text encoders."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from frisket.adapters.image.branches import ADAPTER, TEXT, write_branch
from frisket.adapters.image.layouts import recognise
from frisket.adapters.image.uniid import UniIdTextProjection
from frisket.cli.app import app
from frisket.families import tiny
from frisket.families.base import FAMILIES, Source
from frisket.inference.methods.identity.uniid.name_norms import (
    measure_name_norms,
    read_name_norms,
)

NAMES = ("Ada Lovelace", "Bo Li", "Maximilian of Nowhere")


def write_text_branch(folder: Path) -> Path:
    """Words for two encoders of 64 channels, three each, of random weights."""
    torch.manual_seed(0)
    write_branch(folder / TEXT, recognise(UniIdTextProjection((64, 64), 3).state_dict(), {}))
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of two text encoders and one of one, names, and UniID's words."""
    folder = tmp_path_factory.mktemp("norms")
    for variant in ("sdxl", "sd15"):
        family = FAMILIES.load("stable_diffusion")
        parts: Any = family.tiny(variant)
        torch.manual_seed(1)
        parts.text.text_encoder = tiny.clip_text(64)
        if variant == "sdxl":
            parts.text.text_encoder_2 = tiny.clip_text(64, projection=16)
        family.save(parts, folder / variant)
        table = f'family = "stable_diffusion"\nvariant = "{variant}"\nsource = "{folder / variant}"'
        (folder / f"{variant}.toml").write_text(f"[model]\n{table}\n")
    (folder / "pocket.toml").write_text('[model]\nfamily = "pocket"\nvariant = "dit"\n')
    (folder / "names.txt").write_text("\n".join([*NAMES[:1], "", f"  {NAMES[1]} ", NAMES[2], ""]))
    (folder / "short.txt").write_text("A\n")
    (folder / "empty.txt").write_text("\n \n")
    (folder / "bytes.txt").write_bytes(b"\xff\xfe\x00\xd8")
    write_text_branch(folder / "uniid")
    (folder / "nothing" / ADAPTER).mkdir(parents=True)
    return folder


def measure(world: Path, config: str, names: str, source: str) -> Any:
    words = ["name-norms", str(world / config), "--names", str(world / names)]
    return CliRunner().invoke(app, [*words, "--source", str(world / source)])


def test_norms_lie_where_sampling_reads_them(world: Path) -> None:
    answer = measure(world, "sdxl.toml", "names.txt", "uniid")
    assert answer.exit_code == 0, answer.output
    file = world / "uniid" / "name_norms.json"
    assert str(file) in answer.output.replace("\n", "")
    family = FAMILIES.load("stable_diffusion")
    text = family.load_text(Source("sdxl", path=str(world / "sdxl")))
    for values, expected in zip(
        read_name_norms(world / "uniid", 3, 2), measure_name_norms(text, NAMES, 3), strict=True
    ):
        torch.testing.assert_close(values, expected)
    assert all(value > 0 for row in json.loads(file.read_text())["norms"] for value in row)


def test_measuring_again_takes_the_new_names(world: Path, tmp_path: Path) -> None:
    source = write_text_branch(tmp_path / "uniid")
    norms = []
    for name in ("Ada Lovelace", "Zebedee Quux"):
        (tmp_path / "names.txt").write_text(name)
        answer = measure(world, "sdxl.toml", str(tmp_path / "names.txt"), str(source))
        assert answer.exit_code == 0, answer.output
        norms.append(torch.stack(read_name_norms(source, 3, 2)))
    assert not torch.equal(*norms)


@pytest.mark.parametrize(
    ("config", "names", "source", "message"),
    [
        ("sdxl.toml", "empty.txt", "uniid", "holds no names"),
        ("sdxl.toml", "missing.txt", "uniid", "cannot be read as text"),
        ("sdxl.toml", "bytes.txt", "uniid", "cannot be read as text"),
        ("sdxl.toml", "short.txt", "uniid", "none of 1 names has 3 tokens"),
        ("sdxl.toml", "names.txt", "nothing", "has no text_branch/pytorch_model.bin"),
        ("sdxl.toml", "names.txt", "missing", "has no text_branch/pytorch_model.bin"),
        ("sd15.toml", "names.txt", "uniid", "has 1 text encoders, and the words"),
        ("pocket.toml", "names.txt", "uniid", "UNet"),
    ],
)
def test_what_cannot_be_measured_is_said(
    world: Path, config: str, names: str, source: str, message: str
) -> None:
    written = world / source / "name_norms.json"
    before = written.read_bytes() if written.is_file() else None
    answer = measure(world, config, names, source)
    assert answer.exit_code != 0
    assert not isinstance(answer.exception, AssertionError)
    words = " ".join(answer.output.replace("│", " ").split())
    assert message in words + str(answer.exception)
    assert (written.read_bytes() if written.is_file() else None) == before
