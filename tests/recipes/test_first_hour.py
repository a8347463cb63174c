"""What a newcomer is told before anything is trained: a model that fits, its size, the device."""

from dataclasses import replace
from pathlib import Path

import pytest

from frisket.config.load import check, read
from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.inspection.dataset_scan import DatasetScan
from frisket.media.folders.discovery import DiscoveredMasks
from frisket.recipes.init import write as writing
from frisket.recipes.init.model_choice import choose, find_recipe, read_recipes
from frisket.recipes.init.write import init
from frisket.runs.opening import opening

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
PICTURES = DatasetScan(
    *(Path("clips"), 12, 0, 1, 900, 1200),
    *(DiscoveredMasks("none", {}), None, 0, "", ()),
)
CLIPS = replace(PICTURES, videos=12, frames=80)


@pytest.mark.parametrize("room", [None, 7.5, 11.6, 15.6, 23.5, 79.0])
@pytest.mark.parametrize("seen", [PICTURES, CLIPS], ids=["pictures", "clips"])
def test_pictures_get_no_video_model_and_all_fits_the_card(
    room: float | None, seen: DatasetScan
) -> None:
    found = choose(seen, room)
    card = FAMILIES.load(found.family).variants[found.variant]
    assert card.video == (seen.videos > 0)
    assert card.sees == "nothing"
    assert found.recipe is not None
    (said,) = found.messages
    if room is None:
        assert "no GPU" in said
    else:
        assert found.recipe.fits(room)
        assert f"peak {found.recipe.peak:.1f} GiB" in said
        assert "GB to download" in said


def test_a_larger_card_never_gets_a_smaller_model() -> None:
    taken = [choose(PICTURES, room).recipe for room in (7.5, 11.6, 15.6, 23.5, 79.0)]
    sizes = [each.billions for each in taken if each]
    assert sizes == sorted(sizes)


def test_a_card_that_nothing_fits_is_told_so() -> None:
    (said,) = choose(PICTURES, 2.0).messages
    assert "no model is known to fit 2 GiB" in said


def test_what_is_written_for_a_card_is_the_recipe_of_that_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "measure_card", lambda: 15.6)
    lines = init(PHOTOS, tmp_path / "frisket.toml")
    assert any("your card has 16 GiB" in line for line in lines)
    config, origin = read(tmp_path / "frisket.toml")
    check(config, origin)
    recipe = find_recipe(config.model.family, config.model.variant, 15.6)
    assert recipe is not None
    assert config.memory.quantise == recipe.memory["quantise"]
    assert config.memory.checkpointing


def test_a_family_asked_for_is_fitted_to_the_card_too() -> None:
    small = find_recipe("wan", "2.2-t2v-a14b", 11.6)
    large = find_recipe("wan", "2.2-t2v-a14b", 79.0)
    assert small is not None
    assert large is not None
    assert small.memory["swap_blocks"] > large.memory.get("swap_blocks", 0)
    assert find_recipe("pocket", "image", 15.6) is None


def test_every_recipe_is_of_a_model_that_is_there() -> None:
    for each in read_recipes():
        assert each.variant in FAMILIES.load(each.family).variants
        assert each.memory["checkpointing"] or each.billions < 3


def test_the_first_lines_say_model_device_and_download() -> None:
    config = Config.model_validate(
        {"model": {"family": "flux", "variant": "dev", "device": "cpu", "dtype": "bfloat16"}}
    )
    lines = list(opening(config))
    assert lines[0] == "flux dev on cpu"
    assert "takes days" in lines[1]
    assert "black-forest-labs/FLUX.1-dev is not on this machine" in lines[2]
    assert "24 GB for the denoiser" in lines[2]


def test_a_small_local_model_has_nothing_to_say_but_its_name(tmp_path: Path) -> None:
    config = Config.model_validate({"model": {"source": str(tmp_path), "device": "cpu"}})
    assert len(list(opening(config))) == 1
