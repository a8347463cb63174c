"""Qwen-Image 2.1 against the stock pipeline, and ComfyUI's fused names against diffusers'."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import QwenImage21Transformer2DModel
from diffusers.loaders.single_file_utils import (
    convert_qwen_image21_transformer_checkpoint_to_diffusers as convert,
)
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from frisket.families.base import Source
from frisket.families.models.qwen_image_21.family import ARCHITECTURES, FAMILY

VARIANT = "2.1"
PROMPT, NEGATIVE = "a red fox, caf\u00e9 & snow", "blurry"
SIZE = {"height": 64, "width": 96, "num_inference_steps": 2}
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def parts():
    return FAMILY.tiny(VARIANT)


@pytest.fixture(scope="module")
def saved(parts, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("qwen_image_21")
    FAMILY.save(parts, folder)
    return folder


def stock(parts):
    made = FAMILY.pipeline(parts)
    made.set_progress_bar_config(disable=True)
    return made


def seeded(seed: int = 9) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded())


def cells(packed: torch.Tensor) -> torch.Tensor:
    return packed.transpose(1, 2).reshape(len(packed), 64, 1, 4, 6)


@pytest.mark.parametrize("cached", [True, False])
def test_the_transformer_is_fed_what_the_stock_pipeline_feeds_it(parts, cached):
    calls = []
    handle = parts.denoiser.register_forward_hook(
        lambda _, __, given, out: calls.append((given, out[0])), with_kwargs=True
    )
    stock(parts)(
        PROMPT,
        negative_prompt=NEGATIVE,
        true_cfg_scale=3.0,
        generator=seeded(),
        output_type="latent",
        use_kv_cache=cached,
        **SIZE,
    )
    stocks = list(calls)
    assert len(stocks) == 4
    torch.testing.assert_close(cells(stocks[0][0]["hidden_states"]), draw(1, 64, 1, 4, 6))
    for index, (given, prediction) in enumerate(stocks):
        conditioning = FAMILY.embed(parts.text, [NEGATIVE if index % 2 else PROMPT])
        with torch.no_grad():
            made = FAMILY.predict(
                parts.denoiser, cells(given["hidden_states"]), given["timestep"], conditioning
            )
        told = calls[-1][0]
        for name in ("hidden_states", "timestep", "encoder_hidden_states"):
            torch.testing.assert_close(told[name], given[name], atol=1e-5, rtol=0)
        assert torch.equal(told["img_mask"], given["img_mask"])
        assert told["img_shapes"] == given["img_shapes"]
        torch.testing.assert_close(made, cells(prediction[:, -24:]), atol=1e-5, rtol=0)
    handle.remove()


def test_a_longer_neighbour_moves_no_picture(parts):
    prompts = ["fox", "a much longer prompt than its neighbour", "owl"]
    given, noisy, t = FAMILY.embed(parts.text, prompts), draw(3, 64, 1, 4, 6), torch.rand(3)
    with torch.no_grad():
        together = FAMILY.predict(parts.denoiser, noisy, t, given)
        for index, prompt in enumerate(prompts):
            row = slice(index, index + 1)
            alone = FAMILY.embed(parts.text, [prompt])
            made = FAMILY.predict(parts.denoiser, noisy[row], t[row], alone)
            torch.testing.assert_close(together[row], made, atol=1e-5, rtol=0)


def test_encode_is_that_of_an_opaque_picture(parts):
    picture = Image.effect_noise((96, 64), 80).convert("RGB")
    pipeline = stock(parts)
    rgba = pipeline.image_processor.preprocess(picture.convert("RGBA"), 64, 96).unsqueeze(2)
    clip = pipeline.image_processor.preprocess(picture, 64, 96).unsqueeze(2)
    with torch.no_grad():
        wanted = pipeline._encode_vae_image(rgba, None)
    torch.testing.assert_close(FAMILY.encode(parts.vae, clip), wanted, atol=1e-5, rtol=0)


def test_previews_need_no_text_encoder_and_are_rgb(parts):
    options = {**SIZE, "output_type": "pt"}
    whole = stock(parts)(
        PROMPT, negative_prompt=NEGATIVE, true_cfg_scale=3.0, generator=seeded(), **options
    ).images
    positive, negative = (FAMILY.embed(parts.text, [text]) for text in (PROMPT, NEGATIVE))
    bare = FAMILY.tiny(VARIANT)
    bare.text = None
    call = FAMILY.call(VARIANT, positive, negative, guidance=3.0)
    made = stock(bare)(**call, generator=seeded(), **options).images
    assert made.shape == (1, 3, 64, 96)
    torch.testing.assert_close(made, whole, atol=1e-5, rtol=0)
    latents = stock(bare)(**call, generator=seeded(), **{**options, "output_type": "latent"}).images
    ours = FAMILY.decode(parts.vae, cells(latents))[:, :, 0] / 2 + 0.5
    torch.testing.assert_close(ours, made, atol=1e-5, rtol=0)


def original(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state with the table's original names; norms, which it leaves out, as they are."""
    made: dict[str, dict[int, torch.Tensor]] = {}
    for key, value in state.items():
        layer, _, end = key.rpartition(".")
        name, place = (layer, 0) if "norm" in layer and value.ndim == 1 else key_of(layer)
        made.setdefault(f"{name}.{end}", {})[place] = value
    return {key: torch.cat([rows[i] for i in sorted(rows)]) for key, rows in made.items()}


def key_of(layer: str) -> tuple[str, int]:
    name, place, _ = FAMILY.names.original(layer)
    return name, place


def test_the_table_of_names_is_undone_by_diffusers_conversion(parts):
    state = parts.denoiser.state_dict()
    fused = original(state)
    assert "transformer_blocks.0.img_mlp.gate_up.weight" in fused
    back = convert(dict(fused))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    layers = [name for name, one in parts.denoiser.named_modules() if isinstance(one, nn.Linear)]
    for layer in layers:
        name, place, count = FAMILY.names.original(layer)
        assert FAMILY.names.diffusers(name)[place] == layer
        assert len(FAMILY.names.diffusers(name)) == count


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_one_file_of_comfyuis_loads_exactly(parts, saved, tmp_path, prefix):
    state = original(load_file(saved / WEIGHTS))
    save_file({prefix + key: value for key, value in state.items()}, tmp_path / "one.safetensors")
    (tmp_path / "config.json").write_text((saved / "transformer" / "config.json").read_text())
    loaded = FAMILY.load_denoiser(Source(VARIANT, str(tmp_path / "one.safetensors")))
    ours, theirs = loaded.state_dict(), parts.denoiser.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_saved_parts_name_public_classes_only(saved):
    index = json.loads((saved / "model_index.json").read_text())
    assert index["processor"] == ["transformers", "Qwen3VLProcessor"]
    assert "frisket" not in json.dumps(index)


def test_the_built_in_architecture_has_the_released_size():
    with torch.device("meta"):
        model = QwenImage21Transformer2DModel.from_config(ARCHITECTURES[VARIANT])
    assert len(model.state_dict()) == 297
    count = sum(value.numel() for value in model.parameters())
    assert count / 1e9 == pytest.approx(7.115, abs=0.001)
