"""shift = "auto": the noise levels of training are those the model's own pipeline samples at."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from torch import Generator

from frisket.families.base import FAMILIES, Variant
from frisket.objectives.flow import Flow
from frisket.objectives.shift import SizeShift
from frisket.objectives.timesteps import TimestepSampler

PEERS = json.loads((Path(__file__).parent / "peer_shifts.json").read_text("utf-8"))
SIDES = ((512, 512), (1024, 1024), (832, 1216), (2048, 1024))
PIPELINES = {  # module of the public pipeline, whose `calculate_shift` it samples with
    "flux": "flux.pipeline_flux",
    "qwen_image": "qwenimage.pipeline_qwenimage",
    "qwen_image_21": "qwenimage21.pipeline_qwenimage21",
}
CARDS = [
    (family, name)
    for family in ("flux", "qwen_image", "qwen_image_21")
    for name, card in FAMILIES.load(family).variants.items()
    if card.size_shift
]


def card_of(family: str, variant: str) -> Variant:
    return FAMILIES.load(family).variants[variant]


def scheduler_of(family: str, variant: str) -> Any:
    shelf = FAMILIES.load(family)
    return shelf.pipeline(shelf.tiny(variant)).scheduler


def tokens_of(card: Variant, height: int, width: int) -> int:
    """Length of the sequence a pipeline packs its noise into."""
    patch = card.size_shift.patch  # type: ignore[union-attr]
    _, rows, columns = card.grid.cells(1, height, width)
    return rows // patch * (columns // patch)


@pytest.mark.parametrize("family", list(PIPELINES))
def test_the_quantiles_of_t_are_the_sigmas_of_the_models_own_scheduler(family: str) -> None:
    """The pipeline's `calculate_shift` and scheduler, at sizes a run may mix."""
    name = next(variant for of, variant in CARDS if of == family)
    card, scheduler = card_of(family, name), scheduler_of(family, name)
    config = scheduler.config
    public = importlib.import_module(f"diffusers.pipelines.{PIPELINES[family]}")
    levels = np.array([0.95, 0.75, 0.5, 0.25, 0.05])
    for height, width in SIDES:
        mu = public.calculate_shift(
            tokens_of(card, height, width),
            config.base_image_seq_len,
            config.max_image_seq_len,
            config.base_shift,
            config.max_shift,
        )
        sigmas = scheduler.time_shift(mu, 1.0, levels)
        sampler = TimestepSampler("uniform", shift=card.auto_shift)
        shift = sampler.shift_at(card.grid.cells(1, height, width))
        assert shift * levels / (1 + (shift - 1) * levels) == pytest.approx(sigmas, abs=1e-6)
        drawn = sampler(20_000, Generator().manual_seed(0), card.grid.cells(1, height, width))
        quantiles = torch.quantile(drawn.double(), torch.from_numpy(levels))
        assert quantiles.tolist() == pytest.approx(sigmas.tolist(), abs=0.015)


@pytest.mark.parametrize(("family", "variant"), CARDS)
def test_the_cards_law_has_the_numbers_of_the_scheduler_it_samples_with(
    family: str, variant: str
) -> None:
    card, config = card_of(family, variant), scheduler_of(family, variant).config
    law = card.size_shift
    assert law is not None
    assert config.use_dynamic_shifting
    assert config.time_shift_type == "exponential"
    assert (law.low, law.high, law.few, law.many) == (
        config.base_shift,
        config.max_shift,
        config.base_image_seq_len,
        config.max_image_seq_len,
    )
    assert card.shift == pytest.approx(
        law.at(card.grid.cells(1, card.height, card.width)), abs=5e-3
    )


def test_flux_2_trains_at_its_samplers_law_without_what_makes_up_for_few_steps() -> None:
    """Of 200 steps `compute_empirical_mu` adds nothing any more: that end is the law."""
    card = card_of("flux2", "dev")
    for height, width in SIDES:
        cells = card.grid.cells(1, height, width)
        many = compute_empirical_mu(tokens_of(card, height, width), 200)
        assert np.log(card.size_shift.at(cells)) == pytest.approx(many, abs=1e-4)  # type: ignore[union-attr]


@pytest.mark.parametrize("family", FAMILIES.names())
def test_auto_follows_the_size_exactly_where_the_scheduler_does(family: str) -> None:
    shelf = FAMILIES.load(family)
    for name, card in shelf.variants.items():
        if card.like:
            continue
        config = shelf.pipeline(shelf.tiny(name)).scheduler.config
        dynamic = bool(config.get("use_dynamic_shifting"))
        assert dynamic == isinstance(card.auto_shift, SizeShift), (family, name)


def test_one_run_draws_each_size_at_its_own_shift() -> None:
    objective = Flow(TimestepSampler(shift=SizeShift()))
    small = objective.sample_t(2000, Generator().manual_seed(0), cells=(1, 64, 64))
    large = objective.sample_t(2000, Generator().manual_seed(0), cells=(1, 128, 128))
    odds = (large / (1 - large)) / (small / (1 - small))
    # e^1.15 over e^0.63: the medians of FLUX.1 at 1024 x 1024 and at 512 x 512 pixels
    assert odds.median().item() == pytest.approx(3.1582 / 1.8776, rel=1e-3)
    assert small.median().item() == pytest.approx(1.8776 / 2.8776, abs=0.02)


def test_experts_keep_their_ranges_under_a_shift_by_size() -> None:
    sampler = TimestepSampler(shift=SizeShift(), ranges=((0.875, 1.0), (0.0, 0.875)))
    for seed in range(20):
        drawn = sampler(4, Generator().manual_seed(seed), (1, 64, 64))
        assert (drawn >= 0.875).all() or (drawn < 0.875).all()


def test_a_draw_that_must_know_the_size_and_does_not_is_refused() -> None:
    with pytest.raises(ValueError, match="say how many cells"):
        Flow(TimestepSampler(shift=SizeShift())).sample_t(1, Generator())


@pytest.mark.parametrize(
    "row", PEERS, ids=[f"{row['trainer']}-{row['family']}-{row['option']}" for row in PEERS]
)
def test_other_trainers_shift_by_size_as_auto_does(row: dict[str, Any]) -> None:
    """Their own code, run by scripts/record_peer_shifts.py; frisket import maps these to auto."""
    card = next(iter(FAMILIES.load(row["family"]).variants.values()))
    assert card.size_shift is not None
    for height, width, *theirs in row["sizes"]:
        shift = card.size_shift.at(card.grid.cells(1, height, width))
        ours = [shift * t / (1 + (shift - 1) * t) for t in (0.25, 0.5, 0.75)]
        assert ours == pytest.approx(theirs, abs=1e-6)
