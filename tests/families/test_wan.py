"""Wan against the stock diffusers pipelines, and its weights from every kind of source."""

import json
import logging
import socket
from pathlib import Path

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
    WanVideoToVideoPipeline,
)
from safetensors.torch import load_file, save_file

from frisket.adapters import lora
from frisket.families.base import Source, WeightsNotFound
from frisket.families.models.wan.family import FAMILY

VARIANT = "2.1-t2v-1.3b"
PROMPT, NEGATIVE = "a red fox, caf\u00e9 &amp; snow", "blurry"


@pytest.fixture(scope="module")
def parts():
    return FAMILY.tiny(VARIANT)


@pytest.fixture(scope="module")
def saved(parts, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wan")
    FAMILY.save(parts, folder)
    return folder


@pytest.fixture(scope="module")
def pipeline(parts) -> WanPipeline:
    found = FAMILY.pipeline(parts)
    found.set_progress_bar_config(disable=True)
    return found


@pytest.fixture
def offline(monkeypatch):
    """Any network traffic is an error."""

    def refuse(*_, **__):
        raise AssertionError("network traffic")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def predict(denoiser, parts, frames: int = 2) -> torch.Tensor:
    with torch.no_grad():
        given = FAMILY.embed(parts.text, [PROMPT])
        return FAMILY.predict(denoiser, draw(1, 16, frames, 4, 6), torch.tensor([0.7]), given)


def test_the_transformer_is_fed_what_the_stock_pipeline_feeds_it(parts, pipeline):
    calls = []
    handle = parts.denoiser.register_forward_hook(
        lambda _, __, given, out: calls.append((given, out[0])), with_kwargs=True
    )
    pipeline(
        PROMPT,
        NEGATIVE,
        32,
        48,
        5,
        num_inference_steps=2,
        generator=torch.Generator(),
        output_type="pt",
    )
    handle.remove()
    assert len(calls) == 4
    for index, (given, prediction) in enumerate(calls):
        conditioning = FAMILY.embed(parts.text, [NEGATIVE if index % 2 else PROMPT])
        torch.testing.assert_close(
            conditioning["text"], given["encoder_hidden_states"], atol=1e-5, rtol=0
        )
        t = given["timestep"].float() / 1000
        with torch.no_grad():
            ours = FAMILY.predict(parts.denoiser, given["hidden_states"], t, conditioning)
        torch.testing.assert_close(ours, prediction, atol=1e-5, rtol=0)


def test_encode_normalises_as_the_stock_pipeline_does(parts, pipeline):
    clip = draw(1, 3, 5, 32, 48).clamp(-1, 1)
    scheduler = FlowMatchEulerDiscreteScheduler()
    stock = WanVideoToVideoPipeline(
        pipeline.tokenizer, pipeline.text_encoder, parts.denoiser, parts.vae, scheduler
    )
    level = scheduler.timesteps[-250:-249]
    noisy = stock.prepare_latents(
        clip, 1, 16, 32, 48, torch.float32, "cpu", torch.Generator().manual_seed(3), timestep=level
    )
    sigma = float(level) / 1000
    noise = torch.randn(noisy.shape, generator=torch.Generator().manual_seed(3))
    stocks = (noisy - sigma * noise) / (1 - sigma)
    torch.testing.assert_close(FAMILY.encode(parts.vae, clip), stocks, atol=1e-5, rtol=0)


def test_decode_gives_the_pixels_of_the_stock_pipeline(parts, pipeline):
    def sample(kind: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        return pipeline(
            PROMPT, NEGATIVE, 32, 32, 5, 2, generator=generator, output_type=kind
        ).frames

    ours = FAMILY.decode(parts.vae, sample("latent")) / 2 + 0.5
    torch.testing.assert_close(ours.transpose(1, 2), sample("pt"), atol=1e-5, rtol=0)


def test_the_timestep_is_not_rounded_by_a_bfloat16_model(saved):
    denoiser = FAMILY.load_denoiser(Source(VARIANT, str(saved), dtype=torch.bfloat16))
    given = {}
    denoiser.register_forward_pre_hook(lambda _, __, kw: given.update(kw), with_kwargs=True)
    t = torch.tensor([0.9371])
    prediction = FAMILY.predict(
        denoiser, draw(1, 16, 1, 4, 4), t, {"text": torch.zeros(1, 512, 32)}
    )
    assert given["timestep"].item() == pytest.approx(937.1)
    assert given["hidden_states"].dtype == given["encoder_hidden_states"].dtype == torch.bfloat16
    assert prediction.dtype == torch.float32


def test_a_prompt_beyond_the_models_length_is_cut_aloud(parts, caplog):
    with caplog.at_level(logging.WARNING):
        embeds = FAMILY.embed(parts.text, ["x" * 600, "short"])["text"]
    assert embeds.shape == (2, 512, 32)
    assert "601 tokens cut to 512" in caplog.text
    assert embeds[1, 6:].eq(0).all()
    assert embeds[1, :6].ne(0).all()


def test_previews_need_no_text_encoder_when_embeddings_are_given(parts):
    embeds = FAMILY.embed(parts.text, [PROMPT, NEGATIVE])["text"]
    bare = FAMILY.tiny(VARIANT)
    bare.text = None
    stock = FAMILY.pipeline(bare)
    stock.set_progress_bar_config(disable=True)
    frames = stock(
        prompt_embeds=embeds[:1],
        negative_prompt_embeds=embeds[1:],
        height=32,
        width=32,
        num_frames=1,
        num_inference_steps=1,
        output_type="pt",
    ).frames
    assert frames.shape == (1, 1, 3, 32, 32)


def test_the_public_pipeline_reads_what_save_wrote(parts, saved):
    stock = WanPipeline.from_pretrained(saved, local_files_only=True)
    assert stock.scheduler.config.flow_shift == FAMILY.variants[VARIANT].shift
    assert torch.equal(predict(stock.transformer, parts), predict(parts.denoiser, parts))


def test_local_folders_and_files_touch_no_network(parts, saved, offline):
    for path in (saved, saved / "transformer" / "diffusion_pytorch_model.safetensors"):
        source = Source(VARIANT, str(path))
        FAMILY.load_vae(source)
        FAMILY.load_text(source)
        loaded = FAMILY.load_denoiser(source)
        assert torch.equal(predict(loaded, parts), predict(parts.denoiser, parts))


def original_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Diffusers' key names back to those of the authors' release."""
    pairs = {
        "condition_embedder.time_embedder.linear_1": "time_embedding.0",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2",
        "condition_embedder.text_embedder.linear_1": "text_embedding.0",
        "condition_embedder.text_embedder.linear_2": "text_embedding.2",
        "condition_embedder.time_proj": "time_projection.1",
        "attn1": "self_attn",
        "attn2": "cross_attn",
        "to_out.0": "o",
        "to_q": "q",
        "to_k": "k",
        "to_v": "v",
        "ffn.net.0.proj": "ffn.0",
        "ffn.net.2": "ffn.2",
        "norm2": "norm3",
        "proj_out": "head.head",
    }
    renamed = {}
    for key, value in state.items():
        for ours, theirs in pairs.items():
            key = key.replace(ours, theirs)  # noqa: PLW2901
        key = "head.modulation" if key == "scale_shift_table" else key  # noqa: PLW2901
        renamed[key.replace("scale_shift_table", "modulation")] = value
    return renamed


def test_one_file_in_the_authors_key_names_loads_exactly(parts, saved, tmp_path, offline):
    state = load_file(saved / "transformer" / "diffusion_pytorch_model.safetensors")
    for prefix in ("", "model.diffusion_model."):
        file = tmp_path / f"wan{len(prefix)}.safetensors"
        save_file({prefix + key: value for key, value in original_names(state).items()}, file)
        (tmp_path / "config.json").write_text((saved / "transformer" / "config.json").read_text())
        loaded = FAMILY.load_denoiser(Source(VARIANT, str(file)))
        assert torch.equal(predict(loaded, parts), predict(parts.denoiser, parts))


def test_one_file_and_the_folder_agree_in_bfloat16(saved):
    file = saved / "transformer" / "diffusion_pytorch_model.safetensors"
    states = [
        FAMILY.load_denoiser(Source(VARIANT, str(path), dtype=torch.bfloat16)).state_dict()
        for path in (saved, file)
    ]
    assert {k: v.dtype for k, v in states[0].items()} == {k: v.dtype for k, v in states[1].items()}


def test_a_file_without_config_is_held_to_its_variants_architecture(saved, tmp_path, offline):
    file = tmp_path / "alone.safetensors"
    save_file(load_file(saved / "transformer" / "diffusion_pytorch_model.safetensors"), file)
    with pytest.raises(
        ValueError, match=r"alone.*does not fit .*variant 2\.1-t2v-1\.3b.*config\.json"
    ):
        FAMILY.load_denoiser(Source(VARIANT, str(file)))
    with pytest.raises(
        WeightsNotFound, match=r"holds the denoiser only; there is no vae/ beside it"
    ):
        FAMILY.load_vae(Source(VARIANT, str(file)))


def test_a_file_that_lacks_tensors_is_refused(saved, tmp_path):
    state = load_file(saved / "transformer" / "diffusion_pytorch_model.safetensors")
    del state["blocks.1.ffn.net.2.weight"]
    save_file(original_names(state), tmp_path / "part.safetensors")
    (tmp_path / "config.json").write_text((saved / "transformer" / "config.json").read_text())
    with pytest.raises(
        ValueError, match=r"part\.safetensors does not fit .*lacks some of its tensors"
    ):
        FAMILY.load_denoiser(Source(VARIANT, str(tmp_path / "part.safetensors")))


def copied(saved: Path, target: Path, *parts: str) -> Path:
    for part in parts:
        (target / part).mkdir(parents=True)
        for file in (saved / part).iterdir():
            (target / part / file.name).write_bytes(file.read_bytes())
    return target


def test_a_missing_part_is_named_with_the_command_that_fetches_it(saved, tmp_path):
    folder = copied(saved, tmp_path / "model", "vae")
    with pytest.raises(WeightsNotFound) as caught:
        FAMILY.load_denoiser(Source(VARIANT, str(folder)))
    message = str(caught.value)
    assert f"{folder} has no transformer/ (it has: vae)" in message
    assert 'hf download Wan-AI/Wan2.1-T2V-1.3B-Diffusers --include "transformer/*"' in message


def damage_config(folder: Path) -> str:
    (folder / "config.json").unlink()
    return "has no config.json"


def damage_pickle(folder: Path) -> str:
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.rename(folder / "diffusion_pytorch_model.bin")
    return r"no \.safetensors weights \(only diffusion_pytorch_model\.bin"


def damage_shard(folder: Path) -> str:
    index = {"metadata": {}, "weight_map": {"a": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return r"lacks 1 shard\(s\): model-00002-of-00002"


def damage_length(folder: Path) -> str:
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    return "is cut short or no safetensors file"


def damage_size(folder: Path) -> str:
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    return "is cut short or no safetensors file"


@pytest.mark.parametrize(
    "damage", [damage_config, damage_pickle, damage_shard, damage_length, damage_size]
)
def test_damaged_folders_are_refused_before_loading(saved, tmp_path, damage):
    folder = copied(saved, tmp_path / "model", "transformer")
    with pytest.raises(WeightsNotFound, match=damage(folder / "transformer")):
        FAMILY.load_denoiser(Source(VARIANT, str(folder)))


def test_another_models_weights_are_refused(saved, tmp_path):
    image_to_video = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=36,
        text_dim=32,
        ffn_dim=32,
        num_layers=1,
    )
    image_to_video.save_pretrained(tmp_path / "transformer")
    with pytest.raises(
        ValueError, match="text-to-video transformer: its in_channels is 36, not 16"
    ):
        FAMILY.load_denoiser(Source(VARIANT, str(tmp_path)))


def test_paths_that_are_not_there_are_not_taken_for_hub_ids(tmp_path, offline):
    for path in (str(tmp_path / "gone"), "./gone", "wan.safetensors", "a/b/c"):
        with pytest.raises(WeightsNotFound, match="is not there"):
            FAMILY.load_denoiser(Source(VARIANT, path))
    (tmp_path / "wan.ckpt").write_bytes(b"x")
    with pytest.raises(WeightsNotFound, match="Pickled checkpoints are not opened"):
        FAMILY.load_denoiser(Source(VARIANT, str(tmp_path / "wan.ckpt")))


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`:UserWarning")  # diffusers' own
@pytest.mark.parametrize("part", ["load_vae", "load_text", "load_denoiser"])
def test_a_hub_that_cannot_be_reached_says_what_was_asked(part, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsNotFound, match=r"of nobody/nothing .*no folder or file here either"):
        getattr(FAMILY, part)(Source(VARIANT, "nobody/nothing"))
    with pytest.raises(WeightsNotFound, match=r"of Wan-AI/Wan2\.1-T2V-1\.3B-Diffusers "):
        getattr(FAMILY, part)(Source(VARIANT))


def test_save_refuses_what_would_not_load(tmp_path):
    parts = FAMILY.tiny(VARIANT)
    lora.attach(parts.denoiser, lora.LoraSpec(targets=("to_q",)), seed=0)
    with pytest.raises(ValueError, match="an adapter is attached"):
        FAMILY.save(parts, tmp_path / "out")
    parts.vae = None
    with pytest.raises(ValueError, match="vae not loaded"):
        FAMILY.save(parts, tmp_path / "out")
    assert not (tmp_path / "out").exists()
