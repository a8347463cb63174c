"""T-LoRA: its schedule, its orthogonal start, its files; and the authors' own numbers."""

import json
from pathlib import Path

import pytest
import torch
from tests.adapters.routed import t_lora_scene as scene
from torch import Tensor, nn

from frisket.adapters import lora
from frisket.adapters.attach import outputs_of
from frisket.adapters.files import header
from frisket.adapters.formats import glance
from frisket.adapters.routed.exporting import check_fixed, drop_schedule, list_schedule
from frisket.adapters.routed.factors import Factors
from frisket.adapters.routed.orthogonal import START, expect_last
from frisket.adapters.routed.peft_variant import route
from frisket.adapters.routed.schedule import RankSchedule
from frisket.adapters.spec import ADAPTER, AdapterMismatch
from frisket.families.base import FAMILIES, layer_names
from frisket.families.shared.streams.unet import UNetStreams

PEER = json.loads((Path(__file__).parent / "t_lora.json").read_text())
RANK = scene.RANK


def spec_of(**options) -> lora.LoraSpec:
    targets = (r"/attn\d\.(to_[qkv]|to_out\.0)$/",)
    return lora.LoraSpec(rank=RANK, targets=targets, rank_schedule="t-lora", rank_min=4, **options)


def run(unet: nn.Module, rows: slice = slice(None)) -> Tensor:
    inputs = {name: value[rows] for name, value in scene.draw_inputs().items()}
    return unet(inputs["sample"], inputs["timestep"], inputs["text"], return_dict=False)[0]


def attach(dtype: torch.dtype = torch.float32, **options) -> nn.Module:
    unet = scene.build_unet().to(dtype)
    lora.attach(unet, spec_of(**options), seed=0, streams=UNetStreams())
    return unet.eval()


def fill(unet: nn.Module, *, orthogonal: bool) -> None:
    for name in outputs_of(unet):
        layer = unet.get_submodule(name)
        if not hasattr(layer, "lora_A"):
            continue
        down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        weights = scene.draw_weights(name, down.shape[1], up.shape[0])
        down.data, up.data = weights["down"], weights["up"]
        if orthogonal:
            start = layer.lora_start[ADAPTER]
            layer.lora_singular[ADAPTER].data = weights["singular"]
            start.down.weight.data, start.up.weight.data = weights["base.down"], weights["base.up"]
            start.singular.data = weights["base.singular"]


@pytest.mark.parametrize("case", PEER["schedules"], ids=str)
def test_the_schedule_is_that_of_the_authors_trainers(case):
    t = torch.tensor(PEER["timesteps"], dtype=torch.float32) / 1000
    counts = RankSchedule(case["least"], case["power"]).count(t, case["rank"]).tolist()
    assert counts == case["sdxl"]
    if "flux" in case:
        assert counts == case["flux"]


def test_the_schedule_ends_at_all_ranks_and_at_the_least_and_never_rises_with_t():
    t = torch.linspace(0, 1, 1001)
    for schedule in (
        RankSchedule(3),
        RankSchedule(3, 2.5),
        RankSchedule(3, quantiles=(0.0, 0.8, 1.0)),
    ):
        counts = schedule.count(t, 10)
        assert (counts[0], counts[-1]) == (10, 3)
        assert (counts.diff() <= 0).all()
    # Half of training lies above t = 0.8: half of the ranks go there.
    assert RankSchedule(0, quantiles=(0.0, 0.8, 1.0)).count(torch.tensor([0.8]), 10) == 5
    assert RankSchedule(2, pairs=True).mask(torch.tensor([1.0]), 8).tolist() == [[1, 1, 0, 0] * 2]
    with pytest.raises(ValueError, match="rank 2 is less than the 3 ranks"):
        RankSchedule(3).count(t, 2)


@torch.no_grad()
@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_whole_unet_gives_what_the_authors_layers_give(orthogonal):
    unet = attach(orthogonal=orthogonal)
    fill(unet, orthogonal=orthogonal)
    theirs = PEER["outputs"]["ortho_lora" if orthogonal else "lora"]
    masked = run(unet)
    assert torch.allclose(masked.flatten(), torch.tensor(theirs["masked"]), atol=1e-5)
    assert torch.allclose(run(unet, slice(1, 2)), masked[1:], atol=1e-5)  # its own ranks
    route(unet, UNetStreams(), Factors())
    full = run(unet)
    assert torch.allclose(full.flatten(), torch.tensor(theirs["full"]), atol=1e-5)
    assert (full - masked).abs().max() > 1e-3


def test_ranks_that_do_not_act_learn_nothing():
    unet = attach()
    fill(unet, orthogonal=False)
    run(unet, slice(1, 2)).square().sum().backward()  # timestep 900: 4 of 8
    for name, value in lora.trainable(unet).items():
        late = value.grad[4:] if "lora_A" in name else value.grad[:, 4:]
        early = value.grad[:4] if "lora_A" in name else value.grad[:, :4]
        assert not late.any()
        assert early.any()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_orthogonal_start_is_the_base_at_every_noise_level(dtype):
    unet, base = attach(dtype, orthogonal=True), scene.build_unet().to(dtype)
    inputs = {name: value.to(dtype) for name, value in scene.draw_inputs().items()}
    for timestep in (0, 400, 999):
        call = (inputs["sample"], timestep, inputs["text"])
        assert torch.equal(unet(*call, return_dict=False)[0], base(*call, return_dict=False)[0])
    layer = next(module for module in unet.modules() if hasattr(module, START))
    down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    eye = torch.eye(RANK)
    assert torch.allclose(down @ down.T, eye, atol=1e-5)
    assert torch.allclose(up.T @ up, eye, atol=1e-5)
    trained = lora.trainable(unet)
    assert any("lora_singular" in name for name in trained)
    assert not any("lora_start" in name for name in trained)
    again = lora.trainable(attach(orthogonal=True))
    assert all(torch.equal(value, again[name]) for name, value in trained.items())


@pytest.mark.parametrize(("inputs", "outputs"), [(128, 128), (96, 160)])
def test_the_start_has_the_last_singular_values_that_are_to_be_expected(inputs, outputs):
    drawn = torch.stack(
        [
            torch.linalg.svdvals(
                torch.randn(inputs, outputs, generator=torch.Generator().manual_seed(seed)) / 8
            )[-8:]
            for seed in range(20)
        ]
    ).mean(0)
    expected = expect_last(inputs, outputs, 8)
    assert torch.allclose(expected, drawn, rtol=0.05, atol=0.02)


def test_a_rank_beyond_a_layers_sides_is_refused_before_anything_is_drawn():
    unet = scene.build_unet()
    spec = lora.LoraSpec(rank=48, targets=("attn2.to_k",), orthogonal=True)
    with pytest.raises(ValueError, match=r"set lora\.rank to 32 or less"):
        lora.attach(unet, spec, seed=0, streams=UNetStreams())
    with pytest.raises(ValueError, match="streams` are needed"):
        lora.attach(scene.build_unet(), spec_of(), seed=0)


@torch.no_grad()
@pytest.mark.parametrize("form", ["diffusers", "kohya"])
@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_file_acts_as_what_was_trained(tmp_path, form, orthogonal):
    names = layer_names(FAMILIES.load("stable_diffusion"), "sd15")
    unet = attach(orthogonal=orthogonal, alpha=4.0)
    fill(unet, orthogonal=orthogonal)
    path = tmp_path / "lora.safetensors"
    keys = {"prefix": "unet", "names": names if form == "kohya" else None}
    lora.save(unet, path, {}, form=form, **keys)
    fresh = scene.build_unet()
    lora.load(fresh, path, streams=UNetStreams(), **keys)
    assert lora.get_spec(fresh).rank == (2 * RANK if orthogonal else RANK)
    assert torch.allclose(run(fresh.eval()), run(unet), atol=1e-5)

    going_on = attach(orthogonal=orthogonal, alpha=4.0)
    lora.load(going_on, path, streams=UNetStreams(), **keys)
    assert torch.allclose(run(going_on), run(unet), atol=1e-5)

    with pytest.raises(ValueError, match="streams` are needed"):
        lora.load(scene.build_unet(), path, **keys)
    plain = scene.build_unet()
    lora.attach(plain, lora.LoraSpec(rank=RANK, alpha=4.0, targets=spec_of().targets), seed=0)
    with pytest.raises(AdapterMismatch, match=r'Set lora\.rank_schedule = "t-lora"'):
        lora.load(plain, path, streams=UNetStreams(), **keys)


@torch.no_grad()
def test_what_other_programs_make_of_it_is_said_and_a_plain_lora_made_on_request(tmp_path):
    unet = attach(orthogonal=True)
    fill(unet, orthogonal=True)
    path = tmp_path / "lora.safetensors"
    lora.save(unet, path, {}, prefix="unet")
    metadata = header(path)[1]
    assert "t-lora, 4 to 8 ranks, orthogonal start" in list_schedule(metadata)[0]
    with pytest.raises(AdapterMismatch, match="merging would mix or fix them"):
        check_fixed([metadata], "merging")
    plain, notes = drop_schedule(metadata)
    assert "dropped its schedule" in notes[0]
    assert not list_schedule(plain)
    check_fixed([plain], "merging")
    assert glance(path).layers


def test_a_merge_into_the_weights_is_refused_with_the_reason():
    unet = attach()
    layer = next(module for module in unet.modules() if hasattr(module, "lora_A"))
    with pytest.raises(NotImplementedError, match="which no weight can hold"):
        layer.merge(adapter_names=[ADAPTER])
    with pytest.raises(NotImplementedError, match="which no weight can hold"):
        layer.merge(safe_merge=True, adapter_names=[ADAPTER])
