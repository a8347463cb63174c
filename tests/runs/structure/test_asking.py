"""What of consistency and teacher terms is refused before any work, in words that say the fix."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from frisket.config.load import ConfigError, check, load
from frisket.config.tree import Config
from frisket.control.kinds.depth import KIND as DEPTH
from frisket.families.base import FAMILIES
from frisket.losses.base import TERMS, Step
from frisket.losses.comparing import StructureRequest
from frisket.losses.terms.consistency import ConsistencyLoss
from frisket.runs.identity import read_identity
from frisket.runs.refusals import refusals
from frisket.runs.structure.asking import check_structure, find_structure_request
from frisket.runs.structure.extractors import open_extractor


def config_of(losses: dict[str, Any], **sections: Any) -> Config:
    tree: dict[str, Any] = {
        "model": {"device": "cpu"},
        "data": [{"clips": "clips", "masks": "masks"}],
        "losses": losses,
    }
    return Config.model_validate(tree | sections)


def test_a_good_configuration_passes_and_says_what_it_asks() -> None:
    table = {"strength": 0.5, "extractor": "luma", "t_max": 1, "frames": 2, "where": "outside"}
    config = config_of({"consistency": table})
    check(config)
    check_structure(config)
    asked = StructureRequest(extractor="luma", frames=2)
    assert find_structure_request(config) == asked


def test_both_are_off_by_default() -> None:
    config = config_of({"consistency": 0.0, "teacher": 0.0})
    assert find_structure_request(config) is None
    assert not {"consistency", "teacher"} & set(config.losses.terms)
    check_structure(config)


@pytest.mark.parametrize(
    ("losses", "sections", "words"),
    [
        (
            {"teacher": 0.5},
            {},
            r"losses\.teacher: stays with the base beside a frozen ControlNet, and there is none;"
            r" take losses\.prior, or set control\.source",
        ),
        (
            {"teacher": 0.5},
            {"model": {"device": "cpu", "train": "controlnet"}},
            "the ControlNet is what is trained",
        ),
        (
            {"consistency": {"strength": 1, "extractor": "luma", "target": "control"}},
            {},
            r"no \[\[data\]\] has any; set `control` to their folder .* or target = \"clip\"",
        ),
        ({"consistency": 1}, {"patch_masking": {"ratio": 0.5}}, r"set patch_masking\.ratio = 0"),
        ({"consistency": 1}, {"routing": {"background": 0.5}}, r"routing\.background = 0\.5"),
        (
            {"consistency": {"strength": 1, "extractor": "depth", "source": "/nowhere"}},
            {},
            r"losses\.consistency\.source: /nowhere: there is no such folder",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    losses: dict[str, Any], sections: dict[str, Any], words: str
) -> None:
    config = config_of(losses, **sections)
    with pytest.raises(ConfigError, match=words):
        check_structure(config)
    assert any("losses." in str(error) for error in refusals(config))


@pytest.mark.parametrize(
    "table",
    [
        {"extractor": "pose"},
        {"extractor": "canny", "target": "control"},
        {"where": "face"},
        {"sigma_max": 0.3},
    ],
)
def test_options_that_are_wrong_are_refused_by_the_check_of_a_config(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(table))):
        check(config_of({"consistency": {"strength": 1.0, **table}}))


def test_two_terms_that_ask_for_different_structure_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = TERMS.load
    monkeypatch.setattr(
        TERMS, "load", lambda name: whole("consistency" if name == "mine" else name)
    )
    config = config_of({"consistency": 1.0, "mine": {"strength": 1.0, "extractor": "luma"}})
    with pytest.raises(
        ConfigError, match=r"losses\.consistency and losses\.mine ask for different"
    ):
        find_structure_request(config)


def test_a_family_that_is_not_decoded_through_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    family = FAMILIES.load("pocket")
    whole = type(family).decode
    monkeypatch.setattr(type(family), "decode", torch.no_grad()(whole))
    with pytest.raises(ConfigError, match=r"losses\.consistency: .* cannot be taught"):
        check_structure(config_of({"consistency": 1.0}))


def test_the_folder_of_a_model_is_taken_from_the_configs_own(tmp_path: Path) -> None:
    (tmp_path / "dpt").mkdir()
    written = '[losses]\nconsistency = { strength = 1.0, extractor = "depth", source = "dpt" }\n'
    (tmp_path / "run.toml").write_text(written)
    table = load(tmp_path / "run.toml").losses.terms["consistency"]
    assert table["source"] == str(tmp_path / "dpt")


def test_a_depth_model_of_a_folder_teaches_through_its_own_scale(tmp_path: Path) -> None:
    assert DEPTH.tiny is not None
    folder = DEPTH.tiny(tmp_path / "depth")
    config = config_of(
        {"consistency": {"strength": 1.0, "extractor": "depth", "source": str(folder)}}
    )
    check_structure(config)
    request = find_structure_request(config)
    assert request is not None
    extract = open_extractor(request, "cpu")
    clip = torch.rand(2, 3, 2, 32, 48, generator=torch.Generator().manual_seed(3)).requires_grad_()
    depths = extract(clip)
    assert depths.shape == (2, 1, 2, 32, 48)
    assert depths.amax((1, 3, 4)).allclose(torch.ones(2, 2))
    (gradient,) = torch.autograd.grad(depths.square().sum(), clip)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_the_needs_of_a_term_follow_its_options() -> None:
    assert "control" in ConsistencyLoss(extractor="luma", target="control").needs
    assert "control" not in ConsistencyLoss().needs
    assert Step.__dataclass_fields__["prior_control"].default is None


def test_another_depth_model_at_the_same_path_is_another_run(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    folder = tmp_path / "depth"
    folder.mkdir()
    table = {"strength": 1.0, "extractor": "depth", "source": str(folder)}
    config = config_of({"consistency": table})
    keys = []
    for value in (0.0, 1.0):
        save_file({"weight": torch.full((3,), value)}, folder / "model.safetensors")
        keys.append(read_identity(config, tmp_path / "cache")["losses.consistency.source"])
    assert keys[0] != keys[1]
