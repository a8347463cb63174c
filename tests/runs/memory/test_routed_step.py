"""Predicted memory and operations of routed steps, and what is told of them before a run."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from tests.recipes.test_train_families import config_of

from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.losses import base
from frisket.media.frames import write_image
from frisket.recipes.train import train
from frisket.runs.memory.estimate import make_source, predict
from frisket.runs.memory.routing_report import predict_run, report_routing
from frisket.runs.memory.step_cost import count_training
from frisket.runs.methods.expected_tokens import expect_tokens

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "memory_prediction.py"
WITHIN = 0.10
QUICK = ("wan", "batch 2, prior")


def load_benchmark():
    spec = importlib.util.spec_from_file_location("memory_prediction", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


benchmark = load_benchmark()
ROUTED = benchmark.ROUTED
TRIED = [
    pytest.param(family, case, marks=() if (family, case) == QUICK else pytest.mark.slow)
    for family in FAMILIES.names()
    for case in ("plain", "checkpointing", "batch 2, prior")
    if FAMILIES.load(family).routes is not None
]


@pytest.fixture
def whole_maps(monkeypatch):
    """The loss works as on an accelerator, not in slabs that fit a CPU's cache."""
    monkeypatch.setattr(base, "CACHE_ELEMENTS", 1 << 40)


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.usefixtures("whole_maps")
@pytest.mark.parametrize(("family", "case"), TRIED)
def test_a_routed_step_takes_what_is_predicted(family, case, tmp_path):
    shelf = FAMILIES.load(family)
    variant = "dit" if family == "pocket" else shelf.default
    shelf.save(shelf.tiny(variant), tmp_path)
    config = benchmark.config_for(family, variant, case, tmp_path)
    routed = Config.model_validate({**config.model_dump(), "routing": benchmark.ROUTED})
    predicted = predict(routed, prepare=False, kept_share=benchmark.KEPT_SHARE).training
    assert predicted == pytest.approx(benchmark.alive(routed), rel=WITHIN)
    if case != "checkpointing":  # what it keeps of a block is little either way
        assert predicted < predict(routed, prepare=False).training


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Three pictures whose masks cover an eighth, a quarter and half of them."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("stills", "still-masks"):
        (folder / name).mkdir()
    for number, width in enumerate((16, 32, 64)):
        pixels = torch.randint(0, 256, (128, 128, 3), dtype=torch.uint8)
        mask = torch.zeros_like(pixels)
        mask[:, :width] = 255
        write_image(folder / "stills" / f"{number}.png", pixels)
        write_image(folder / "still-masks" / f"{number}.png", mask)
    return folder


def configure(world, output, **sections):
    tree = {"data": {"resolution": 128}, "routing": ROUTED, **sections}
    return config_of(world, output, "flux", "dev", **tree)


def test_what_is_expected_of_the_masks_is_what_a_run_carries(world, tmp_path):
    run = {"steps": 3, "save_every": 0, "cache": tmp_path / "cache"}
    config = configure(world, tmp_path / "run", run={**run, "output": tmp_path / "run"})
    family = FAMILIES.load("flux")
    patch = family.routes.find_patch(family.load_denoiser(make_source(config, family)))
    expected = expect_tokens(config, patch)
    result = train(config)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    kept = [json.loads(line)["kept"] for line in lines]
    assert expected.clip_count == 3
    assert expected.whole_share == 0
    assert expected.routed_share == pytest.approx(sum(kept) / 3)  # one epoch
    assert expected.largest_share == max(kept)
    two = expect_tokens(configure(world, tmp_path, run={"batch": 2}), patch)
    assert expected.routed_share < two.routed_share < expected.largest_share == two.largest_share
    often = expect_tokens(configure(world, tmp_path, curve={"unmasked_probability": 0.25}), patch)
    assert often.whole_share == pytest.approx(0.25)
    assert often.routed_share == pytest.approx(expected.routed_share)
    cost = count_training(config)
    share = sum(cost.count_routed(each * cost.tokens, 0, 2) for each in kept) / 3 / cost.count()
    said = f"3 of 3 steps were routed, with {sum(kept) / 3:.0%} of the image's tokens; by the"
    assert result.routing == f"{said} formula {share:.0%} of the operations"
    for file in ("README.md", "index.html"):
        assert f"formula {share:.0%} of the operations" in (tmp_path / "run" / file).read_text()


def test_a_base_of_4_bits_takes_the_operations_of_a_plain_one(world, tmp_path):
    pytest.importorskip("bitsandbytes")
    plain = count_training(configure(world, tmp_path))
    assert count_training(configure(world, tmp_path, memory={"quantise": "nf4"})) == plain


def test_a_run_is_told_its_peak_and_its_gain_before_it_begins(world, tmp_path):
    config = configure(world, tmp_path / "run")
    told = report_routing(config)
    assert told.verdict == "ok"
    assert "(3 clips looked at)" in told.message
    assert "blocks 0 to 1 of" in told.message
    assert "the full ones" not in told.message
    largest = expect_tokens(config, (1, 2, 2)).largest_share
    assert predict_run(config, prepare=False) == predict(config, prepare=False, kept_share=largest)
    now_and_then = {**ROUTED, "full_step_probability": 0.25}
    config = configure(world, tmp_path / "run", routing=now_and_then)
    told = report_routing(config)
    assert "75% of steps are routed: the full ones set what the run needs" in told.message
    assert predict_run(config, prepare=False) == predict(config, prepare=False)


def test_masks_that_cannot_be_read_or_cover_all_are_said(world, tmp_path):
    config = configure(world, tmp_path / "run", data={"masks": world / "none"})
    told = report_routing(config)
    assert told.verdict == "note"
    assert "what it will carry is not known" in told.message
    assert "with 25% of the tokens" in told.message
    few = {**ROUTED, "max_kept": 0.1}
    told = report_routing(configure(world, tmp_path / "run", routing=few))
    assert told.message.startswith("no batch is routed: all 3 clips looked at")
