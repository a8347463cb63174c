"""The table of regions: plain weights, and regions that name their phrase."""

import pytest
import tomlkit
from pydantic import ValidationError

from frisket.config.tree import Config


def test_both_forms_stand_in_one_table() -> None:
    regions = {"face": {"weight": 0.5, "phrase": " sks "}, "hair": 0.3, "hat": {"weight": 2}}
    config = Config.model_validate({"regions": regions})
    assert config.region_weights == {"face": 0.5, "hair": 0.3, "hat": 2}
    assert config.phrases == {"face": "sks"}
    written = tomlkit.dumps(config.model_dump(mode="json", exclude_none=True))
    assert Config.model_validate(tomlkit.parse(written).unwrap()) == config


def test_a_preset_takes_a_phrase_and_keeps_its_weight() -> None:
    config = Config.model_validate({"regions": {"preset": "person", "hair": {"phrase": "locks"}}})
    assert config.region_weights["hair"] == 0.314
    assert config.phrases == {"hair": "locks"}


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ({"face": {"phrse": "sks"}}, "has no key 'phrse', did you mean 'phrase'"),
        ({"face": {"weight": -1, "phrase": "sks"}}, "regions.face.weight` should be 0 or more"),
        ({"face": {"weight": True, "phrase": "sks"}}, "regions.face.weight` should be 0 or more"),
        ({"face": {"phrase": "  "}}, "regions.face.phrase` should be words"),
        ({"face": 1, "background": {"phrase": "wall"}}, "`background` is what no mask covers"),
    ],
)
def test_a_region_that_has_no_meaning_is_refused(regions: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate({"regions": regions})
