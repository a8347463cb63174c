"""HunyuanVideo (the first, 13B) against the stock diffusers pipeline, its files and its names."""

import logging
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from diffusers import HunyuanVideoPipeline, HunyuanVideoTransformer3DModel
from diffusers.loaders.lora_conversion_utils import _convert_hunyuan_video_lora_to_diffusers
from diffusers.loaders.single_file_utils import convert_hunyuan_video_transformer_to_diffusers
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import (
    HunyuanVideoImageToVideoPipeline,
)
from safetensors.torch import save_file
from torch import nn

from frisket.adapters import lora
from frisket.families.base import Source
from frisket.families.key_map import Names, UnknownLayer
from frisket.families.models.hunyuan_video.family import ARCHITECTURES, FAMILY
from frisket.families.models.hunyuan_video.key_map import ROWS

VARIANT = "t2v"
PROMPTS = ["a red fox, café &amp; snow", "boats"]
TENCENT = Names(ROWS)
MODULATION = "norm_out.linear"  # the head's: its rows are in another order in the original


@pytest.fixture(scope="module")
def parts():
    return FAMILY.tiny(VARIANT)


@pytest.fixture(scope="module")
def saved(parts, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hunyuan")
    FAMILY.save(parts, folder)
    return folder


@pytest.fixture(scope="module")
def pipeline(parts) -> HunyuanVideoPipeline:
    found = FAMILY.pipeline(parts)
    found.set_progress_bar_config(disable=True)
    return found


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def predict(denoiser, parts, frames: int = 2, **more: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        given = {**FAMILY.embed(parts.text, PROMPTS[:1]), **more}
        return FAMILY.predict(denoiser, draw(1, 16, frames, 4, 6), torch.tensor([0.7]), given)


@pytest.mark.parametrize("frames", [1, 5])
def test_the_transformer_is_fed_what_the_stock_pipeline_feeds_it(parts, pipeline, frames):
    calls = []
    handle = parts.denoiser.register_forward_hook(
        lambda _, __, given, out: calls.append((given, out[0])), with_kwargs=True
    )
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    pipeline(
        prompt=PROMPTS,
        height=32,
        width=48,
        num_frames=frames,
        num_inference_steps=2,
        guidance_scale=6.0,
        generator=generators,
        output_type="latent",
    )
    handle.remove()
    assert len(calls) == 2
    conditioning = FAMILY.embed(parts.text, PROMPTS)
    text, mask = conditioning["text"], conditioning["text_mask"]
    noise = torch.cat([draw(1, 16, 1 + frames // 4, 4, 6, seed=seed) for seed in (1, 2)])
    torch.testing.assert_close(calls[0][0]["hidden_states"], noise)
    for given, prediction in calls:
        length = mask.shape[1]
        assert torch.equal(given["encoder_attention_mask"][:, :length], mask.float())
        assert not given["encoder_attention_mask"][:, length:].any()
        stock = given["encoder_hidden_states"][:, :length] * mask[..., None]
        torch.testing.assert_close(text, stock, atol=1e-5, rtol=0)
        torch.testing.assert_close(conditioning["pooled"], given["pooled_projections"])
        assert given["guidance"].tolist() == [6000, 6000]
        t = given["timestep"].float() / 1000
        told = {**conditioning, "guidance": torch.tensor([6.0, 6.0])}
        with torch.no_grad():
            ours = FAMILY.predict(parts.denoiser, given["hidden_states"], t, told)
        torch.testing.assert_close(ours, prediction, atol=1e-5, rtol=0)


def test_training_tells_the_distilled_model_a_guidance_of_one(parts):
    given = {}
    handle = parts.denoiser.register_forward_pre_hook(
        lambda _, __, kw: given.update(kw), with_kwargs=True
    )
    plain = predict(parts.denoiser, parts)
    handle.remove()
    assert given["guidance"].tolist() == [1000]
    assert torch.equal(plain, predict(parts.denoiser, parts, guidance=torch.ones(1)))
    assert not torch.equal(plain, predict(parts.denoiser, parts, guidance=torch.tensor([6.0])))


def test_padding_with_zeros_changes_nothing(parts):
    given = FAMILY.embed(parts.text, PROMPTS[1:])
    padded = {
        "text": torch.cat([given["text"], torch.zeros(1, 9, 16)], 1),
        "text_mask": torch.cat([given["text_mask"], torch.zeros(1, 9, dtype=torch.int64)], 1),
        "pooled": given["pooled"],
    }
    noisy, t = draw(1, 16, 2, 4, 6), torch.tensor([0.6])
    with torch.no_grad():
        alone, more = (FAMILY.predict(parts.denoiser, noisy, t, one) for one in (given, padded))
        both = FAMILY.embed(parts.text, PROMPTS)
        second = FAMILY.predict(parts.denoiser, noisy.expand(2, -1, -1, -1, -1), t.expand(2), both)
    torch.testing.assert_close(alone, more, atol=1e-6, rtol=0)
    torch.testing.assert_close(alone, second[1:], atol=1e-5, rtol=0)


def test_encode_normalises_as_the_stock_image_to_video_pipeline_does(parts, pipeline):
    stock = HunyuanVideoImageToVideoPipeline(**pipeline.components, image_processor=None)
    picture = draw(1, 3, 32, 48).clamp(-1, 1)
    _, latents = stock.prepare_latents(
        picture, 1, 16, 32, 48, 5, torch.float32, "cpu", torch.Generator(), None, "token_replace"
    )
    ours = FAMILY.encode(parts.vae, picture[:, :, None])
    torch.testing.assert_close(ours, latents[:, :, :1], atol=1e-5, rtol=0)


def test_only_the_group_norms_of_the_vae_look_ahead_in_time(parts):
    """The convolutions and the attention are causal: the grid's time rule is that of the model."""
    vae, grid = deepcopy(parts.vae), FAMILY.variants[VARIANT].grid
    for block in list(vae.encoder.modules()):
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.GroupNorm):
                setattr(block, name, nn.Identity())
    clip = draw(1, 3, 9, 32, 48).clamp(-1, 1)
    before = FAMILY.encode(vae, clip)
    for index in range(3):
        for frame in grid.frames_of(index):
            changed = clip.clone()
            changed[:, :, frame] *= -1
            moved = (FAMILY.encode(vae, changed) != before).flatten(3).any(-1).any(1)[0]
            assert moved.tolist() == [later >= index for later in range(3)]


@pytest.mark.parametrize("frames", [5, 17])  # 17: diffusers takes it in overlapping stretches
def test_decode_gives_the_pixels_of_the_stock_pipeline(parts, pipeline, frames):
    def sample(kind: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        size = {"height": 32, "width": 32, "num_frames": frames, "num_inference_steps": 1}
        return pipeline(PROMPTS[0], **size, generator=generator, output_type=kind).frames

    ours = FAMILY.decode(parts.vae, sample("latent")) / 2 + 0.5
    torch.testing.assert_close(ours.transpose(1, 2).clamp(0, 1), sample("pt"), atol=1e-5, rtol=0)


def test_timestep_and_guidance_are_not_rounded_by_a_bfloat16_model(saved):
    denoiser = FAMILY.load_denoiser(Source(VARIANT, str(saved), dtype=torch.bfloat16))
    given = {}
    denoiser.register_forward_pre_hook(lambda _, __, kw: given.update(kw), with_kwargs=True)
    told = {
        "text": torch.zeros(1, 3, 16),
        "text_mask": torch.ones(1, 3),
        "pooled": torch.zeros(1, 32),
        "guidance": torch.tensor([6.007]),
    }
    prediction = FAMILY.predict(denoiser, draw(1, 16, 1, 4, 4), torch.tensor([0.9371]), told)
    assert given["timestep"].item() == pytest.approx(937.1)
    assert given["guidance"].item() == pytest.approx(6007)
    assert given["hidden_states"].dtype == given["encoder_hidden_states"].dtype == torch.bfloat16
    assert prediction.dtype == torch.float32


def test_a_prompt_beyond_the_models_length_is_cut_aloud(parts, caplog):
    with caplog.at_level(logging.WARNING, logger="frisket"):
        given = FAMILY.embed(parts.text, ["x" * 600, "short"])
    assert given["text"].shape == (2, 256, 16)
    assert "all 256 tokens are taken, what is beyond is cut: xxx" in caplog.text
    assert "short" not in caplog.text


def test_a_sample_from_embeddings_is_the_sample_from_the_prompt(parts, pipeline):
    bare = FAMILY.tiny(VARIANT)
    bare.text = None
    stock = FAMILY.pipeline(bare)
    stock.set_progress_bar_config(disable=True)
    size = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 2}
    given = FAMILY.call(VARIANT, FAMILY.embed(parts.text, PROMPTS[:1]), None, guidance=4.0)
    ours, theirs = (
        pipe(**call, **size, generator=torch.Generator().manual_seed(1), output_type="pt").frames
        for pipe, call in (
            (stock, given),
            (pipeline, {"prompt": PROMPTS[0], "guidance_scale": 4.0}),
        )
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 5, 17])
def test_a_painted_cell_is_the_only_one_that_teaches(parts, frames):
    clip = draw(1, 3, frames, 32, 48).clamp(-1, 1)
    latents = FAMILY.encode(parts.vae, clip).requires_grad_()
    given = FAMILY.embed(parts.text, PROMPTS[:1])
    f = latents.shape[2] - 1
    prediction = FAMILY.predict(parts.denoiser, latents, torch.tensor([0.5]), given)
    prediction.retain_grad()
    weights = torch.zeros(1, 1, f + 1, 4, 6)
    weights[..., f, 1, 4] = 1
    (weights * prediction**2).sum().backward()
    assert (prediction.grad != 0).any(1)[0].nonzero().tolist() == [[f, 1, 4]]
    assert FAMILY.variants[VARIANT].grid.cells(frames, 32, 48) == latents.shape[2:]


def test_the_adapter_goes_on_the_layers_of_the_blocks_and_all_of_it_learns(parts):
    denoiser = FAMILY.tiny(VARIANT).denoiser
    spec = lora.LoraSpec(rank=2, targets=FAMILY.lora_targets, dead=FAMILY.lora_dead)
    names = lora.attach(denoiser, spec, seed=0)
    blocks = [
        name
        for name, layer in FAMILY.tiny(VARIANT).denoiser.named_modules()
        if isinstance(layer, nn.Linear)
        and name.startswith(("transformer_blocks.", "single_transformer_blocks."))
        and "norm" not in name
    ]
    left_out = {pattern.format(1) for pattern in FAMILY.lora_dead}
    assert set(names) == set(blocks) - left_out
    assert {"single_transformer_blocks.0.proj_mlp", "single_transformer_blocks.0.proj_out"} < {
        *names
    }
    with torch.no_grad():
        for value in lora.trainable(denoiser).values():
            value.add_(0.1)
    given = FAMILY.embed(parts.text, PROMPTS[:1])
    out = FAMILY.predict(denoiser, draw(1, 16, 2, 4, 6), torch.tensor([0.7]), given)
    out.square().mean().backward()
    assert all(value.grad.any() for value in lora.trainable(denoiser).values())


def original(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Diffusers' state dict of linear layers in the original's names, by the family's table."""
    groups: dict[str, dict[int, torch.Tensor]] = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        if layer == MODULATION:
            name, place, value = "final_layer.adaLN_modulation.1", 0, _swapped(value)  # noqa: PLW2901
        else:
            name, place, _ = TENCENT.original(layer)
        groups.setdefault(f"{name}.{kind}", {})[place] = value
    return {key: torch.cat([rows[i] for i in sorted(rows)]) for key, rows in groups.items()}


def _swapped(value: torch.Tensor) -> torch.Tensor:
    return torch.cat(value.chunk(2)[::-1])


def layers(model: nn.Module) -> dict[str, nn.Module]:
    kinds = (nn.Linear, nn.Conv3d)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}


def test_the_names_are_those_of_diffusers_own_conversion():
    with torch.device("meta"):  # of full width: the conversion has 3072 written into it
        model = HunyuanVideoTransformer3DModel(num_layers=2, num_single_layers=2)
    state = {
        f"{name}.{kind}": torch.rand(len(layer.weight), *([1] if kind == "weight" else []))
        for name, layer in layers(model).items()
        for kind in ("weight", "bias")
    }
    converted = convert_hunyuan_video_transformer_to_diffusers(original(state))
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[key], state[key]) for key in state)


def test_every_layer_but_the_heads_modulation_has_one_original_name(parts):
    seen = set()
    for name in layers(parts.denoiser):
        if name == MODULATION:
            with pytest.raises(UnknownLayer):
                TENCENT.original(name)
            continue
        found, place, count = TENCENT.original(name)
        fused = FAMILY.names.diffusers(found)
        assert len(fused) == count
        assert fused[place] == name
        assert (found, place) not in seen
        seen.add((found, place))


def test_diffusers_reads_a_lora_in_the_original_names():
    name = "single_blocks.1.linear1"
    rows = torch.rand(4 * 3072 + 3072 * 3, 2)
    converted = _convert_hunyuan_video_lora_to_diffusers(
        {
            f"diffusion_model.{name}.lora_A.weight": torch.rand(2, 8),
            f"diffusion_model.{name}.lora_B.weight": rows,
        }
    )
    places = FAMILY.names.diffusers(name)
    assert converted.keys() == {
        f"transformer.{place}.lora_{half}.weight" for place in places for half in "AB"
    }
    joined = torch.cat([converted[f"transformer.{place}.lora_B.weight"] for place in places])
    assert torch.equal(joined, rows)


def test_one_file_in_the_authors_names_loads_exactly(parts, tmp_path):
    config = {**parts.denoiser.config, "num_single_layers": 0}  # 3072 again
    model = HunyuanVideoTransformer3DModel.from_config(config).eval()
    model.save_pretrained(tmp_path / "transformer")
    state = model.state_dict()
    linear = {f"{name}.{kind}" for name in layers(model) for kind in ("weight", "bias")}
    norms = {
        "transformer_blocks": "double_blocks",
        "attn.norm_q": "img_attn_q_norm",
        "attn.norm_k": "img_attn_k_norm",
        "attn.norm_added_q": "txt_attn_q_norm",
        "attn.norm_added_k": "txt_attn_k_norm",
        "context_embedder.token_refiner.refiner_": "txt_in.individual_token_refiner.",
    }
    named = original({key: value for key, value in state.items() if key in linear})
    for key, value in state.items():
        if key not in linear:
            for ours, theirs in norms.items():
                key = key.replace(ours, theirs)  # noqa: PLW2901
            named[key] = value
    save_file(named, tmp_path / "original.safetensors")
    loaded = FAMILY.load_denoiser(Source(VARIANT, str(tmp_path / "original.safetensors")))
    assert torch.equal(predict(loaded, parts), predict(model, parts))


def test_the_built_in_architecture_has_the_released_size():
    with torch.device("meta"):
        model = HunyuanVideoTransformer3DModel.from_config(ARCHITECTURES[VARIANT])
    assert sum(value.numel() for value in model.parameters()) == 12_821_012_544


def test_another_models_weights_are_refused(saved, tmp_path):
    for load, name in ((FAMILY.load_denoiser, "Transformer3DModel"), (FAMILY.load_vae, "")):
        with pytest.raises(
            ValueError, match=rf"variant 1\.5-480p-t2v: it holds a .*Video{name}, not"
        ):
            load(Source("1.5-480p-t2v", str(saved)))
    seeing = HunyuanVideoTransformer3DModel(
        in_channels=33,
        num_attention_heads=1,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=16,
        rope_axes_dim=(4, 6, 6),
        image_condition_type="latent_concat",
    )
    seeing.save_pretrained(tmp_path / "transformer")
    with pytest.raises(ValueError, match="text-to-video transformer: its in_channels is 33"):
        FAMILY.load_denoiser(Source(VARIANT, str(tmp_path)))


def test_the_stock_pipeline_loads_the_adapter_and_samples_as_ours(parts, saved, tmp_path):
    ours = FAMILY.tiny(VARIANT)
    spec = lora.LoraSpec(rank=2, alpha=3.0, targets=FAMILY.lora_targets, dead=FAMILY.lora_dead)
    names = lora.attach(ours.denoiser, spec, seed=0)
    with torch.no_grad():
        for value in lora.trainable(ours.denoiser).values():
            value.add_(0.1)
    lora.save(ours.denoiser, tmp_path / "adapter.safetensors", {}, prefix=FAMILY.lora_prefix)
    stock = HunyuanVideoPipeline.from_pretrained(saved, local_files_only=True)
    stock.load_lora_weights(tmp_path, weight_name="adapter.safetensors")
    found = [name for name, _ in stock.transformer.named_modules() if name.endswith(".lora_A")]
    assert sorted(found) == sorted(f"{name}.lora_A" for name in names)
    size = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 2}
    samples = []
    for pipe in (stock, FAMILY.pipeline(ours)):
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(1)
        samples.append(pipe(PROMPTS[0], **size, generator=generator, output_type="pt").frames)
    torch.testing.assert_close(*samples, atol=1e-5, rtol=0)


def test_the_public_pipeline_reads_what_save_wrote(parts, saved):
    stock = HunyuanVideoPipeline.from_pretrained(saved, local_files_only=True)
    assert stock.scheduler.config.shift == 7
    assert torch.equal(predict(stock.transformer, parts), predict(parts.denoiser, parts))
