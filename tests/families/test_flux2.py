"""FLUX.2 against the stock diffusers pipelines, and its weights from every kind of source."""

import json
import logging
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from diffusers import (
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
)
from safetensors.torch import load_file, save_file
from torch import nn

from frisket.adapters import lora
from frisket.families.base import Source
from frisket.families.models.flux2.family import ARCHITECTURES, FAMILY

PROMPT, NEGATIVE = "a red fox, café &amp; snow", "blurry"
SIZE = (32, 48)  # height, width: 2 x 3 cells
VARIANTS = ("dev", "klein-base-4b")


@pytest.fixture(scope="module")
def made():
    return {variant: FAMILY.tiny(variant) for variant in VARIANTS}


@pytest.fixture(scope="module")
def saved(made, tmp_path_factory) -> dict[str, Path]:
    folders = {variant: tmp_path_factory.mktemp(variant) for variant in made}
    for variant, folder in folders.items():
        FAMILY.save(made[variant], folder)
    return folders


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def quiet(parts):
    pipeline = FAMILY.pipeline(parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def watched(denoiser, run):
    """What the denoiser was given, and what it made, each time it was called."""
    calls = []
    handle = denoiser.register_forward_hook(
        lambda _, __, given, out: calls.append((dict(given), out[0])), with_kwargs=True
    )
    try:
        run()
    finally:
        handle.remove()
    return calls


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_transformer_is_fed_what_the_stock_pipeline_feeds_it(made, variant):
    parts, base = made[variant], variant != "dev"
    guidance = 4.0 if base else 1.0  # what dev is told while training; klein base is guided
    calls = watched(
        parts.denoiser,
        lambda: quiet(parts)(
            prompt=PROMPT,
            height=SIZE[0],
            width=SIZE[1],
            num_inference_steps=2,
            guidance_scale=guidance,
            generator=torch.Generator(),
            output_type="latent",
        ),
    )
    assert len(calls) == (4 if base else 2)
    for index, (theirs, tokens) in enumerate(calls):
        given = FAMILY.embed(parts.text, ["" if base and index % 2 else PROMPT])
        noisy = theirs["hidden_states"].transpose(1, 2).reshape(1, 128, 1, 2, 3)
        t = theirs["timestep"].float()
        ours = {}
        hook = parts.denoiser.register_forward_pre_hook(
            lambda _, __, kw, seen=ours: seen.update(kw), with_kwargs=True
        )
        with torch.no_grad():
            velocity = FAMILY.predict(parts.denoiser, noisy, t, given)
        hook.remove()
        assert (ours["guidance"] is None) == (theirs["guidance"] is None) == base
        for name in ("hidden_states", "timestep", "encoder_hidden_states", "guidance"):
            if theirs[name] is not None:
                torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=0)
        for name in ("txt_ids", "img_ids"):  # the pipeline's have a batch axis that is dropped
            assert torch.equal(ours[name], theirs[name][0].float())
        packed = Flux2Pipeline._pack_latents(velocity[:, :, 0])
        torch.testing.assert_close(packed, tokens, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_encode_normalises_as_the_stock_pipeline_does(made, variant):
    clip = draw(2, 3, 1, *SIZE).clamp(-1, 1)
    theirs = quiet(made[variant])._encode_vae_image(clip[:, :, 0], None)
    ours = FAMILY.encode(made[variant].vae, clip)
    assert ours.shape == (2, 128, 1, 2, 3)
    torch.testing.assert_close(ours[:, :, 0], theirs, atol=1e-5, rtol=0)


def test_decode_gives_the_pixels_of_the_stock_pipeline(made):
    parts = made["dev"]

    def sample(kind: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        return quiet(parts)(
            prompt=PROMPT,
            height=32,
            width=48,
            num_inference_steps=2,
            generator=generator,
            output_type=kind,
        ).images

    latents = sample("latent").transpose(1, 2).reshape(1, 128, 1, 2, 3)
    ours = FAMILY.decode(parts.vae, latents)[:, :, 0] / 2 + 0.5
    torch.testing.assert_close(ours.clamp(0, 1), sample("pt"), atol=1e-5, rtol=0)


def test_a_size_that_is_no_multiple_of_a_cell_is_refused(made):
    with pytest.raises(ValueError, match=r"40 x 48 pixels .* multiples of 16"):
        FAMILY.encode(made["dev"].vae, draw(1, 3, 1, 40, 48))


def test_a_bfloat16_model_is_handed_t_in_float32(saved):
    denoiser = FAMILY.load_denoiser(Source("dev", str(saved["dev"]), dtype=torch.bfloat16))
    t, given = torch.tensor([0.9371]), {"text": torch.zeros(1, 512, 48)}
    [(ours, _)] = watched(
        denoiser, lambda: FAMILY.predict(denoiser, draw(1, 128, 1, 2, 2), t, given)
    )
    assert torch.equal(ours["timestep"], t)
    assert ours["hidden_states"].dtype == ours["encoder_hidden_states"].dtype == torch.bfloat16


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_prompt_beyond_the_models_length_is_cut_aloud(made, variant, caplog):
    with caplog.at_level(logging.WARNING, "frisket"):
        embeds = FAMILY.embed(made[variant].text, ["x" * 600, "short"])["text"]
    assert embeds.shape == (2, 512, 48)
    [message] = [record.getMessage() for record in caplog.records]
    assert "tokens cut to 512: xxx" in message


@pytest.mark.parametrize("variant", ["dev", "klein-base-4b", "klein-4b"])
def test_previews_need_no_text_encoder(made, variant):
    parts = deepcopy(made["dev" if variant == "dev" else "klein-base-4b"])
    positive, negative = (FAMILY.embed(parts.text, [one]) for one in (PROMPT, NEGATIVE))
    parts.variant, parts.text = variant, None
    card = FAMILY.variants[variant]
    for other in [negative, None] if card.negative else [None]:
        calls = watched(
            parts.denoiser,
            lambda: quiet(parts)(
                **FAMILY.call(variant, positive, other, guidance=card.guidance),  # noqa: B023
                height=32,
                width=48,
                num_inference_steps=1,
                output_type="pt",
            ),
        )
        texts = [given["encoder_hidden_states"] for given, _ in calls]
        wanted = [positive["text"], *([other["text"]] if other else [])]
        assert len(texts) == len(wanted)
        assert all(torch.equal(one, two) for one, two in zip(texts, wanted, strict=True))
        if variant == "dev":
            assert calls[0][0]["guidance"].item() == 4.0


@pytest.mark.parametrize(
    ("variant", "kind"), [("dev", Flux2Pipeline), ("klein-base-4b", Flux2KleinPipeline)]
)
def test_the_public_pipeline_reads_what_save_wrote(made, saved, variant, kind):
    index = json.loads((saved[variant] / "model_index.json").read_text())
    assert index["_class_name"] == kind.__name__
    assert index.get("is_distilled", False) is False
    state = made[variant].denoiser.state_dict()
    found = kind.from_pretrained(saved[variant], local_files_only=True).transformer.state_dict()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_only_step_distilled_klein_goes_without_guidance():
    for variant, card in FAMILY.variants.items():
        parts = FAMILY.tiny(variant)
        parts.text = None
        pipeline = FAMILY.pipeline(parts)
        distilled = getattr(pipeline.config, "is_distilled", None)
        assert distilled is (None if variant == "dev" else "base" not in variant)
        assert card.negative == (distilled is False)


def test_a_stock_pipeline_loads_every_key_of_our_lora(made, tmp_path):
    parts = deepcopy(made["klein-base-4b"])
    names = lora.attach(parts.denoiser, lora.LoraSpec(targets=FAMILY.lora_targets), seed=0)
    assert len(names) == 2 * 12 + 2 * 2  # of two double and two single blocks
    with torch.no_grad():
        for value in lora.trainable(parts.denoiser).values():
            value.add_(0.1 * draw(*value.shape))
    lora.save(parts.denoiser, tmp_path / "a.safetensors", {})
    given, t = FAMILY.embed(parts.text, [PROMPT]), torch.tensor([0.6])
    pipeline = quiet(deepcopy(made["klein-base-4b"]))
    pipeline.load_lora_weights(str(tmp_path), weight_name="a.safetensors")
    loaded = [name for name, _ in pipeline.transformer.named_parameters() if "lora_" in name]
    assert len(loaded) == len(load_file(tmp_path / "a.safetensors"))
    with torch.no_grad():
        ours = FAMILY.predict(parts.denoiser, draw(1, 128, 1, 2, 3), t, given)
        theirs = FAMILY.predict(pipeline.transformer, draw(1, 128, 1, 2, 3), t, given)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def original(denoiser: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict as the authors' release would have it, through the family's table."""
    layers = {name for name, layer in denoiser.named_modules() if isinstance(layer, nn.Linear)}
    found: dict[str, list[torch.Tensor]] = {}
    for key, value in denoiser.state_dict().items():
        layer, _, parameter = key.rpartition(".")
        if layer == "norm_out.linear":
            name = "final_layer.adaLN_modulation.1.weight"
            value = torch.cat(value.chunk(2)[::-1])  # noqa: PLW2901
        elif layer in layers:
            name = f"{FAMILY.names.original(layer)[0]}.{parameter}"  # in row order already
        else:
            kind, block, *_, norm = layer.split(".")
            place = f"{'txt' if 'added' in norm else 'img'}_attn.norm"
            prefix = "single" if kind.startswith("single") else "double"
            place = "norm" if prefix == "single" else place
            side = "query_norm" if norm.endswith("q") else "key_norm"
            name = f"{prefix}_blocks.{block}.{place}.{side}.scale"
        found.setdefault(name, []).append(value)
    return {name: torch.cat(values) for name, values in found.items()}


def test_one_file_in_the_authors_key_names_loads_exactly(made, saved, tmp_path):
    save_file(original(made["dev"].denoiser), tmp_path / "flux2.safetensors")
    config = (saved["dev"] / "transformer" / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    loaded = FAMILY.load_denoiser(Source("dev", str(tmp_path / "flux2.safetensors")))
    wanted, found = made["dev"].denoiser.state_dict(), loaded.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


# The released bfloat16 files, as the hub shows them (klein-base-9b: 18,157,185,168 bytes).
@pytest.mark.parametrize(
    ("variant", "gigabytes"), [("dev", 64.4), ("klein-base-4b", 7.75), ("klein-base-9b", 18.157)]
)
def test_the_built_in_architectures_have_the_released_sizes(variant, gigabytes):
    with torch.device("meta"):
        model = Flux2Transformer2DModel.from_config(ARCHITECTURES[variant])
    count = sum(value.numel() for value in model.parameters())
    assert 2 * count / 1e9 == pytest.approx(gigabytes, rel=0.005)


def test_another_models_weights_are_refused(saved, tmp_path):
    with pytest.raises(ValueError, match="dev transformer: its guidance_embeds is False, not True"):
        FAMILY.load_denoiser(Source("dev", str(saved["klein-base-4b"])))
    flux_1 = FluxTransformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=1,
        joint_attention_dim=8,
        axes_dims_rope=(2, 2, 4),
    )
    flux_1.save_pretrained(tmp_path / "transformer")
    with pytest.raises(ValueError, match="its in_channels is 64, not 128"):
        FAMILY.load_denoiser(Source("klein-4b", str(tmp_path)))
