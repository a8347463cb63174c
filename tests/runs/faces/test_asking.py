"""What of an identity term is refused before any work, in words that say the fix."""

from pathlib import Path
from typing import Any

import pytest
import torch

from frisket.config.load import ConfigError, check, load
from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.runs.faces.asking import check_decoding, check_faces, request_of
from frisket.runs.refusals import refusals

TINY = {"strength": 0.1, "embedder": "tiny"}


def config_of(identity: object, **sections: Any) -> Config:
    tree: dict[str, Any] = {
        "data": [{"clips": "clips", "masks": "masks"}],
        "regions": {"face": 1.0, "body": 0.5, "hat": 0.0},
        "losses": {"identity": identity},
    }
    return Config.model_validate(tree | sections)


def test_a_good_configuration_passes_and_says_what_it_asks() -> None:
    config = config_of({**TINY, "t_max": 1, "frames": 3})
    check(config)
    check_faces(config)
    request = request_of(config)
    assert request is not None
    assert (request.region, request.embedder, request.frames) == ("face", "tiny", 3)


def test_it_is_off_by_default() -> None:
    assert request_of(Config()) is None
    assert "identity" not in Config().losses.terms
    check_faces(config_of(0.0))


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ({**TINY, "region": "ada"}, r"region = 'ada' is not in \[regions\] \(it has: face, body"),
        ({**TINY, "region": "hat"}, "the region 'hat' weighs 0"),
        ({**TINY, "embedder": "onnx"}, "lets no gradient through .* take one of: iresnet, tiny"),
        ({**TINY, "embedder": "arcface"}, "'arcface' is not known; there are: iresnet, tiny"),
        ({**TINY, "embedder": "iresnet"}, "needs its weights: set embedder_source"),
        (0.1, "embedder = 'iresnet' needs its weights"),
        ({**TINY, "detector": "eyes"}, "detector = 'eyes' is not known"),
    ],
)
def test_what_cannot_be_is_refused_by_name(identity: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_faces(config_of(identity))


def test_clips_without_masks_and_patch_masking_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no \[\[data\]\] has masks"):
        check_faces(config_of(TINY, data=[{"clips": "clips"}]))
    with pytest.raises(ConfigError, match=r"patch_masking\.ratio = 0"):
        check_faces(config_of(TINY, patch_masking={"ratio": 0.5}))


def test_everything_that_is_wrong_is_said_at_once() -> None:
    wrong = config_of({"strength": 1, "embedder": "onnx", "region": "ada"})
    (error,) = [error for error in refusals(wrong) if "losses.identity" in str(error)]
    assert "is not in [regions]" in str(error)
    assert "lets no gradient through" in str(error)


def test_a_family_that_is_not_decoded_through_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    family = FAMILIES.load("pocket")
    check_decoding("identity", family, "image")
    whole = type(family).decode
    monkeypatch.setattr(type(family), "decode", torch.no_grad()(whole))
    with pytest.raises(ConfigError, match="pocket image cannot be taught through its decoder"):
        check_decoding("identity", family, "image")


def test_paths_are_those_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir()
    file = tmp_path / "run.toml"
    file.write_text(
        '[[data]]\nclips = "clips"\nmasks = "masks"\n[regions]\nface = 1.0\n'
        '[losses.identity]\nstrength = 0.1\nembedder = "tiny"\nreferences = "ada"\n'
    )
    config = load(file)
    assert config.losses.terms["identity"]["references"] == str(tmp_path / "ada")
