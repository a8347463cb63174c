"""The table of other trainers' models names models that there are."""

import pytest

from frisket.families.base import FAMILIES
from frisket.importers.models import TRAINERS, ImportedModel, find_model, read_models

NAMED = sorted({each for trainer in TRAINERS for each in read_models()[trainer].values()})


def told(family: str, variant: str, expert: str = "") -> None:
    known = FAMILIES.load(family).variants
    assert not variant or variant in known
    assert not expert or expert in known[variant].experts


@pytest.mark.parametrize("named", NAMED)
def test_every_model_of_the_table_is_on_the_shelf(named):
    told(*named.split("/"), *[""] * (1 - named.count("/")))


def test_every_word_and_every_nearest_family_is_too():
    for family, words in read_models()["words"].items():
        for variant in words.values():
            told(family, variant)
    for family in read_models()["nearest"].values():
        told(family, "")
    assert set(read_models()["sources"]) <= set(read_models()["simpletuner"])


@pytest.mark.parametrize(
    "family", [name for name in FAMILIES.names() if name not in ("pocket", "qwen_image_21")]
)
def test_the_own_hub_id_of_a_variant_tells_it(family):
    """Of each type of a family that leaves room, or names that very variant."""
    repos: dict[str, str] = {}
    for variant, card in FAMILIES.load(family).variants.items():
        repos.setdefault(card.repo, variant)  # two ways to train the same weights: the first
    for repo, variant in repos.items():
        for trainer in TRAINERS:
            for kind, named in read_models()[trainer].items():
                if named in (family, f"{family}/{variant}"):
                    model = find_model(trainer, kind, [repo])
                    assert model is not None
                    assert model.variant == variant


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("C:\\models\\flux1-kontext-dev.safetensors", "kontext"),
        ("/home/me/kontext/mine.safetensors", "dev"),
        ("black-forest-labs/FLUX.1-Krea-dev/", "krea-dev"),
    ],
)
def test_words_are_looked_for_at_the_end_of_a_path(name, variant):
    assert find_model("onetrainer", "FLUX_DEV_1", [name]) == ImportedModel("flux", variant)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("wan", "Wan-AI/Wan2.1-VACE-14B-diffusers"),
        ("flux", "black-forest-labs/FLUX.1-Fill-dev"),
        ("sd3", "stabilityai/stable-diffusion-3.5-large-turbo"),
        ("z_image", "z_image_de_turbo_v1_bf16.safetensors"),
        ("hunyuan-video", "hunyuan_video_I2V_720_fixed_bf16.safetensors"),
    ],
)
def test_words_tell_models_that_are_not_here(kind, name):
    assert find_model("diffusion_pipe", kind, [name]) is None
