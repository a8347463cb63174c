"""FLUX.1 against the stock diffusers pipelines, and its weights from every kind of source."""

import json
import logging
import math
from copy import deepcopy
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence

from frisket.adapters import lora
from frisket.families.base import Source, WeightsNotFound
from frisket.families.models.flux import kontext
from frisket.families.models.flux.family import ARCHITECTURES, FAMILY

PROMPT = "a red fox, café &amp; snow"
SIZE = (32, 48)  # height, width


@pytest.fixture(scope="module")
def made():
    return {variant: FAMILY.tiny(variant) for variant in ("dev", "schnell", "kontext")}


@pytest.fixture(scope="module")
def saved(made, tmp_path_factory) -> dict[str, Path]:
    folders = {variant: tmp_path_factory.mktemp(variant) for variant in made}
    for variant, folder in folders.items():
        FAMILY.save(made[variant], folder)
    return folders


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    values = torch.randint(
        256, (1, height, width, 3), generator=torch.Generator().manual_seed(seed)
    )
    return values.to(torch.uint8)


def stock(parts):
    """Diffusers' own pipeline, not the one that keeps Kontext's sizes."""
    pipeline = FAMILY.pipeline(parts)
    if parts.variant == "kontext":
        pipeline = diffusers.FluxKontextPipeline(**pipeline.components)
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


def assert_same_inputs(theirs: dict, ours: dict) -> None:
    for name, value in theirs.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=0, check_dtype=False)
        elif name != "joint_attention_kwargs":  # {} for nothing
            assert ours[name] == value, name


def noisy_of(given: dict) -> torch.Tensor:
    """The latents behind a stock pipeline's tokens."""
    tokens = given["hidden_states"][:, : SIZE[0] * SIZE[1] // 256]
    cells = FluxPipeline._unpack_latents(tokens, *SIZE, 8)
    return cells[:, :, None]


@pytest.mark.parametrize("variant", ["dev", "schnell", "kontext"])
def test_the_transformer_is_fed_what_the_stock_pipeline_feeds_it(made, variant):
    parts = made[variant]
    references = [picture(40, 70)] if variant == "kontext" else []
    seen = FAMILY.image_conditioning(parts.vae, None, torch.zeros(1, 3, 1, *SIZE), references)
    given = {**FAMILY.embed(parts.text, [PROMPT]), **seen}
    call = {"prompt": PROMPT, "height": SIZE[0], "width": SIZE[1], "num_inference_steps": 2}
    if variant == "schnell":
        call["max_sequence_length"] = 256
    if variant == "kontext":
        image = Image.fromarray(references[0][0].numpy())
        call |= {"image": image, "max_area": math.prod(SIZE), "_auto_resize": False}
    pipeline = stock(parts)
    calls = watched(
        parts.denoiser,
        lambda: pipeline(
            **call, guidance_scale=1.0, generator=torch.Generator(), output_type="latent"
        ),
    )
    assert len(calls) == 2
    for theirs, made_of_them in calls:
        noisy, t = noisy_of(theirs), theirs["timestep"].float()
        with torch.no_grad():
            [(ours, _)] = watched(
                parts.denoiser,
                lambda: FAMILY.predict(parts.denoiser, noisy, t, given),  # noqa: B023
            )
            velocity = FAMILY.predict(parts.denoiser, noisy, t, given)
        assert_same_inputs(theirs, ours)
        count = SIZE[0] * SIZE[1] // 256
        packed = FluxPipeline._pack_latents(velocity[:, :, 0], 1, 16, SIZE[0] // 8, SIZE[1] // 8)
        torch.testing.assert_close(packed, made_of_them[:, :count], atol=1e-5, rtol=0)


def test_only_the_distilled_variants_are_told_a_guidance(made):
    for variant, told in (("dev", [1.0, 1.0]), ("schnell", None)):
        parts = made[variant]
        given = FAMILY.embed(parts.text, ["a", "b"])
        t = torch.tensor([0.2, 0.8])
        [(ours, _)] = watched(
            parts.denoiser,
            lambda: FAMILY.predict(parts.denoiser, draw(2, 16, 1, 4, 6), t, given),  # noqa: B023
        )
        assert (ours["guidance"] if told is None else ours["guidance"].tolist()) == told


def test_schnell_reads_256_tokens_and_the_others_512(made, caplog):
    with caplog.at_level(logging.WARNING, "frisket"):
        lengths = {
            variant: FAMILY.embed(parts.text, ["x" * 300, "short"])["text"].shape[1]
            for variant, parts in made.items()
        }
    assert lengths == {"dev": 512, "schnell": 256, "kontext": 512}
    cut = [record.getMessage() for record in caplog.records if record.name.startswith("frisket")]
    assert len(cut) == 1
    assert "301 tokens cut to 256: xxx" in cut[0]


def test_encode_normalises_as_the_stock_pipeline_does(made):
    clip = draw(2, 3, 1, *SIZE).clamp(-1, 1)
    theirs = stock(made["kontext"])._encode_vae_image(clip[:, :, 0], None)
    ours = FAMILY.encode(made["kontext"].vae, clip)
    torch.testing.assert_close(ours[:, :, 0], theirs, atol=1e-5, rtol=0)


def test_decode_gives_the_pixels_of_the_stock_pipeline(made):
    parts = made["dev"]

    def sample(kind: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        return stock(parts)(
            PROMPT,
            height=32,
            width=48,
            num_inference_steps=2,
            generator=generator,
            output_type=kind,
        ).images

    latents = FluxPipeline._unpack_latents(sample("latent"), *SIZE, 8)[:, :, None]
    ours = FAMILY.decode(parts.vae, latents)[:, :, 0] / 2 + 0.5
    torch.testing.assert_close(ours.clamp(0, 1), sample("pt"), atol=1e-5, rtol=0)


def test_a_bfloat16_model_is_handed_t_in_float32(saved):
    denoiser = FAMILY.load_denoiser(Source("dev", str(saved["dev"]), dtype=torch.bfloat16))
    given = {"text": torch.zeros(1, 512, 32), "pooled": torch.zeros(1, 32)}
    t = torch.tensor([0.9371])
    [(ours, _)] = watched(
        denoiser, lambda: FAMILY.predict(denoiser, draw(1, 16, 1, 4, 4), t, given)
    )
    assert torch.equal(ours["timestep"], t)
    for name in ("hidden_states", "encoder_hidden_states", "pooled_projections"):
        assert ours[name].dtype == torch.bfloat16


def test_kontext_takes_references_of_several_sizes_in_one_batch(made):
    parts = made["kontext"]
    clip, noisy = torch.zeros(1, 3, 1, *SIZE), draw(3, 16, 1, 4, 6)
    t = torch.tensor([0.2, 0.5, 0.9])
    text = FAMILY.embed(parts.text, ["a", "b", "c"])
    shapes = [(32, 48), (64, 32), (32, 48)]
    seen = [
        FAMILY.image_conditioning(parts.vae, None, clip, [picture(*shape, seed=index)])
        for index, shape in enumerate(shapes)
    ]
    # As the loader joins samples: zeros at the end of dim 1.
    batch = {key: pad_sequence([one[key][0] for one in seen], True) for key in seen[0]}
    assert batch["reference"].shape == (3, 8, 64)
    with torch.no_grad():
        together = FAMILY.predict(parts.denoiser, noisy, t, {**text, **batch})
        for index in range(3):
            of = slice(index, index + 1)
            given = {**{name: value[of] for name, value in text.items()}, **seen[index]}
            alone = FAMILY.predict(parts.denoiser, noisy[of], t[of], given)
            torch.testing.assert_close(together[of], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1200, 1000), (700, 2300)])
def test_a_large_reference_becomes_what_the_stock_pipeline_makes_of_it(made, shape):
    reference = picture(*shape)
    pipeline, theirs = stock(made["kontext"]), []
    encode = pipeline._encode_vae_image
    pipeline._encode_vae_image = lambda image, generator: (
        theirs.append(image) or encode(image[..., :16, :16], generator)
    )
    pipeline(
        image=Image.fromarray(reference[0].numpy()),
        prompt="x",
        height=16,
        width=16,
        max_area=256,
        num_inference_steps=1,
        output_type="latent",
    )
    assert torch.equal(kontext.pixels(kontext.fit([reference])), theirs[0])


def test_references_kontext_cannot_take_are_refused():
    with pytest.raises(ValueError, match="one reference picture, got 2: join them"):
        kontext.fit([picture(32, 32)] * 2)
    with pytest.raises(ValueError, match="48 x 8 pixels is too small"):
        kontext.fit([picture(8, 48)])


@pytest.mark.parametrize("variant", ["dev", "schnell", "kontext"])
def test_previews_need_no_text_encoder_and_have_the_size_asked_for(made, variant):
    references = [picture(40, 70)] if variant == "kontext" else []
    parts = made[variant]
    given = FAMILY.embed(parts.text, [PROMPT, "b"])
    bare = deepcopy(parts)
    bare.text = None
    pipeline = FAMILY.pipeline(bare)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        **FAMILY.call(variant, given, None, guidance=3.5, references=references),
        height=32,
        width=48,
        num_inference_steps=2,
        output_type="pt",
    ).images
    assert images.shape == (2, 3, 32, 48)
    assert pipeline.scheduler.config.use_dynamic_shifting == (variant != "schnell")


@pytest.mark.parametrize(
    ("variant", "kind"), [("dev", FluxPipeline), ("kontext", diffusers.FluxKontextPipeline)]
)
def test_the_public_pipeline_reads_what_save_wrote(made, saved, variant, kind):
    index = json.loads((saved[variant] / "model_index.json").read_text())
    assert index["_class_name"] == kind.__name__
    state = made[variant].denoiser.state_dict()
    found = kind.from_pretrained(saved[variant], local_files_only=True).transformer.state_dict()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_stock_pipeline_loads_every_key_of_our_lora(made, tmp_path):
    parts = deepcopy(made["dev"])
    names = lora.attach(parts.denoiser, lora.LoraSpec(targets=FAMILY.lora_targets), seed=0)
    assert len(names) == 2 * 12 + 2 * 5  # of two double and two single blocks, and not the head
    assert "proj_out" not in names
    with torch.no_grad():
        for value in lora.trainable(parts.denoiser).values():
            value.add_(0.1 * draw(*value.shape))
    lora.save(parts.denoiser, tmp_path / "a.safetensors", {})
    given, t = FAMILY.embed(parts.text, [PROMPT]), torch.tensor([0.6])
    pipeline = stock(deepcopy(made["dev"]))
    pipeline.load_lora_weights(str(tmp_path), weight_name="a.safetensors")
    loaded = [name for name, _ in pipeline.transformer.named_parameters() if "lora_" in name]
    assert len(loaded) == len(load_file(tmp_path / "a.safetensors"))
    with torch.no_grad():
        ours = FAMILY.predict(parts.denoiser, draw(1, 16, 1, 4, 6), t, given)
        theirs = FAMILY.predict(pipeline.transformer, draw(1, 16, 1, 4, 6), t, given)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_one_file_in_diffusers_names_loads_exactly(made, saved):
    file = saved["dev"] / "transformer" / "diffusion_pytorch_model.safetensors"
    source = Source("dev", str(file))
    state = made["dev"].denoiser.state_dict()
    found = FAMILY.load_denoiser(source).state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    FAMILY.load_vae(source)
    assert FAMILY.load_text(source).length == 512


def test_a_file_without_config_is_held_to_its_variants_architecture(saved, tmp_path):
    file = tmp_path / "alone.safetensors"
    save_file(load_file(saved["dev"] / "transformer" / "diffusion_pytorch_model.safetensors"), file)
    with pytest.raises(ValueError, match=r"alone.*does not fit .*variant dev.*config\.json"):
        FAMILY.load_denoiser(Source("dev", str(file)))
    with pytest.raises(WeightsNotFound, match=r"there is no vae/ beside it"):
        FAMILY.load_vae(Source("dev", str(file)))


# The released flux1-dev.safetensors has 23,802,932,552 bytes, flux1-schnell's 23,782,506,688:
# two bytes a parameter and a header.
@pytest.mark.parametrize(
    ("variant", "size"),
    [("dev", 23_802_932_552), ("krea-dev", 23_802_932_552), ("schnell", 23_782_506_688)],
)
def test_the_built_in_architectures_have_the_released_sizes(variant, size):
    with torch.device("meta"):
        model = FluxTransformer2DModel.from_config(ARCHITECTURES[variant])
    count = sum(value.numel() for value in model.parameters())
    assert 0 < size - 2 * count < 200_000


def test_another_models_weights_are_refused(saved, tmp_path):
    with pytest.raises(ValueError, match=r"FLUX\.1 dev transformer: its guidance_embeds is False"):
        FAMILY.load_denoiser(Source("dev", str(saved["schnell"])))
    with pytest.raises(ValueError, match="schnell transformer: its guidance_embeds is True"):
        FAMILY.load_denoiser(Source("schnell", str(saved["dev"])))
    fill = FluxTransformer2DModel(
        in_channels=384,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=1,
        joint_attention_dim=8,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=True,
    )
    fill.save_pretrained(tmp_path / "fill" / "transformer")
    with pytest.raises(ValueError, match="its in_channels is 384, not 64"):
        FAMILY.load_denoiser(Source("dev", str(tmp_path / "fill")))
    vae = AutoencoderKL(latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609)
    vae.save_pretrained(tmp_path / "sd3" / "vae")
    with pytest.raises(ValueError, match=r"a FLUX\.1 VAE: its scaling_factor is 1\.5305"):
        FAMILY.load_vae(Source("dev", str(tmp_path / "sd3")))
