"""Stable Diffusion 3 and 3.5 against the stock pipelines, and weights in the authors' names."""

import logging
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Img2ImgPipeline
from diffusers.loaders.single_file_utils import (
    convert_sd3_transformer_checkpoint_to_diffusers,
    swap_scale_shift,
)
from safetensors.torch import save_file
from torch import nn

from frisket.adapters import lora
from frisket.families.base import Parts, Source
from frisket.families.key_map import UnknownLayer
from frisket.families.models.sd3 import ARCHITECTURES, FAMILY, TEXT

PROMPT, NEGATIVE = "a red fox, caf\u00e9 &amp; snow", "blurry"
SIZE = {"height": 32, "width": 48}
RENAMED = {
    ".attn.norm_q": ".x_block.attn.ln_q",
    ".attn.norm_k": ".x_block.attn.ln_k",
    ".attn.norm_added_q": ".context_block.attn.ln_q",
    ".attn.norm_added_k": ".context_block.attn.ln_k",
    ".attn2.norm_q": ".x_block.attn2.ln_q",
    ".attn2.norm_k": ".x_block.attn2.ln_k",
    ".norm1_context.linear": ".context_block.adaLN_modulation.1",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "transformer_blocks": "joint_blocks",
}


@pytest.fixture(scope="module", params=["3.5-medium", "3.5-large"])
def parts(request) -> Parts:
    return FAMILY.tiny(request.param)


def stock(parts: Parts):
    made = FAMILY.pipeline(parts)
    made.set_progress_bar_config(disable=True)
    return made


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def watch(module: nn.Module) -> list[dict]:
    """Every call of the transformer from now on: what went in, by name, and what came out."""
    calls: list[dict] = []
    module.register_forward_hook(
        lambda _, __, given, out: calls.append({**given, "out": out[0]}), with_kwargs=True
    )
    return calls


def original(model: nn.Module) -> dict[str, torch.Tensor]:
    """A transformer's tensors in the authors' names, fused and swapped as they have them."""
    pieces: dict[str, dict[int, torch.Tensor]] = {}
    last = f"transformer_blocks.{len(model.transformer_blocks) - 1}.norm1_context"
    for key, value in model.state_dict().items():
        module, _, kind = key.rpartition(".")
        try:
            name, place, _ = FAMILY.names.original(module)
        except UnknownLayer:
            name, place = module, 0
            for ours, theirs in RENAMED.items():
                name = name.replace(ours, theirs)
            if module == "norm_out.linear" or module.startswith(last):
                value = swap_scale_shift(value, dim=0)  # noqa: PLW2901
        pieces.setdefault("pos_embed" if module == "pos_embed" else f"{name}.{kind}", {})[place] = (
            value
        )
    return {
        name: torch.cat([parts[index] for index in sorted(parts)]) for name, parts in pieces.items()
    }


def test_the_transformer_is_fed_what_the_stock_pipeline_feeds_it(parts):
    denoiser = deepcopy(parts.denoiser)
    calls = watch(denoiser)
    stock(Parts(parts.variant, parts.vae, parts.text, denoiser))(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        **SIZE,
    )
    assert len(calls) == 2
    near(calls[0]["hidden_states"], draw(1, 16, 4, 6, seed=3).expand(2, -1, -1, -1))
    given = FAMILY.embed(parts.text, [NEGATIVE, PROMPT])
    assert given["text"].shape == (2, 77 + 256, 32)
    for theirs in list(calls):
        noisy, t = theirs["hidden_states"][:, :, None], theirs["timestep"] / 1000
        with torch.no_grad():
            out = FAMILY.predict(denoiser, noisy, t, given)
        near(out[:, :, 0], theirs["out"])
        for name in ("encoder_hidden_states", "pooled_projections"):
            near(calls[-1][name], theirs[name])
        torch.testing.assert_close(calls[-1]["timestep"], theirs["timestep"])


def test_encode_normalises_as_the_stock_pipeline_does(parts):
    vae = deepcopy(parts.vae)
    nn.init.constant_(vae.encoder.conv_out.bias[16:], -1e3)  # no spread: the sample is the mode
    nn.init.zeros_(vae.encoder.conv_out.weight[16:])
    whole = FAMILY.pipeline(parts)
    pipeline = StableDiffusion3Img2ImgPipeline(
        transformer=whole.transformer,
        scheduler=whole.scheduler,
        vae=vae,
        **{name: getattr(whole, name) for name in (*TEXT, "text_encoder_3")},
    )
    clip = draw(1, 3, 1, 32, 48).clamp(-1, 1)
    level = whole.scheduler.timesteps[500:501]
    noisy = pipeline.prepare_latents(
        clip[:, :, 0], level, 1, 1, torch.float32, "cpu", torch.Generator().manual_seed(3)
    )
    made = torch.Generator().manual_seed(3)
    noise = [torch.randn(1, 16, 4, 6, generator=made) for _ in range(2)][1]
    stocks, _ = FAMILY.objective(parts.variant).corrupt(
        FAMILY.encode(vae, clip), noise[:, :, None], level / 1000
    )
    near(stocks[:, :, 0], noisy)


def test_decode_gives_the_pixels_of_the_stock_pipeline(parts):
    def sample(kind: str) -> torch.Tensor:
        made = torch.Generator().manual_seed(5)
        return stock(parts)(
            PROMPT, num_inference_steps=1, generator=made, output_type=kind, **SIZE
        ).images

    ours = FAMILY.decode(parts.vae, sample("latent")[:, :, None])[:, :, 0] / 2 + 0.5
    near(ours.clamp(0, 1), sample("pt"))


def test_sampling_from_embeddings_needs_no_text_encoder(parts):
    embeds = FAMILY.embed(parts.text, [PROMPT, NEGATIVE])
    positive, negative = ({k: v[i : i + 1] for k, v in embeds.items()} for i in (0, 1))
    bare = Parts(parts.variant, parts.vae, None, parts.denoiser)

    def sample(pipeline, **given) -> torch.Tensor:
        made = torch.Generator().manual_seed(1)
        return pipeline(
            num_inference_steps=2, generator=made, output_type="latent", **SIZE, **given
        ).images

    wanted = sample(stock(parts), prompt=PROMPT, negative_prompt=NEGATIVE, guidance_scale=3.0)
    near(
        sample(stock(bare), **FAMILY.call(parts.variant, positive, negative, guidance=3.0)), wanted
    )
    wanted = sample(stock(parts), prompt=PROMPT, guidance_scale=1.0)
    near(sample(stock(bare), **FAMILY.call(parts.variant, positive, None, guidance=3.0)), wanted)


def test_the_timestep_is_not_rounded_by_a_bfloat16_model():
    parts = FAMILY.tiny("3.5-large")
    calls = watch(parts.denoiser.bfloat16())
    given = FAMILY.embed(parts.text, [PROMPT])
    with torch.no_grad():
        out = FAMILY.predict(parts.denoiser, draw(1, 16, 1, 4, 4), torch.tensor([0.9371]), given)
    assert out.dtype == torch.float32
    assert calls[0]["timestep"].item() == pytest.approx(937.1)
    assert calls[0]["hidden_states"].dtype == calls[0]["pooled_projections"].dtype == torch.bfloat16


def test_a_prompt_beyond_256_tokens_is_cut_aloud(parts, caplog):
    with caplog.at_level(logging.WARNING):
        embeds = FAMILY.embed(parts.text, ["x" * 300, "y" * 200])["text"]
    assert embeds.shape[:2] == (2, 333)
    assert "301 tokens cut to 256: xxx" in caplog.text
    assert "cut to 256: yyy" not in caplog.text


@pytest.mark.parametrize(
    ("variant", "count"),
    [("3-medium", 2_028_328_000), ("3.5-medium", 2_243_171_520), ("3.5-large", 8_056_627_520)],
)  # of the released transformer/ files, position tables left out
def test_the_built_in_architectures_have_the_released_sizes(variant, count):
    with torch.device("meta"):
        model = SD3Transformer2DModel.from_config(ARCHITECTURES[variant])
    assert sum(value.numel() for value in model.parameters()) == count


def test_names_are_those_that_diffusers_converts(parts):
    state = parts.denoiser.state_dict()
    converted = convert_sd3_transformer_checkpoint_to_diffusers(original(parts.denoiser))
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[key], state[key]) for key in state)


def test_every_layer_has_a_name_of_its_own_but_those_that_are_swapped(parts):
    taken, left = set(), []
    for name, module in parts.denoiser.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            try:
                original_name, place, count = FAMILY.names.original(name)
            except UnknownLayer:
                left.append(name)
                continue
            assert FAMILY.names.diffusers(original_name)[place] == name
            assert count in (1, 3)
            assert (original_name, place) not in taken
            taken.add((original_name, place))
    blocks = [f"transformer_blocks.{index}.norm1_context.linear" for index in (0, 1)]
    assert sorted(left) == ["norm_out.linear", *blocks]


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_one_file_in_the_authors_names_loads_exactly(parts, prefix, tmp_path):
    file = tmp_path / "sd3.safetensors"
    save_file({prefix + key: value for key, value in original(parts.denoiser).items()}, file)
    parts.denoiser.save_config(tmp_path)
    loaded = FAMILY.load_denoiser(Source(parts.variant, str(file))).state_dict()
    state = parts.denoiser.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_a_lora_file_loads_whole_into_the_stock_pipeline(parts, tmp_path):
    ours, other = deepcopy(parts.denoiser), deepcopy(parts.denoiser)
    spec = lora.LoraSpec(rank=2, alpha=3.0, targets=FAMILY.lora_targets, dead=FAMILY.lora_dead)
    modules = lora.attach(ours, spec, seed=0)
    for index, value in enumerate(lora.trainable(ours).values()):
        value.data.add_(0.1 * draw(*value.shape, seed=index))
    lora.save(ours, tmp_path / "a.safetensors", {}, prefix=FAMILY.lora_prefix)
    pipeline = stock(Parts(parts.variant, parts.vae, parts.text, other))
    pipeline.load_lora_weights(tmp_path, weight_name="a.safetensors")
    loaded = [name for name, _ in other.named_parameters() if ".lora_" in name]
    assert len(loaded) == 2 * len(modules)
    given = FAMILY.embed(parts.text, [PROMPT])
    noisy, t = draw(1, 16, 1, 4, 6), torch.tensor([0.5])
    with torch.no_grad():
        near(FAMILY.predict(other, noisy, t, given), FAMILY.predict(ours, noisy, t, given))


def test_the_other_kind_of_transformer_is_refused(parts, tmp_path: Path):
    FAMILY.save(parts, tmp_path)
    other = {"3.5-medium": "3.5-large", "3.5-large": "3.5-medium"}[parts.variant]
    with pytest.raises(ValueError, match=f"Stable Diffusion {other}: its dual attention is"):
        FAMILY.load_denoiser(Source(other, str(tmp_path)))
