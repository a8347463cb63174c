"""Z-Image against the stock pipelines: ragged texts, turned time and sign, ComfyUI's files."""

import logging
from copy import deepcopy

import pytest
import torch
from diffusers import ZImageImg2ImgPipeline, ZImageTransformer2DModel
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import pad

from frisket.adapters import lora
from frisket.families.base import Parts, Source
from frisket.families.models.z_image import ARCHITECTURE, FAMILY

PROMPT, NEGATIVE = "a red fox, caf\u00e9 &amp; snow, and a good deal more to say", "blurry"
SIZE = {"height": 32, "width": 48}
COMFYUI = {
    "all_final_layer.2-1.": "final_layer.",
    "all_x_embedder.2-1.": "x_embedder.",
    ".attention.to_out.0.": ".attention.out.",
    ".attention.norm_k.": ".attention.k_norm.",
    ".attention.norm_q.": ".attention.q_norm.",
}


@pytest.fixture(scope="module")
def parts() -> Parts:
    return FAMILY.tiny("turbo")


def stock(parts: Parts):
    made = FAMILY.pipeline(parts)
    made.set_progress_bar_config(disable=True)
    return made


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def watch(module: nn.Module) -> list[tuple]:
    """Every call of the transformer from now on: pictures, time, texts, and what came out."""
    calls: list[tuple] = []
    # The model writes its outputs into the lists it is given: keep copies.
    before: list[tuple] = []
    module.register_forward_pre_hook(
        lambda _, args: before.append((list(args[0]), args[1], list(args[2])))
    )
    module.register_forward_hook(lambda _, __, out: calls.append((*before.pop(), list(out[0]))))
    return calls


@pytest.mark.parametrize(("variant", "guidance"), [("turbo", 0.0), ("base", 2.0)])
def test_the_transformer_is_fed_what_the_stock_pipeline_feeds_it(variant, guidance):
    parts = FAMILY.tiny(variant)
    calls = watch(parts.denoiser)
    stock(parts)(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=2,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        **SIZE,
    )
    assert len(calls) == 2
    prompts = [PROMPT, NEGATIVE] if guidance else [PROMPT]
    given = FAMILY.embed(parts.text, prompts)
    near(
        torch.stack(calls[0][0])[:, :, 0],
        draw(1, 16, 4, 6, seed=3).expand(len(prompts), -1, -1, -1),
    )
    for pictures, time, texts, out in list(calls):
        with torch.no_grad():
            ours = FAMILY.predict(parts.denoiser, torch.stack(pictures), 1 - time, given)
        near(ours, -torch.stack(out))
        assert [text.shape for text in calls[-1][2]] == [text.shape for text in texts]
        for one, other in zip(calls[-1][2], texts, strict=True):
            near(one, other)
        torch.testing.assert_close(calls[-1][1], time)


def test_texts_are_padded_with_zeros_and_padding_changes_nothing(parts):
    given = FAMILY.embed(parts.text, [PROMPT, NEGATIVE])
    lengths = given["mask"].sum(1).long().tolist()
    assert given["text"].shape == (2, max(lengths), 16)
    assert lengths[0] > lengths[1]
    assert not given["text"][1, lengths[1] :].any()
    assert given["text"][1, : lengths[1]].any(-1).all()
    padded = {
        "text": pad(given["text"], (0, 0, 0, 40)),
        "mask": pad(given["mask"], (0, 40)),
    }
    noisy, t = draw(2, 16, 1, 4, 6), torch.tensor([0.3, 0.8])
    with torch.no_grad():
        assert torch.equal(
            FAMILY.predict(parts.denoiser, noisy, t, padded),
            FAMILY.predict(parts.denoiser, noisy, t, given),
        )


def test_embedding_leaves_the_callers_list_alone(parts):
    prompts = [PROMPT, NEGATIVE]
    FAMILY.embed(parts.text, prompts)
    assert prompts == [PROMPT, NEGATIVE]


def test_encode_normalises_as_the_stock_pipeline_does(parts):
    vae = deepcopy(parts.vae)
    nn.init.constant_(vae.encoder.conv_out.bias[16:], -1e3)  # no spread: the sample is the mode
    nn.init.zeros_(vae.encoder.conv_out.weight[16:])
    whole = FAMILY.pipeline(parts)
    pipeline = ZImageImg2ImgPipeline(
        whole.scheduler, vae, whole.text_encoder, whole.tokenizer, whole.transformer
    )
    clip = draw(1, 3, 1, 32, 48).clamp(-1, 1)
    level = whole.scheduler.timesteps[500:501]
    made = torch.Generator().manual_seed(3)
    noisy = pipeline.prepare_latents(
        clip[:, :, 0], level, 1, 16, 32, 48, torch.float32, "cpu", made
    )
    made.manual_seed(3)
    noise = [torch.randn(1, 16, 4, 6, generator=made) for _ in range(2)][1]
    ours, _ = FAMILY.objective("turbo").corrupt(
        FAMILY.encode(vae, clip), noise[:, :, None], level / 1000
    )
    near(ours[:, :, 0], noisy)


def test_decode_gives_the_pixels_of_the_stock_pipeline(parts):
    def sample(kind: str) -> torch.Tensor:
        made = torch.Generator().manual_seed(5)
        return stock(parts)(
            PROMPT,
            num_inference_steps=1,
            guidance_scale=0.0,
            generator=made,
            output_type=kind,
            **SIZE,
        ).images

    ours = FAMILY.decode(parts.vae, sample("latent")[:, :, None])[:, :, 0] / 2 + 0.5
    near(ours.clamp(0, 1), sample("pt"))


def test_sampling_from_embeddings_needs_no_text_encoder(parts):
    positive = FAMILY.embed(parts.text, [PROMPT, NEGATIVE])
    negative = FAMILY.embed(parts.text, ["", NEGATIVE])
    bare = Parts("base", parts.vae, None, parts.denoiser)

    def sample(pipeline, **given) -> torch.Tensor:
        made = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        return pipeline(
            num_inference_steps=2, generator=made, output_type="latent", **SIZE, **given
        ).images

    whole = stock(Parts("base", parts.vae, parts.text, parts.denoiser))
    prompts = {"prompt": [PROMPT, NEGATIVE], "negative_prompt": ["", NEGATIVE]}
    wanted = sample(whole, **prompts, guidance_scale=3.0)
    near(sample(stock(bare), **FAMILY.call("base", positive, negative, guidance=3.0)), wanted)
    wanted = sample(whole, prompt=[PROMPT, NEGATIVE], guidance_scale=0.0)
    near(sample(stock(bare), **FAMILY.call("base", positive, None, guidance=3.0)), wanted)


def test_the_time_is_not_rounded_by_a_bfloat16_model():
    parts = FAMILY.tiny("turbo")
    calls = watch(parts.denoiser.bfloat16())
    given = FAMILY.embed(parts.text, [PROMPT])
    with torch.no_grad():
        out = FAMILY.predict(parts.denoiser, draw(1, 16, 1, 4, 4), torch.tensor([0.9371]), given)
    pictures, time, texts, _ = calls[0]
    assert out.dtype == torch.float32
    assert time.item() == pytest.approx(0.0629)
    assert pictures[0].dtype == texts[0].dtype == torch.bfloat16


def test_a_chat_beyond_512_tokens_is_cut_aloud(parts, caplog):
    with caplog.at_level(logging.WARNING):
        given = FAMILY.embed(parts.text, ["x" * 600, "short"])
    assert given["text"].shape == (2, 512, 16)
    assert "tokens cut to 512: xxx" in caplog.text
    assert "short" not in caplog.text


def test_the_built_in_architecture_has_the_released_size():
    with torch.device("meta"):
        model = ZImageTransformer2DModel.from_config(ARCHITECTURE)
    assert sum(value.numel() for value in model.parameters()) == 6_154_908_736


def test_one_file_in_comfyuis_names_loads_exactly(parts, tmp_path):
    state = parts.denoiser.state_dict()
    made = {}
    for key in state:
        if ".to_k." in key or ".to_v." in key:
            continue
        name, value = key, state[key]
        for ours, theirs in COMFYUI.items():
            name = name.replace(ours, theirs)
        if ".to_q." in key:
            name = name.replace(".to_q.", ".qkv.")
            value = torch.cat([state[key.replace(".to_q.", f".to_{n}.")] for n in "qkv"])
        made[f"model.diffusion_model.{name}"] = value
    save_file(made, tmp_path / "z.safetensors")
    parts.denoiser.save_config(tmp_path)
    loaded = FAMILY.load_denoiser(Source("turbo", str(tmp_path / "z.safetensors"))).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("form", ["dotted", "kohya", "diffusers"])
def test_a_lora_loads_whole_into_the_stock_pipeline_in_every_form(parts, form, tmp_path):
    ours, other = deepcopy(parts.denoiser), deepcopy(parts.denoiser)
    alpha = 3.0
    modules = lora.attach(
        ours, lora.LoraSpec(rank=2, alpha=alpha, targets=FAMILY.lora_targets), seed=0
    )
    for index, value in enumerate(lora.trainable(ours).values()):
        value.data.add_(0.1 * draw(*value.shape, seed=index))
    file = tmp_path / "a.safetensors"
    if form == "diffusers":
        lora.save(ours, file, {}, prefix=FAMILY.lora_prefix)
    else:
        state = {}
        ends = {"dotted": ("lora_A", "lora_B"), "kohya": ("lora_down", "lora_up")}[form]
        for name, value in lora.trainable(ours).items():
            module, _, end = name.partition(".lora_")
            original, place, count = FAMILY.names.original(module)
            assert (original, place, count) == (module, 0, 1)
            key = f"diffusion_model.{original}"
            if form == "kohya":
                key = "lora_unet_" + original.replace(".", "_")
            state[f"{key}.{ends[end.startswith('B')]}.weight"] = value.detach().clone()
            state[f"{key}.alpha"] = torch.tensor(alpha)
        save_file(state, file)
    stock(Parts("turbo", parts.vae, parts.text, other)).load_lora_weights(
        tmp_path, weight_name=file.name
    )
    loaded = [name for name, _ in other.named_parameters() if ".lora_" in name]
    assert len(loaded) == 2 * len(modules)
    given = FAMILY.embed(parts.text, [PROMPT])
    noisy, t = draw(1, 16, 1, 4, 6), torch.tensor([0.5])
    with torch.no_grad():
        near(FAMILY.predict(other, noisy, t, given), FAMILY.predict(ours, noisy, t, given))


def test_the_omni_model_and_other_vaes_are_refused(parts, tmp_path):
    FAMILY.save(parts, tmp_path)
    omni = ZImageTransformer2DModel.from_config(parts.denoiser.config, siglip_feat_dim=8)
    omni.save_pretrained(tmp_path / "transformer")
    with pytest.raises(ValueError, match="transformer of Z-Image: its siglip_feat_dim is 8"):
        FAMILY.load_denoiser(Source("turbo", str(tmp_path)))
    config = tmp_path / "vae" / "config.json"
    config.write_text(config.read_text().replace("0.3611", "0.18215"))
    with pytest.raises(ValueError, match=r"VAE of Z-Image: its scaling_factor is 0\.18215"):
        FAMILY.load_vae(Source("turbo", str(tmp_path)))
