"""The commands that a run of an image adapter names, of every kind: they run as they stand."""

from pathlib import Path
from typing import Any

import pytest
from tests.runs.image_adapters.stages import (
    ask_command,
    config_of_stage,
    sample_pictures,
    write_stages,
)

from frisket.config.tree import Config
from frisket.recipes.train import train
from frisket.runs.image_adapters.results import describe_result

PICTURES: dict[str, Any] = {"embedder": "", "embedder_source": None, "detector": ""}
TABLES: dict[str, dict[str, Any]] = {
    "base": PICTURES,
    "plus": PICTURES,
    "full": PICTURES,
    "faceid": {"embedder": "tiny", "embedder_source": None},
    "instantid": {"strokes": "scaled"},
    "uniid-text": {},
    "uniid-adapter": {},
}
QUICK = ("base", "faceid", "uniid-text")  # the others' commands have no option of their own


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stages(tmp_path_factory.mktemp("commands"))


def read_card_command(config: Config) -> str:
    """The command of the card, which is for the run's folder, with the networks lying there."""
    card = (config.run.output / "README.md").read_text(encoding="utf-8")
    result = describe_result(config.image_adapter.kind)
    assert f"`{result.path.as_posix()}`" in card
    assert str(config.run.output.parent) not in card
    (command,) = [line.strip() for line in card.splitlines() if line.startswith("    ")]
    for source in (config.image_adapter.encoder, config.image_adapter.embedder_source):
        if source is not None:
            (config.run.output / source.name).symlink_to(source)
    return command


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in TABLES],
)
def test_both_commands_run_and_sample_alike(
    world: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = dict(TABLES[kind])
    if kind in ("base", "plus", "full"):
        table["encoder"] = world / "encoder"
    config = config_of_stage(
        world, tmp_path / "run", kind,
        image_adapter=table, validation={"holdout": 0}, run={"steps": 1, "save_every": 0},
    )  # fmt: skip
    result = train(config)
    assert result.image_adapter == config.run.output / describe_result(kind).path
    base, adapted = sample_pictures(config, ask_command(config))
    assert base != adapted
    monkeypatch.chdir(config.run.output)
    assert sample_pictures(config, read_card_command(config)) == [base, adapted]
