"""The same run on other clips: their masks are read as the run reads its own."""

from pathlib import Path
from typing import Any

import pytest

from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.scoring.runs import with_other_clips

CLIPS, MASKS = Path("/other/clips"), "/other/masks"


def config_of(**data: Any) -> Config:
    named = {"face": 1.0, "hair": 0.5, "background": 0.1}
    tree = {"data": [{"clips": "/own/clips", **data}], "regions": named}
    return Config.model_validate(tree | {"validation": {"holdout": 3}})


def test_grey_levels_and_cleaning_stay_and_the_folder_is_the_other() -> None:
    masks = {"path": "/own/masks", "levels": {"face": 255, "hair": 128}, "grow": 2.0}
    config = with_other_clips(config_of(masks=masks, resolution=64, flip=True), CLIPS, MASKS)
    (data,) = config.data
    assert data.clips == CLIPS
    assert data.masks.path == Path(MASKS)
    assert data.masks.levels == masks["levels"]
    assert data.masks.grow == 2.0
    assert data.resolution == 64
    assert not data.flip
    assert config.validation.holdout == 0


def test_a_folder_a_region_is_looked_for_below() -> None:
    regions = {"face": "/own/a", "hair": "/own/b"}
    (data,) = with_other_clips(config_of(masks=regions), CLIPS, MASKS).data
    assert data.masks.regions == {name: Path(MASKS) / name for name in regions}


@pytest.mark.parametrize("source", ["alpha", "sidecar"])
def test_masks_that_lie_with_their_clips_need_no_folder(source: str) -> None:
    for config, said in ((config_of(masks=source), ""), (config_of(masks="/own/masks"), source)):
        (data,) = with_other_clips(config, CLIPS, said).data
        assert (data.masks.source, data.masks.path) == (source, None)
    with pytest.raises(ConfigError, match="needs its masks"):
        with_other_clips(config_of(masks="/own/masks"), CLIPS, "")


def test_clips_without_captions_go_by_the_trigger() -> None:
    (data,) = with_other_clips(config_of(masks="alpha", trigger="sks"), CLIPS, "").data
    assert data.caption == "sks"
    assert data.captions is None


def test_nothing_is_swapped_or_mixed_while_measuring() -> None:
    swap = {"rate": 0.5, "source": "noise"}
    tables = {"swap": swap, "mix": {"rate": 0.5}}
    config = Config.model_validate({"data": [{"clips": "c", "masks": "alpha"}], **tables})
    measured = with_other_clips(config, CLIPS, "")
    assert measured.swap.rate == measured.mix.rate == 0
