"""Numbers of files against the layers of every family."""

import pytest

from frisket.adapters.image.numbering import list_places, number_layers
from frisket.adapters.spec import AdapterMismatch
from frisket.families.base import FAMILIES


@pytest.mark.parametrize(("name", "variant"), [("stable_diffusion", "sd15"), ("pocket", "image")])
def test_a_unets_numbers_are_odd_and_the_publics(name: str, variant: str) -> None:
    family = FAMILIES.load(name)
    denoiser = family.tiny(variant).denoiser
    assert denoiser is not None
    numbers = number_layers(family, denoiser)
    assert set(numbers) == set(range(1, 2 * len(numbers), 2))
    assert set(numbers.values()) == set(list_places(family, denoiser))
    processors = list(denoiser.attn_processors)  # type: ignore[arg-type]
    assert all(processors[number] == f"{layer}.processor" for number, layer in numbers.items())


@pytest.mark.parametrize("name", ["flux", "wan", "qwen_image", "hunyuan_video"])
def test_a_transformers_numbers_count_the_layers_with_a_place(name: str) -> None:
    family = FAMILIES.load(name)
    denoiser = family.tiny(family.default).denoiser
    assert denoiser is not None
    assert number_layers(family, denoiser) == dict(enumerate(list_places(family, denoiser)))


def test_experts_share_their_numbers() -> None:
    family = FAMILIES.load("wan")
    pair, single = (family.tiny(v).denoiser for v in ("2.2-t2v-a14b", "2.1-t2v-1.3b"))
    assert pair is not None
    assert single is not None
    assert number_layers(family, pair) == number_layers(family, single)


def test_a_model_without_a_place_is_refused_by_name() -> None:
    family = FAMILIES.load("z_image")
    denoiser = family.tiny(family.default).denoiser
    assert denoiser is not None
    with pytest.raises(AdapterMismatch, match="z_image"):
        number_layers(family, denoiser)
