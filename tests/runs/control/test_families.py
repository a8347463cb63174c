"""Training under control on every family that takes a ControlNet, and what its files sample."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from tests.runs.control.families import FRAMES, config_of, list_variants, write_clips

from frisket.config.calls import ControlOptions
from frisket.config.load import ConfigError, check
from frisket.families.base import FAMILIES
from frisket.families.control.base import CONTROLS
from frisket.inference.generate import clips, embed
from frisket.inference.sample_specs import build_spec
from frisket.recipes.train import train
from frisket.runs.control.asking import plan_control
from frisket.runs.memory.estimate import predict
from frisket.runs.prepare import source_of
from frisket.runs.sampling.samples import load

QUICK = (("flux", "dev"), ("wan", "2.1-t2v-1.3b"))
VARIANTS = [
    pytest.param(*pair, id="-".join(pair), marks=() if pair in QUICK else pytest.mark.slow)
    for pair in list_variants()
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("train_kind", ["lora", "controlnet"])
@pytest.mark.parametrize(("family", "variant"), VARIANTS)
def test_a_run_begins_as_its_base_and_moves(
    world: Path, tmp_path: Path, family: str, variant: str, train_kind: str
) -> None:
    config = config_of(world, tmp_path, family, variant, train_kind)
    if train_kind == "controlnet" and FAMILIES.load(family).variants[variant].experts:
        with pytest.raises(ConfigError, match="a ControlNet is trained beside one"):
            check(config)
        return
    result = train(config)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "prior" in line]
    assert steps[0]["prior"] == 0
    assert steps[0]["grad_norm"] > 0
    foretold = predict(config, prepare=False)
    assert foretold.activations > 0
    if train_kind == "controlnet":
        assert steps[1]["prior"] > 0
        assert result.controlnet is not None
        net = CONTROLS.load(family).load(
            result.controlnet, variant, dtype=torch.float32, device="cpu"
        )
        count = sum(value.numel() for value in net.parameters())
        assert foretold.adapter == pytest.approx(4 * count / 2**20)


@pytest.mark.parametrize(
    ("family", "variant"), [("stable_diffusion", "sd15"), ("flux", "dev"), ("wan", "2.1-t2v-1.3b")]
)
def test_the_public_pipeline_samples_with_our_files_as_we_do(
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    variant: str,
) -> None:
    # Some public pipelines draw a control's latents from the posterior; we take its mode.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, *_: self.mode())
    config = config_of(world, tmp_path, family, variant, "controlnet")
    train(config)
    shelf, support = FAMILIES.load(family), CONTROLS.load(family)
    card, source = shelf.variants[variant], source_of(config, shelf)
    parts = load(shelf, source)
    size = 32 if card.video else 64
    spec = build_spec(
        card, "sks", 3, height=size, width=size, frames=FRAMES if card.video else 1, steps=2
    )
    embeddings = embed(shelf, variant, parts.text, [spec])
    name = "clip-controls/0.mkv" if card.video else "still-controls/0.png"
    options = ControlOptions(picture=world / name, scale=0.7)
    plan = plan_control(options, config, shelf, source, [spec])
    assert plan is not None
    assert plan.net == tmp_path / "controlnet"
    net = support.load(plan.net, variant, dtype=torch.float32, device="cpu")
    stock = support.pipeline(parts, net)
    stock.set_progress_bar_config(disable=True)
    negative = shelf.embed(parts.text, [""]) if card.negative else None
    kwargs: dict[str, Any] = shelf.call(
        variant, shelf.embed(parts.text, ["sks"]), negative, guidance=card.guidance
    )
    frames = {"num_frames": FRAMES} if card.video else {}
    [control] = plan.controls.values()
    output = stock(
        **kwargs,
        **support.call(control, 0.7),
        **frames,
        height=size,
        width=size,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
    )[0]
    theirs = torch.as_tensor(output[0])
    [(_, plain)] = clips(shelf, parts, embeddings, [spec])
    method = plan.build(shelf, parts, source)
    [(_, ours)] = clips(shelf, parts, embeddings, [spec], method=method)
    torch.testing.assert_close(ours, theirs.reshape(ours.shape), rtol=0, atol=1e-5)
    assert float((ours - plain).abs().max()) > 1e-4
    [(_, after)] = clips(shelf, parts, embeddings, [spec])
    assert torch.equal(after, plain)
