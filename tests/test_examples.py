"""The example recipes: each is understood, suits its model, and is foretold to fit its card."""

import re
from pathlib import Path

import pytest
from scripts.examples_page import PAGE, TABLE, page, parts, peak_of, table

from frisket.config.load import check, read
from frisket.families.base import FAMILIES
from frisket.runs.memory.estimate import predict
from frisket.runs.memory.report import estimate_need
from frisket.training.memory.plan import MemoryPlan
from frisket.training.memory.plan import check as check_memory

EXAMPLES = Path(__file__).parents[1] / "examples"
RECIPES = sorted((EXAMPLES / "families").glob("*.toml"))
CARDS = (12, 16, 24, 80)  # GB as cards are sold by: GiB of memory
LARGER = ("flux2-dev",)  # with no recipe for the smallest card; docs/families.md says so
QUICK = ("flux2-klein-base-4b-12gb",)  # `make test-slow` takes the rest
# Their attention masks have tokens x tokens numbers, which a rehearsal fills in for real: an hour.
ENDLESS = ("hunyuan_video-1.5-480p-t2v-24gb", "hunyuan_video-1.5-480p-t2v-80gb")
PREDICTED = [path for path in RECIPES if path.stem not in ENDLESS]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_understood_and_suits_its_model(path):
    family, variant, card = parts(path)
    config, origin = read(path)
    check(config, origin)
    assert (config.model.family, config.model.variant) == (family, variant)
    assert card in CARDS
    (data,) = config.data
    grid = FAMILIES.load(family).variants[variant].grid
    if isinstance(data.resolution, tuple):
        assert all(side % grid.step == 0 for side in data.resolution)
    assert data.frames is None or data.frames == grid.fit_frames(data.frames)
    assert data.masks.source == "folder"
    assert config.losses.terms["prior"]["strength"] > 0
    assert config.run.precision == config.model.dtype == "bfloat16"
    memory = config.memory.model_dump() | {"quantise": "none"}  # its package may not be here
    check_memory(MemoryPlan(**memory), adapter=config.lora.kind)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_setting_says_why(path):
    text = path.read_text(encoding="utf-8")
    assert f"frisket train {path.name}" in text
    for key in ("rank", "lr", "clips", "masks", "checkpointing", "quantise", "swap_blocks"):
        for line in text.splitlines():
            assert not line.startswith(f"{key} =") or " # " in line, line
    if "device=cpu" in text:  # what needs the text encoder on the card is left out
        config, _ = read(path)
        assert config.swap.rate == 0 or config.swap.source != "bank"
        assert config.preview.every == 0


def test_there_is_a_recipe_for_the_smallest_card_that_takes_a_model():
    least: dict[str, int] = {}
    for path in RECIPES:
        family, variant, card = parts(path)
        least[f"{family}-{variant}"] = min(card, least.get(f"{family}-{variant}", card))
    assert len(least) == 17
    assert {name for name, card in least.items() if card > CARDS[0]} == set(LARGER)


def test_the_page_lists_every_recipe():
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"families/([\w.-]+\.toml)", page))
    assert named == {path.name for path in RECIPES}


def test_the_page_says_what_the_recipes_say():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"
    assert TABLE.read_text(encoding="utf-8") == table(), "run `make docs`"


def foretold(path: Path) -> None:
    """A recipe fits the card in its name, with CUDA's own needs and slack on top."""
    config, _ = read(path)
    _, _, card = parts(path)
    prediction = predict(config, prepare=False)
    assert estimate_need(prediction) <= card * 1024, (
        f"{path.name} needs {estimate_need(prediction):.0f} MiB"
    )
    assert peak_of(path) == pytest.approx(prediction.training / 1024, abs=0.06), path.name


@pytest.mark.parametrize("name", QUICK)
def test_a_recipe_fits_its_card(name):
    foretold(EXAMPLES / "families" / f"{name}.toml")


@pytest.mark.slow
@pytest.mark.parametrize("path", PREDICTED, ids=lambda path: path.stem)
def test_every_recipe_fits_its_card(path):
    foretold(path)
