"""Attention capture: which layers, which rows, under what, and what it refuses."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contracts.test_attention import record_kernels
from torch import Tensor, nn

from frisket.adapters import lora
from frisket.attention.base import name_samples
from frisket.attention.capture import capture, choose_layers, match_prompts
from frisket.families.base import FAMILIES
from frisket.families.blocks import blocks_of
from frisket.families.quantise import quantise
from frisket.training.memory.offload import swap
from frisket.training.memory.precision import checkpoint_blocks, compile_blocks

PHRASES = [[[1], [0, 2]], [[0], [1, 3]]]
PROMPTS = ("a red fox on a stone wall", "two boats")
T = torch.tensor([0.3, 0.8])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Setting:
    """Tiny parts of a family and a batch of two for them."""

    def __init__(self, name: str, variant: str = "", frames: int = 1) -> None:
        self.family = FAMILIES.load(name)
        variant = variant or self.family.default
        self.parts = self.family.tiny(variant)
        assert self.parts.denoiser is not None
        assert self.parts.text is not None
        self.denoiser: nn.Module = deepcopy(self.parts.denoiser)
        grid = self.family.variants[variant].grid
        side = grid.patch * 2
        self.noisy = draw(2, grid.channels, frames, side, side)
        self.given = self.family.embed(self.parts.text, PROMPTS)

    @property
    def layers(self):
        return self.family.list_attention_layers(self.denoiser)

    def predict(self) -> Tensor:
        return self.family.predict(self.denoiser, self.noisy, T, self.given)

    def see(self, **options) -> dict[str, Tensor]:
        with torch.no_grad(), capture(self.layers, PHRASES, **options) as seen:
            self.predict()
        return seen.maps

    def attach(self) -> None:
        """A LoRA that is not at its starting point."""
        spec = lora.LoraSpec(rank=4, targets=self.family.lora_targets, dead=self.family.lora_dead)
        lora.attach(self.denoiser, spec, seed=0)
        for index, value in enumerate(lora.trainable(self.denoiser).values()):
            value.data += 0.05 * draw(*value.shape, seed=index)


@pytest.fixture
def pocket() -> Setting:
    return Setting("pocket", "image")


@pytest.fixture
def wan() -> Setting:
    return Setting("wan")


def test_layers_are_chosen_by_name_ending_and_pattern(pocket):
    layers = pocket.layers
    names = [layer.name for layer in layers]
    assert choose_layers(layers, "all") == layers
    assert choose_layers(layers, names[3]) == (layers[3],)
    assert choose_layers(layers, ["transformer_blocks.0.attn2", names[0]]) == layers
    chosen = choose_layers(layers, ["up_blocks.0.*", "mid_block.*"])
    assert [layer.name.split(".attentions")[0] for layer in chosen] == [
        "mid_block",
        "up_blocks.0",
        "up_blocks.0",
    ]
    assert [layer.name for layer in choose_layers(layers, "middle")] == names[2:4]


def test_the_middle_of_many_layers_is_four_of_them(wan):
    layers = [wan.layers[0]] * 30
    many = [type(layer)(f"blocks.{n}.attn2", *_rest(layer)) for n, layer in enumerate(layers)]
    names = [layer.name for layer in choose_layers(many, "middle")]
    assert names == ["blocks.10.attn2", "blocks.13.attn2", "blocks.16.attn2", "blocks.19.attn2"]


def _rest(layer):
    return layer.module, layer.kind, layer.tap


def test_unknown_layers_and_models_without_any_are_refused(pocket):
    with pytest.raises(ValueError, match=r"no attention layer is called 'attn3'; there are: down_"):
        choose_layers(pocket.layers, ["mid_block.*", "attn3"])
    with pytest.raises(ValueError, match="says nothing of its attention layers"):
        choose_layers(FAMILIES.load("wan").list_attention_layers(nn.Linear(2, 2)), "all")
    with (
        pytest.raises(ValueError, match=r"mid_block\S+ is asked for twice"),
        capture([pocket.layers[2]] * 2, PHRASES),
    ):
        pass


def test_frames_in_the_batch_become_the_frame_axis():
    clip = Setting("pocket", "image", frames=3)
    maps = clip.see()
    noisy = clip.noisy
    for frame in range(3):
        clip.noisy = noisy[:, :, frame : frame + 1]
        for name, still in clip.see().items():
            torch.testing.assert_close(maps[name][:, :, frame : frame + 1], still)


def test_a_pipeline_with_guidance_is_captured_for_its_prompts(pocket):
    pocket.parts.denoiser = pocket.denoiser
    pipeline = pocket.family.pipeline(pocket.parts)
    pipeline.set_progress_bar_config(disable=True)
    negative = pocket.family.embed(pocket.parts.text, ["", ""])
    options = pocket.family.call("image", pocket.given, negative, guidance=3.0)
    maps = {}
    for name, rows in (("matched", match_prompts(pocket.given["tokens"])), ("rows", slice(2, 4))):
        with capture(pocket.layers, PHRASES, rows=rows) as seen:
            pipeline(**options, num_inference_steps=2, generator=torch.Generator().manual_seed(0))
        assert len(seen.calls) == 2
        first, second = (float(call.timestep[0]) for call in seen.calls)
        assert first > second
        maps[name] = [call.maps for call in seen.calls]
    for one, other in zip(maps["matched"], maps["rows"], strict=True):
        for layer, values in one.items():
            assert values.shape[:3] == (2, 2, 1)
            torch.testing.assert_close(values, other[layer], rtol=0, atol=0)


def test_calls_without_the_prompts_are_left_out(wan):
    negative = wan.family.embed(wan.parts.text, ["", "blurred"])
    rows = match_prompts(wan.given["text"])
    with torch.no_grad(), capture(wan.layers, PHRASES, rows=rows) as seen:
        for given in (wan.given, negative, wan.given):
            wan.family.predict(wan.denoiser, wan.noisy, T, given)
    assert len(seen.calls) == 2
    for name, values in wan.see().items():
        torch.testing.assert_close(seen.maps[name], values)
    seen.clear()
    assert seen.maps == {}


def test_rows_that_do_not_belong_to_the_phrases_are_refused(wan):
    with (
        torch.no_grad(),
        pytest.raises(ValueError, match=r"blocks\.0\.attn2 attended for 2 rows, .* for 1 samples"),
        capture(wan.layers, PHRASES[:1]),
    ):
        wan.predict()
    with (
        torch.no_grad(),
        pytest.raises(ValueError, match=r"rows \[0, 1\] of the batch"),
        capture(wan.layers, PHRASES, rows=match_prompts(wan.given["text"].flip(0))),
    ):
        wan.predict()


def test_positions_off_the_axis_and_uneven_phrases_are_refused(wan):
    for phrases, message in (
        ([[[512]], [[0]]], "position 512 is not on a text axis of 512"),
        ([[[1]], [[0], [1]]], r"samples have \[1, 2\] phrases"),
    ):
        with (
            torch.no_grad(),
            pytest.raises(ValueError, match=message),
            capture(wan.layers, phrases),
        ):
            wan.predict()


@pytest.mark.parametrize("name", ["flux", "hunyuan_video"])
def test_the_share_within_the_text_is_a_softmax_over_its_columns(name):
    setting = Setting(name)
    layer = setting.layers[0]
    text: list[slice] = []
    remove = layer.tap(lambda projections: text.append(projections.text))
    with torch.no_grad(), record_kernels((layer,)) as calls:
        setting.predict()
    remove()
    kernel = calls[layer.name][0]
    maps = setting.see(softmax="text")[layer.name].flatten(2)
    cells = maps.shape[2]
    full = kernel.softmax()[..., text[0]]  # b heads n s
    image = slice(0, cells) if text[0].start else slice(text[0].stop, text[0].stop + cells)
    shares = (full / full.sum(-1, keepdim=True))[:, :, image].mean(1)
    for row, phrases in enumerate(PHRASES):
        for column, positions in enumerate(phrases):
            expected = shares[row][:, positions].sum(1).float()
            torch.testing.assert_close(maps[row, column], expected, rtol=1e-5, atol=1e-5)


def test_more_phrases_than_a_head_has_channels(pocket):
    every = [[[position] for position in range(12)]] * 2
    assert any(layer.module.to_q.out_features // layer.module.heads < 12 for layer in pocket.layers)
    with torch.no_grad(), capture(pocket.layers, every) as seen:
        pocket.predict()
    for values in seen.maps.values():
        torch.testing.assert_close(values.sum(1), torch.ones_like(values[:, 0]))


def test_saliency_is_the_dot_product_of_outputs():
    setting = Setting("flux")
    layer = setting.layers[1]
    with torch.no_grad(), record_kernels((layer,)) as calls:
        setting.predict()
    output = calls[layer.name][0].output.transpose(1, 2).flatten(2)
    length = setting.given["text"].shape[1]
    text, image = output[:, :length], output[:, length:]
    maps = setting.see(form="output")[layer.name].flatten(2)
    for row, phrases in enumerate(PHRASES):
        for column, positions in enumerate(phrases):
            expected = image[row] @ text[row, positions].mean(0)
            torch.testing.assert_close(maps[row, column], expected, rtol=1e-5, atol=1e-5)


def test_saliency_of_cross_attention_is_refused(wan):
    with (
        pytest.raises(ValueError, match=r"blocks\.0\.attn2, blocks\.1\.attn2 is cross-attention"),
        capture(wan.layers, PHRASES, form="output"),
    ):
        pass


def test_texts_of_different_lengths_that_go_one_by_one_are_one_call():
    setting = Setting("qwen_image_21")
    assert len(set(setting.given["mask"].sum(1).tolist())) == 2
    maps = setting.see()
    for row in range(2):
        given = {name: value[row : row + 1] for name, value in setting.given.items()}
        with torch.no_grad(), capture(setting.layers, PHRASES[row : row + 1]) as seen:
            setting.family.predict(
                setting.denoiser, setting.noisy[row : row + 1], T[row:][:1], given
            )
        for name, values in seen.maps.items():
            torch.testing.assert_close(maps[name][row : row + 1], values)


def test_a_batch_that_was_cut_short_leaves_nothing_to_the_next(pocket):
    layer = pocket.layers[0]

    def run(samples: list[int]) -> None:
        given = {name: value[samples] for name, value in pocket.given.items()}
        with name_samples(samples):
            pocket.family.predict(pocket.denoiser, pocket.noisy[samples], T[samples], given)

    with torch.no_grad(), capture([layer], PHRASES) as seen:
        run([1])
        assert seen.maps == {}
        run([1])
        run([0])
    torch.testing.assert_close(seen.maps[layer.name], pocket.see()[layer.name])


def test_an_adapter_is_seen_and_not_when_it_is_off(wan):
    base = wan.see()
    wan.attach()
    tuned = wan.see()
    with lora.frozen(wan.denoiser):
        off = wan.see()
    for name, values in base.items():
        torch.testing.assert_close(off[name], values, rtol=0, atol=0)
        assert not torch.equal(tuned[name], values)


def test_random_draws_of_the_model_stay_its_own(wan):
    spec = lora.LoraSpec(rank=4, targets=wan.family.lora_targets, dropout=0.5)
    lora.attach(wan.denoiser, spec, seed=0)
    for index, value in enumerate(lora.trainable(wan.denoiser).values()):
        value.data += 0.05 * draw(*value.shape, seed=index)
    wan.denoiser.train()
    torch.manual_seed(5)
    plain = wan.predict()
    torch.manual_seed(5)
    with capture(wan.layers, PHRASES):
        within = wan.predict()
    torch.testing.assert_close(within, plain, rtol=0, atol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("prediction", [False, True])
def test_gradients_under_block_swap_are_the_plain_ones(checkpointing, prediction):
    setting = Setting("wan")
    setting.attach()
    setting.denoiser.train()
    if checkpointing:
        checkpoint_blocks(setting.denoiser)

    def compute_gradients() -> dict[str, Tensor]:
        with capture(setting.layers[:1], PHRASES) as seen:
            output = setting.predict()
        loss = sum(maps.square().mean() for maps in seen.maps.values())
        (loss + output.square().mean() * prediction).backward()
        trained = lora.trainable(setting.denoiser)
        taken = {
            name: value.grad.clone() for name, value in trained.items() if value.grad is not None
        }
        for value in trained.values():
            value.grad = None
        return taken

    plain = compute_gradients()
    assert plain
    swap(setting.denoiser, len(blocks_of(setting.denoiser)), torch.device("cpu"))
    for _ in range(2):
        swapped = compute_gradients()
        assert swapped.keys() == plain.keys()
        for name, gradient in plain.items():
            torch.testing.assert_close(swapped[name], gradient, rtol=0, atol=0)


def test_a_quantised_base_is_read_and_learnt_through(wan):
    quantise(wan.denoiser, "nf4", dtype=torch.float32, device="cpu")
    layers = wan.layers
    maps = wan.see()
    with torch.no_grad(), record_kernels(layers) as calls:
        wan.predict()
    for layer in layers:
        full = calls[layer.name][0].softmax().mean(1)
        expected = full[0, :, PHRASES[0][1]].sum(1).float()
        torch.testing.assert_close(maps[layer.name][0, 1].flatten(), expected, rtol=1e-5, atol=1e-5)
    wan.attach()
    with capture(wan.layers, PHRASES) as seen:
        wan.predict()
    sum(values.square().mean() for values in seen.maps.values()).backward()
    assert any(value.grad is not None for value in lora.trainable(wan.denoiser).values())


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize("name", ["flux", "wan"])
def test_low_precision_maps_are_float32_and_near(name, autocast):
    setting = Setting(name)
    plain = setting.see()
    if not autocast:
        setting.denoiser.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        near = setting.see()
    for layer, values in near.items():
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, plain[layer], rtol=0.1, atol=1e-3)


def test_without_gradients_nothing_is_kept_for_them(wan):
    assert not any(values.requires_grad for values in wan.see().values())


def test_compiled_blocks_and_fused_projections_are_refused_by_name(wan):
    compiled = Setting("wan")
    compile_blocks(compiled.denoiser, backend="eager")
    with (
        pytest.raises(
            ValueError, match=r"blocks\.0\.attn2 cannot be captured: its block is compil"
        ),
        capture(compiled.layers, PHRASES),
    ):
        pass
    wan.denoiser.fuse_qkv_projections()
    with (
        pytest.raises(ValueError, match=r"blocks\.0\.attn2 cannot be captured: its projections"),
        capture(wan.layers, PHRASES),
    ):
        pass
    assert not any(module._forward_hooks for module in wan.denoiser.modules())


def test_the_page_runs_as_it_is_shown():
    page = (Path(__file__).parents[2] / "docs" / "attention.md").read_text(encoding="utf-8")
    shown = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    room: dict[str, Any] = {"noisy": draw(1, 12, 1, 16, 16), "t": torch.tensor([0.5])}
    exec(shown[1], room)
    assert {maps.shape[:3] for maps in room["record"].maps.values()} == {(1, 2, 1)}
