"""`frisket families`: the list has all there is, sizes are right, the reference page is in date."""

from pathlib import Path

import pytest

from frisket.families import listing as listing_module
from frisket.families.base import FAMILIES
from frisket.registry import UnknownPlugin

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "families.md"


def test_the_list_has_every_variant_and_builds_none(monkeypatch):
    def built(*_):
        raise AssertionError("a list of names builds no model")

    monkeypatch.setattr(listing_module, "size_of", built)
    lines = listing_module.listing().splitlines()
    for name in FAMILIES.names():
        for variant, card in FAMILIES.load(name).variants.items():
            (line,) = [each for each in lines if each.split()[:2] == [name, variant]]
            assert line.endswith(card.repo)
            assert listing_module.makes(card) in line


def test_one_family_is_listed_with_sizes_and_experts():
    said = listing_module.listing("wan")
    (line,) = [each for each in said.splitlines() if each.startswith("2.2-i2v-a14b")]
    assert "14.29 B, 28.6 GB" in line
    assert "high (t 0.9 to 1), low (t 0 to 0.9)" in line
    assert "text, first frame" in line
    assert "clip 832 x 480, 81 frames at 16" in line


def test_an_unknown_family_is_an_error_that_names_the_nearest():
    with pytest.raises(UnknownPlugin, match="did you mean 'qwen_image'"):
        listing_module.listing("qwen_imag")


def test_a_shape_that_is_not_known_here_is_left_out(monkeypatch):
    from frisket.families.base import WeightsNotFound

    family = FAMILIES.load("pocket")

    def absent(_):
        raise WeightsNotFound("not here")

    monkeypatch.setattr(family, "load_denoiser", absent)
    assert listing_module.size_of(family, "image") is None
    assert "  -  " in listing_module.listing("pocket")


@pytest.mark.parametrize(
    ("name", "variant", "billions"),
    [  # what the authors say of their models
        ("flux", "dev", 12),
        ("flux2", "dev", 32),
        ("flux2", "klein-base-4b", 4),
        ("hunyuan_video", "1.5-480p-t2v", 8.3),
        ("qwen_image", "image", 20),
        ("sd3", "3.5-large", 8.1),
        ("stable_diffusion", "sdxl", 2.6),
        ("wan", "2.2-t2v-a14b", 14),
        ("wan", "2.2-ti2v-5b", 5),
        ("z_image", "base", 6),
    ],
)
def test_sizes_are_the_authors(name, variant, billions):
    size = listing_module.size_of(FAMILIES.load(name), variant)
    assert size.count / 1e9 == pytest.approx(billions, rel=0.04)
    assert size.bytes == pytest.approx(2 * size.count, rel=0.01)


@pytest.mark.slow  # it builds every model without its weights
def test_the_reference_page_is_in_date():
    assert PAGE.read_text(encoding="utf-8") == listing_module.page(), "run `make docs`"
