"""Composites as a configuration asks for them: refusals, the banner, the sheet."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from rich.console import Console

from frisket.config.load import ConfigError, check
from frisket.config.tree import Config
from frisket.data.loader import Loader
from frisket.media.frames import write_image
from frisket.pocket.world import ZIGZAG, draw, random_creature
from frisket.runs import banner
from frisket.runs.prepare import prepare


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two concepts, two clips each, masks in folders of their own."""
    for number in range(4):
        concept = tmp_path / ("cat" if number < 2 else "dog")
        picture, planes = draw(random_creature(np.random.RandomState(number), ZIGZAG))
        grey = (np.clip(sum(planes.values()), 0, 1) * 255).round().astype(np.uint8)
        write_image(concept / "clips" / f"{number}.png", torch.from_numpy(picture.copy()))
        mask = torch.from_numpy(grey)[..., None].expand(-1, -1, 3).contiguous()
        write_image(concept / "masks" / f"{number}.png", mask)
        (concept / "clips" / f"{number}.txt").write_text(f"a {concept.name}")
    return tmp_path


def build_config(project: Path, **tables: Any) -> Config:
    sets = [
        {"clips": project / name / "clips", "masks": {name: project / name / "masks"}}
        for name in ("cat", "dog")
    ]
    tree = {
        "data": sets,
        "regions": {"cat": 1.0, "dog": 1.0},
        "model": {"device": "cpu"},
        "run": {"cache": project / "cache"},
    }
    return Config.model_validate({**tree, **tables})


def test_a_configuration_mixes_two_concepts_and_shows_a_sheet_of_it(project: Path) -> None:
    config = build_config(
        project,
        mix={"rate": 0.5, "variants": 2, "ground": "swap"},
        swap={"rate": 0.5, "source": "noise", "variants": 2, "space": "latent"},
    )
    done = prepare(config)
    assert done.mix_rate == 0.5
    assert done.mix_sheet is not None
    assert done.mix_sheet.parent == project / "cache" / "mixes"
    with Image.open(done.mix_sheet) as sheet:
        assert min(sheet.size) > 300
    written = done.mix_sheet.stat().st_mtime_ns
    console = Console(width=300, record=True, file=io.StringIO())
    banner.show(config, done, console)
    words = console.export_text()
    assert f"50% of draws: {sum(len(i.mixes) for i in done.items)} mixes of 2 subjects" in words
    assert "backgrounds, laid under latents" in words
    again = prepare(config)
    assert again.digest == done.digest
    assert again.mix_sheet == done.mix_sheet
    assert done.mix_sheet.stat().st_mtime_ns == written
    batches = [Loader(each, batch=2, seed=0, prefetch=0) for each in (done, again)]
    stream = batches[1].stream(start=5)
    assert torch.equal(next(stream).latents, batches[0].at(5).latents)


def test_mixes_are_off_unless_asked_for(project: Path) -> None:
    plain = build_config(project)
    assert all(not item.mixes for item in prepare(plain).items)
    assert prepare(plain).mix_sheet is None


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"mix": {"rate": 0.5, "ground": "swap"}}, "set swap.rate"),
        ({"mix": {"template": "{a} only"}}, "must hold {a} and {b}"),
        ({"mix": {"scale": [1.0, 0.5]}}, r"\[smallest, largest\]"),
        ({"mix": {"space": "latent", "scale": [0.5, 0.9]}}, "`scale` is for pixels"),
        ({"mix": {"subjects": 1}}, "greater than or equal to 2"),
        ({"swap": {"space": "latent", "despill": 0.5}}, "`despill` mends the colour of pixels"),
        ({"swap": {"grow": 2.0}}, "`grow` is of the cells that are kept in latent space"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(
    project: Path, tables: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        build_config(project, **tables)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"swap": {"rate": 0.5, "source": "flat", "space": "latent"}}, r"swap\.space"),
        ({"mix": {"rate": 0.5, "space": "latent"}}, r"mix\.space"),
    ],
)
def test_models_that_see_pictures_are_refused_latent_composites(
    project: Path, tables: dict[str, Any], message: str
) -> None:
    model = {"family": "wan", "variant": "2.1-i2v-14b-480p", "device": "cpu"}
    with pytest.raises(ConfigError, match=message):
        check(build_config(project, model=model, **tables))
