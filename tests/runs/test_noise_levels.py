"""timesteps.shift = "auto" in a configuration, and what the table before a run says of it."""

from typing import Any

import pytest
from pydantic import ValidationError

from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.objectives.shift import FLUX, LAWS
from frisket.runs.banner import describe_noise
from frisket.runs.training_parts import timesteps_of

SQUARE, WIDE = (1, 64, 64), (1, 104, 152)  # latent cells of 512 x 512 and 1216 x 832 pixels


def config_of(family: str, variant: str, **timesteps: Any) -> Config:
    return Config.model_validate(
        {"model": {"family": family, "variant": variant}, "timesteps": timesteps}
    )


def row_of(config: Config, *shapes: tuple[int, int, int]) -> str:
    return describe_noise(config, set(shapes))


@pytest.mark.parametrize(
    ("family", "variant", "asked", "wanted"),
    [
        ("flux", "dev", {}, FLUX),
        ("flux", "dev", {"shift": "auto"}, FLUX),
        ("flux", "dev", {"shift": 3}, 3.0),
        ("flux", "schnell", {}, 1.0),
        ("wan", "2.2-t2v-a14b", {}, 12.0),
        ("z_image", "turbo", {"shift": "auto"}, 3.0),
        ("wan", "2.1-t2v-14b", {"shift": "flux_shift"}, LAWS["flux_shift"]),
    ],
)
def test_auto_is_the_shift_the_model_samples_at_and_a_number_holds_for_every_size(
    family: str, variant: str, asked: dict[str, Any], wanted: object
) -> None:
    card = FAMILIES.load(family).variants[variant]
    assert timesteps_of(config_of(family, variant, **asked), card).shift == wanted


def test_the_table_says_which_shift_at_which_size() -> None:
    config = config_of("flux", "dev")
    assert row_of(config, SQUARE, WIDE, SQUARE) == (
        "logit_normal, shift by size: 1.88 at 512 x 512, 3.08 at 1216 x 832"
    )
    many = [(1, 2 * side, 64) for side in range(20, 40)]
    assert row_of(config, *many).endswith("1.76 at 512 x 320 to 1.95 at 512 x 624")
    assert row_of(config_of("flux", "dev", shift=3.1582), SQUARE) == "logit_normal, shift 3.1582"
    assert row_of(config_of("flux", "schnell"), SQUARE) == "logit_normal"
    assert row_of(config_of("wan", "2.1-t2v-1.3b"), (21, 60, 104)) == "logit_normal, shift 3"


def test_the_table_says_how_the_range_is_bounded() -> None:
    wan = ("wan", "2.1-t2v-14b")
    cut = config_of(*wan, low=0.3, bounds="cut", shift=1.0, density="uniform")
    assert row_of(cut, SQUARE) == "uniform, cut to 0.3 to 1"
    assert row_of(config_of(*wan, high=0.6), SQUARE).endswith("squeezed into 0 to 0.6")


@pytest.mark.parametrize(
    ("timesteps", "said"),
    [
        ({"low": 0.6, "high": 0.5}, "0 <= low < high <= 1"),
        ({"density": "histogram"}, "a list of weights"),
        ({"levels": [0.5]}, "set that, or take levels out"),
        ({"parts": [[0.8, 0, 1], [0.8, 0, 1]]}, "sum up to 1"),
    ],
)
def test_noise_levels_that_cannot_be_drawn_are_refused_with_the_file(
    timesteps: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        config_of("flux", "dev", **timesteps)


@pytest.mark.parametrize("shift", ["size", 0, -1])
def test_another_word_or_number_is_refused(shift: object) -> None:
    with pytest.raises(ValidationError, match="shift"):
        config_of("flux", "dev", shift=shift)
