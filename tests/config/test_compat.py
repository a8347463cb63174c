"""`losses.compat` in a configuration: what it sets, what it refuses, what it says."""

import logging
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from frisket.config.compat import compat_problems, departures, normalise_of
from frisket.config.load import ConfigError, check, read
from frisket.config.tree import Config
from frisket.data.loader import Loader
from frisket.data.mask_pipeline import coverage_record
from frisket.data.records import Window
from frisket.families.base import Source
from frisket.families.models.pocket.family import FAMILY
from frisket.losses.compat import COMPATS
from frisket.media.frames import Media
from frisket.media.geometry import Geometry
from frisket.recipes.train import train
from frisket.runs import banner, quickstart_data
from frisket.runs.prepare import clipset_of, prepare
from frisket.runs.refusals import terms_of
from frisket.runs.training_parts import make_plan


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random pocket model and a little data set, on disk."""
    folder = tmp_path_factory.mktemp("base")
    FAMILY.save(FAMILY.tiny("image"), folder / "model")
    quickstart_data.make_clips(folder / "data", seed=0)
    return folder


def config_of(base: Path, output: Path, losses: dict[str, object], **sections: object) -> Config:
    return Config.model_validate(
        {
            "model": {"source": str(base / "model"), "device": "cpu"},
            "data": [{"clips": base / "data" / "clips", "masks": base / "data" / "masks"}],
            "losses": losses,
            "lora": {"rank": 2},
            "run": {"output": output, "cache": base / "cache", "steps": 2, "batch": 2},
            **sections,
        }
    )


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        check(*read(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("trainer", "text", "key", "why"),
    [
        ("kohya", 'normalise = "sample"', "losses.normalise = 'sample'", "has none"),
        ("ai-toolkit", 'normalise = "none"', "losses.normalise = 'none'", "has batch"),
        ("onetrainer", "beta = 0.5", "losses.beta = 0.5", "does not scale by area"),
        (
            "kohya",
            "[[data]]\nclips = 'c'\nmasks = { path = 'm', pixel_gamma = 0.5 }",
            "data.0.masks.pixel_gamma = 0.5",
            "changes no value of a mask's pixels",
        ),
        ("kohya", "prior = 0.5", "losses.prior = 0.5", "has no such term"),
        ("onetrainer", "prior = { t_min = 0.5 }", "losses.prior.t_min = 0.5", "sets no t_min"),
        ("blissful", "prior = { t_power = 1 }", "losses.prior.t_power = 1", "sets no t_power"),
        ("kohya", 'denoise = { kind = "huber" }', "losses.denoise.kind = 'huber'", "mse or l1"),
        ("kohya", "[curve]\nfloor = 0.1", "curve.floor = 0.1", "has no floor"),
        ("onetrainer", "[curve]\ngamma = 2", "curve.gamma = 2.0", "has no gamma"),
        ("simpletuner", "[curve]\nthreshold = 0.5", "curve.threshold = 0.5", "cuts at 0"),
        ("kohya", "[curve]\nthreshold = 0", "curve.threshold = 0.0", "cuts no mask"),
        ("kohya", "[curve]\nfeather_t = 4", "curve.feather_t = 4.0", "does not feather"),
        (
            "diffusion-pipe",
            "[curve]\nunmasked_probability = 0.1",
            "curve.unmasked_probability = 0.1",
            "never draws",
        ),
        ("kohya", "[regions]\nsubject = 2", "regions.subject = 2.0", "no weight above 1"),
        (
            "kohya",
            '[[data]]\nclips = "c"\nmasks = { path = "m", reading = "max" }',
            "data.0.masks.reading = 'max'",
            "shrinks masks by mean",
        ),
    ],
)
def test_a_setting_the_trainer_has_no_place_for_is_refused_and_both_are_named(
    tmp_path: Path, trainer: str, text: str, key: str, why: str
) -> None:
    said = refused(tmp_path, f'[losses]\ncompat = "{trainer}"\n{text}\n')
    assert f'{key} and losses.compat = "{trainer}" contradict' in said
    assert COMPATS[trainer].title in said
    assert why in said
    assert "run.toml line " in said


def test_an_unknown_trainer_is_told_the_nearest(tmp_path: Path) -> None:
    said = refused(tmp_path, '[losses]\ncompat = "onetrainr"\n')
    assert "did you mean `onetrainer`?" in said


@pytest.mark.parametrize("trainer", COMPATS)
def test_empty_settings_take_what_the_trainer_has(trainer: str) -> None:
    config = Config.model_validate({"losses": {"compat": trainer}})
    assert not list(compat_problems(config))
    assert make_plan(config).normalise == COMPATS[trainer].normalise[0]


def test_without_compat_nothing_changes() -> None:
    config = Config()
    assert normalise_of(config) == "sample"
    assert (make_plan(config).normalise, make_plan(config).beta) == ("sample", 0.5)
    assert make_plan(config).raw_beta == 0
    explicit = Config.model_validate({"losses": {"normalise": "area", "beta": 0.25}})
    assert (make_plan(explicit).normalise, make_plan(explicit).beta) == ("area", 0.25)


def test_the_prior_is_normalised_and_measured_as_the_loss() -> None:
    losses = {"compat": "onetrainer", "prior": 0.5, "denoise": {"kind": "huber", "delta": 0.2}}
    term, strength = terms_of(Config.model_validate({"losses": losses}))["prior"]
    assert strength == 0.5
    assert (term.normalise, term.kind, term.delta) == ("none", "huber", 0.2)  # type: ignore[attr-defined]


def test_how_a_cell_reads_its_mask_is_in_the_cache_key() -> None:
    def record(losses: dict[str, object], **pixels: float) -> dict[str, object]:
        data = {"clips": "c", "masks": {"path": "m", **pixels}}
        config = Config.model_validate({"data": [data], "losses": losses})
        masking = clipset_of(config, config.data[0], FAMILY, Source("image")).masking
        geometry = Geometry((32, 32), (32, 32), (0,))
        media = Media(Path("a.png"), 1, 32, 32, 0.0, False, False)
        window = Window(
            "a", Path("a.png"), "1", {"": Path("m.png")}, {"": "2"}, media, geometry, masking
        )
        return coverage_record(window, ("subject",), FAMILY.variants["image"].grid)

    assert record({"compat": "kohya"}) == record({})  # the same planes: nothing is made again
    readings = [record({"compat": name})["reading"] for name in ("onetrainer", "ai-toolkit")]
    assert readings == ["bilinear", "nearest"]
    assert "prior_reading" not in record({"compat": "ai-toolkit"})
    assert record({"compat": "ai-toolkit", "prior": 0.5})["prior_reading"] == "bicubic"
    assert "pixels" not in record({})  # caches of before the curve in pixels stay good
    assert record({}, pixel_gamma=0.5)["pixels"] == [0.5, 0.0]


def test_ai_toolkits_two_readings_go_through_the_cache(base: Path, tmp_path: Path) -> None:
    losses = {"compat": "ai-toolkit", "prior": 0.5}
    config = config_of(base, tmp_path, losses)
    batch = Loader(prepare(config), batch=2, seed=0).at(0)
    assert batch.prior_coverage is not None
    assert batch.prior_coverage.shape == batch.coverage.shape
    assert not torch.equal(batch.prior_coverage, batch.coverage)
    plain = Loader(prepare(config_of(base, tmp_path, {})), batch=2, seed=0).at(0)
    assert plain.prior_coverage is None
    assert not torch.equal(plain.coverage, batch.coverage)
    moved = batch.to("cpu", torch.bfloat16)
    assert moved.prior_coverage is not None
    assert moved.prior_coverage.dtype == torch.float32


def test_a_run_trains_says_it_is_on_and_logs_what_differs(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(base, tmp_path, {"compat": "ai-toolkit", "prior": 0.5})
    rows: dict[str, str] = {}
    with caplog.at_level(logging.WARNING, "frisket.recipes.train"):
        train(config, announce=lambda *seen: rows.update(banner.rows(*seen)))
    assert rows["compat"].startswith("as ai-toolkit: masks shrunk by nearest, floor affine")
    assert "learning rates mean what they meant there" in rows["compat"]
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "takes the first clip's mask" in line]) == 1
    assert not any("video" in line for line in said)  # only what shows on these data
    assert "as ai-toolkit" in (tmp_path / "README.md").read_text()


def test_what_differs_depends_on_the_data(base: Path, tmp_path: Path) -> None:
    prepared = prepare(config_of(base, tmp_path, {}))
    assert departures(config_of(base, tmp_path, {}), prepared) == []
    plain = departures(config_of(base, tmp_path, {"compat": "onetrainer"}), prepared)
    assert len(plain) == 1  # whatever the data
    assert "it keeps masks in train_dtype" in plain[0]
    losses = {"compat": "onetrainer", "normalise": "sample"}
    _, column = departures(config_of(base, tmp_path, losses), prepared)
    assert "divides every column by that column's own mean" in column
    (squashed,) = departures(config_of(base, tmp_path, {"compat": "kohya"}), prepared)
    assert "squashes mask files" in squashed


@pytest.mark.parametrize("compat", ["", "blissful"])
def test_beta_has_the_range_of_the_formula_it_belongs_to(compat: str) -> None:
    losses = {"compat": compat, "beta": 1.5}
    if compat:
        assert make_plan(Config.model_validate({"losses": losses})).raw_beta == 1.5
        return
    with pytest.raises(ValidationError, match=r"between 0 and 1, got 1\.5.*blissful"):
        Config.model_validate({"losses": losses})
