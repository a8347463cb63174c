"""FreeFuse's parts against the authors' own code, as scripts/record_freefuse.py recorded it."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file
from tests.inference.freefuse import scene

from frisket.adapters.routed.factors import Factors
from frisket.adapters.routed.peft_variant import route
from frisket.families.base import FAMILIES
from frisket.inference.methods.freefuse.assignment import Balance, assign_cells
from frisket.inference.methods.freefuse.bias import Bias, bias_joint
from frisket.inference.methods.freefuse.collecting import Sight
from frisket.inference.methods.freefuse.masks import MaskRule, build_masks, clean_mask
from frisket.inference.methods.freefuse.method import FreeFuse, FuseOptions
from frisket.inference.methods.freefuse.similarity import (
    choose_anchors,
    compare_features,
    contrast_scores,
    normalise_over_cells,
    score_phrases,
)
from frisket.inference.sample_specs import SampleSpec

PEER = load_file(Path(__file__).with_name("peer.safetensors"))
THEIRS = {
    "lr": "rate", "gravity_weight": "gravity", "spatial_weight": "votes", "max_iter": "rounds",
    "centroid_margin": "margin", "border_penalty": "border", "anisotropy": "stretch",
}  # fmt: skip
# Of seven steps of twenty blocks of random weights: in the process settings of the recording final
# latents agree within 1e-5, under pytest's within 6e-5, plain diffusers as well as either method.
ROUNDING = {"rtol": 0.0, "atol": 5e-4}
AS_THEIRS = MaskRule(shifted=True, measured=False, balance=Balance(doubled=True))


@pytest.mark.parametrize("name", scene.BALANCES)
def test_the_balanced_argmax_is_the_authors(name: str) -> None:
    height, width, concepts, more = scene.BALANCES[name]
    share = more.get("target_count")
    options = {THEIRS.get(key, key): value for key, value in more.items() if key != "target_count"}
    maps = scene.draw_maps(name, height * width, concepts)
    owner = assign_cells(maps, (1, height, width), Balance(doubled=True, **options), share)  # type: ignore[arg-type]
    assert owner.equal(PEER[f"balance.{name}"])


@pytest.mark.parametrize("name", scene.CLEANS)
def test_the_morphology_is_the_authors(name: str) -> None:
    height, width, window = scene.CLEANS[name]
    mask = (scene.draw(name, (2, height * width)) > 0).view(2, 1, height, width)
    cleaned = clean_mask(mask, window, shifted=True)
    assert cleaned.flatten(1).float().equal(PEER[f"clean.{name}"])


@pytest.mark.parametrize(("case", "behind"), [("phrase", scene.BACKGROUND), ("end", (scene.END,))])
def test_anchors_maps_and_masks_are_the_authors(case: str, behind: tuple[int, ...]) -> None:
    query, key = PEER[f"{case}.query"], PEER[f"{case}.key"]
    phrases = [[*scene.PHRASES.values(), behind]]
    scores = score_phrases(query, key, phrases, factor=1 / 1000)
    concepts, background = scores[:, :-1], scores[:, -1:]
    anchors = choose_anchors(contrast_scores(concepts))
    for index in range(2):
        assert anchors[:, index].equal(PEER[f"{case}.anchors.{index}"])
    features = PEER[f"{case}.features"]
    chosen = torch.cat([anchors, choose_anchors(background)], dim=1)
    maps = normalise_over_cells(compare_features(features, chosen, centred=False), 4000.0)
    torch.testing.assert_close(maps[:, :-1], PEER[f"{case}.maps"], rtol=0, atol=1e-6)
    masks = build_masks(maps[:, :-1], maps[:, -1:], scene.CELLS, AS_THEIRS)
    for index in range(2):
        assert masks[:, index].flatten(1).equal(PEER[f"{case}.mask.{index}"])


def test_the_attention_bias_is_the_authors() -> None:
    masks = torch.stack([PEER[f"phrase.mask.{index}"] for index in range(2)], dim=1)
    phrases = [list(scene.PHRASES.values())]
    bias = bias_joint(masks, phrases, scene.TEXT, Bias(*scene.BIAS))
    assert bias.equal(PEER["phrase.bias"])


@pytest.fixture(scope="module")
def flux() -> Any:
    """The tiny FLUX with both LoRAs, and what each LoRA's update is multiplied by."""
    model = FluxTransformer2DModel(**scene.CONFIG)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a second adapter beside the first
        scene.add_adapters(model)
    scene.fill(model)
    model.eval().requires_grad_(False)
    family = FAMILIES.load("flux")
    factors = [route(model, family.streams, Factors(), name) for name in scene.ADAPTERS]
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    pipeline = FluxPipeline(scheduler, None, None, None, None, None, model)
    pipeline.set_progress_bar_config(disable=True)
    return family, model, factors, pipeline


def call() -> dict[str, Any]:
    text = scene.conditioning()
    return {
        "prompt_embeds": text["text"],
        "pooled_prompt_embeds": text["pooled"],
        "height": scene.HEIGHT,
        "width": scene.WIDTH,
        "num_inference_steps": scene.STEPS,
        "guidance_scale": scene.GUIDANCE,
        "generator": [torch.Generator().manual_seed(scene.SEED)],
        "output_type": "latent",
    }


SPEC = SampleSpec(
    "two of them", scene.SEED, scene.HEIGHT, scene.WIDTH, 1, scene.STEPS, scene.GUIDANCE
)


@pytest.mark.parametrize(
    ("case", "behind", "bias"),
    [
        ("phrase", scene.BACKGROUND, Bias(*scene.BIAS)),
        pytest.param("end", (scene.END,), None, marks=pytest.mark.slow),
    ],
)
def test_both_phases_are_the_authors(
    flux: Any, case: str, behind: tuple[int, ...], bias: Bias | None
) -> None:
    """Their whole pipeline: masks equal, the final latents within rounding of seven steps."""
    family, model, factors, pipeline = flux
    options = FuseOptions(
        step=scene.COLLECT,
        layers=("transformer_blocks.18.attn",),
        sight=Sight(factor=1 / 1000, temperature=4000.0, centred=False),
        rule=AS_THEIRS,
        bias=bias,
    )
    fuse = FreeFuse(
        family,
        model,
        factors,
        scene.ADAPTERS,
        {SPEC.prompt: tuple(scene.PHRASES.values())},
        {SPEC.prompt: behind},
        options,
    )
    with torch.no_grad(), fuse.attach(pipeline, call, [SPEC]):
        latents = pipeline(**call()).images
    for index in range(2):
        assert fuse.masks[SPEC][index].flatten().equal(PEER[f"{case}.mask.{index}"][0])
    away = (PEER[f"{case}.latents"] - PEER["plain.latents"]).abs().max()
    assert away > 0.5
    torch.testing.assert_close(latents, PEER[f"{case}.latents"], **ROUNDING)


def test_afterwards_the_pipeline_is_the_plain_sum(flux: Any) -> None:
    _, _, factors, pipeline = flux
    with torch.no_grad():
        latents = pipeline(**call()).images
    assert all(own.idle for own in factors)
    torch.testing.assert_close(latents, PEER["plain.latents"], **ROUNDING)
