"""Options that contradict, or that a family has not: refused before any work, with the way out."""

from pathlib import Path
from typing import Any

import pytest

from frisket.config.load import ConfigError, check, load
from frisket.config.tree import Config

LOKR = '[lora]\nkind = "lokr"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[lora]\nfactor = 4\n", r'`lora\.factor` is for kind = "lokr" only'),
        ("[lora]\nfull_matrix = true\n", r'`lora\.full_matrix` is for kind = "lokr" only'),
        (LOKR + "factor = 0\n", r"should be -1, or 1 or more, got 0"),
        (LOKR + "full_matrix = true\nalpha = 4\n", r"no meaning with full_matrix"),
        (LOKR + "dropout = 0.1\nrank_dropout = 0.1\n", r"are the same for a lokr: give one"),
        (LOKR + "[optimizer]\nlora_plus = 16\n", r"a lokr has no A and B; leave it out"),
        (
            '[lora]\nkind = "dora"\nmodule_dropout = 0.1\n',
            r"is not for a dora; use `lora\.dropout`",
        ),
        ("[lora]\nconv_alpha = 4\n", r"is of `lora\.conv_rank`: give that too"),
        ('[lora]\npreset = "attn"\ntargets = ["to_q"]\n', r"both say which layers: give one"),
        ("[lora]\nrank_dropout = 1.0\n", r"should be less than 1"),
        ("[noise]\noffset_random = true\n", r"draws up to `noise\.offset`, which is 0"),
        ('[optimizer]\nschedule = "cosine_with_restart"\n', r"cosine_with_restarts"),
        ("[lora]\ntext_encoder_lr = 1e-5\n", r"text encoders are not trained yet"),
        ("[optimizer]\ntrain_text_encoder = true\n", r"text encoders are not trained yet"),
    ],
)
def test_what_cannot_be_is_said_when_the_file_is_read(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "frisket.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"model": {"family": "flux"}, "lora": {"preset": "conv"}}, r"flux has no preset 'conv'"),
        ({"model": {"family": "flux"}, "lora": {"conv_rank": 4}}, r"flux has no convolutions"),
        (
            {"optimizer": {"name": "prodigy", "lr": 1.0, "lora_plus": 16}},
            r"lora_plus = 16 and 'prodigy' contradict",
        ),
        (
            {"optimizer": {"name": "schedulefree"}, "lora": {"max_norm": 1.0}},
            r"max_norm = 1 and 'schedulefree' contradict",
        ),
    ],
)
def test_what_a_family_or_an_optimizer_cannot_do_is_said_before_any_work(
    tree: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(Config.model_validate(tree))


@pytest.mark.parametrize("family", ["stable_diffusion", "flux", "wan", "qwen_image", "pocket"])
def test_what_fits_passes(family: str) -> None:
    convolutions = {"conv_rank": 4} if family in ("stable_diffusion", "pocket") else {}
    tree = {
        "model": {"family": family},
        "lora": {"preset": "attn", "max_norm": 1.0, "rank_dropout": 0.1} | convolutions,
        "optimizer": {"lora_plus": 16, "schedule": "rex"},
        "noise": {"offset": 0.1, "offset_random": True},
    }
    check(Config.model_validate(tree))
