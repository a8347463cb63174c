"""Wan 2.2 A14B: two experts from folders and files, their LoRAs, and half a model refused."""

from copy import deepcopy

import pytest
import torch
from diffusers import WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file, safe_open, save_file

from frisket.adapters import lora
from frisket.families.base import Source
from frisket.families.experts import Experts, experts_of
from frisket.families.models.wan.family import ARCHITECTURES, FAMILY

TEXT, IMAGE = "2.2-t2v-a14b", "2.2-i2v-a14b"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def parts():
    return FAMILY.tiny(TEXT)


@pytest.fixture(scope="module")
def saved(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("a14b")
    FAMILY.save(parts, folder)
    return folder


def predict(denoiser, parts, level: float) -> torch.Tensor:
    noisy = torch.randn(1, 16, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        given = FAMILY.embed(parts.text, ["a fox"])
        return FAMILY.predict(denoiser, noisy, torch.tensor([level]), given)


def test_the_experts_are_two_models_with_ranges_that_meet_at_the_released_boundary(parts):
    for variant, boundary in ((TEXT, 0.875), (IMAGE, 0.9)):
        ranges = FAMILY.variants[variant].experts
        assert ranges == {"high": (boundary, 1.0), "low": (0.0, boundary)}
        tiny = FAMILY.tiny(variant)
        assert FAMILY.pipeline(tiny).config.boundary_ratio == boundary
        assert isinstance(tiny.denoiser, Experts)
    high, low = (experts_of(parts.denoiser)[name] for name in ("high", "low"))
    assert not torch.equal(high.proj_out.weight, low.proj_out.weight)
    assert not torch.equal(predict(parts.denoiser, parts, 0.9), predict(parts.denoiser, parts, 0.8))


@pytest.mark.parametrize(
    ("names", "works", "not_for"),
    [
        (("high",), 0.9, 0.5),
        (("low",), 0.5, 0.9),
    ],
)
def test_one_expert_alone_loads_from_its_folder_and_from_its_file(
    parts, saved, names, works, not_for
):
    folder = {"high": "transformer", "low": "transformer_2"}[names[0]]
    for path in (saved, saved / folder / WEIGHTS):
        loaded = FAMILY.load_denoiser(Source(TEXT, str(path), experts=names))
        assert list(experts_of(loaded)) == list(names)
        assert not loaded.training
        assert torch.equal(predict(loaded, parts, works), predict(parts.denoiser, parts, works))
        with pytest.raises(ValueError, match="not within the range of one loaded expert"):
            predict(loaded, parts, not_for)


def test_one_expert_in_the_authors_key_names_loads(parts, saved, tmp_path):
    state = load_file(saved / "transformer_2" / WEIGHTS)
    table = {name: module for name, module in experts_of(parts.denoiser)["low"].named_modules()}
    original = {}
    for key, value in state.items():
        name, _, kind = key.rpartition(".")
        is_layer = isinstance(table.get(name), torch.nn.Linear | torch.nn.Conv3d)
        renamed = f"{FAMILY.names.original(name)[0]}.{kind}" if is_layer else key
        for ours, theirs in (
            ("attn1", "self_attn"),
            ("attn2", "cross_attn"),
            ("norm2", "norm3"),
            ("blocks.0.scale_shift_table", "blocks.0.modulation"),
            ("blocks.1.scale_shift_table", "blocks.1.modulation"),
        ):
            renamed = renamed.replace(ours, theirs)
        original["head.modulation" if renamed == "scale_shift_table" else renamed] = value
    save_file(original, tmp_path / "low_noise.safetensors")
    (tmp_path / "config.json").write_text((saved / "transformer_2/config.json").read_text())
    source = Source(TEXT, str(tmp_path / "low_noise.safetensors"), experts=("low",))
    loaded = FAMILY.load_denoiser(source)
    assert torch.equal(predict(loaded, parts, 0.5), predict(parts.denoiser, parts, 0.5))


def test_a_single_file_for_both_experts_and_experts_that_are_none_are_refused(saved):
    file = str(saved / "transformer" / WEIGHTS)
    for names in ((), ("high", "low")):
        with pytest.raises(ValueError, match=r'holds one expert, and high and low .* = "high" or'):
            FAMILY.load_denoiser(Source(TEXT, file, experts=names))
    with pytest.raises(ValueError, match=r"has no expert middle \(it has: high, low\)"):
        FAMILY.load_denoiser(Source(TEXT, file, experts=("middle",)))
    with pytest.raises(ValueError, match=r"2\.2-ti2v-5b has no expert high .*one model for all"):
        FAMILY.load_denoiser(Source("2.2-ti2v-5b", file, experts=("high",)))


def test_half_a_model_does_not_sample_and_is_not_saved(saved, tmp_path):
    half = FAMILY.tiny(TEXT)
    half.denoiser = FAMILY.load_denoiser(Source(TEXT, str(saved), experts=("low",)))
    for attempt in (lambda: FAMILY.pipeline(half), lambda: FAMILY.save(half, tmp_path / "out")):
        with pytest.raises(ValueError, match=r"needs both experts .* and high is not loaded"):
            attempt()
    assert not (tmp_path / "out").exists()


def test_another_kind_of_wan_is_refused(saved, tmp_path):
    with pytest.raises(ValueError, match=r"not a Wan 2\.1 text-to-video .*two-expert model"):
        FAMILY.load_denoiser(Source("2.1-t2v-14b", str(saved)))
    with pytest.raises(ValueError, match=r"image-to-video .*in_channels is 16, not 36"):
        FAMILY.load_denoiser(Source(IMAGE, str(saved)))
    FAMILY.save(FAMILY.tiny("2.1-i2v-14b-480p"), tmp_path / "clip")
    first = str(tmp_path / "clip")
    with pytest.raises(ValueError, match=r"Wan 2\.2 image-to-video .*it has an input for an image"):
        FAMILY.load_denoiser(Source(IMAGE, first, experts=("high",)))
    FAMILY.save(FAMILY.tiny("2.2-ti2v-5b"), tmp_path / "small")
    with pytest.raises(ValueError, match=r"text-to-video .*in_channels is 48, not 16"):
        FAMILY.load_denoiser(Source("2.1-t2v-1.3b", str(tmp_path / "small")))
    with pytest.raises(ValueError, match=r"not a Wan 2\.1 VAE: its z_dim is 48"):
        FAMILY.load_vae(Source("2.1-t2v-1.3b", str(tmp_path / "small")))
    with pytest.raises(ValueError, match=r"not the VAE of Wan 2\.2 TI2V: its z_dim is 16"):
        FAMILY.load_vae(Source("2.2-ti2v-5b", first))


def test_the_stock_pipeline_reads_what_save_wrote(parts, saved):
    stock = WanPipeline.from_pretrained(saved, local_files_only=True)
    assert stock.config.boundary_ratio == 0.875
    for name, model in (("high", stock.transformer), ("low", stock.transformer_2)):
        state = experts_of(parts.denoiser)[name].state_dict()
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_each_experts_lora_loads_into_its_own_half_of_the_stock_pipeline(saved, tmp_path):
    ours = FAMILY.tiny(TEXT)
    spec = lora.LoraSpec(rank=2, alpha=3.0, targets=FAMILY.lora_targets)
    generator = torch.Generator().manual_seed(1)
    files = {}
    for name, expert in experts_of(ours.denoiser).items():
        lora.attach(expert, spec, seed=0)
        for value in lora.trainable(expert).values():
            value.data.add_(0.1 * torch.randn(value.shape, generator=generator))
        files[name] = tmp_path / f"{name}.safetensors"
        lora.save(expert, files[name], {}, prefix=FAMILY.lora_prefix)
    stock = WanPipeline.from_pretrained(saved, local_files_only=True)
    base = deepcopy(stock.transformer.state_dict())
    stock.load_lora_weights(str(files["high"]), adapter_name="high")
    stock.load_lora_weights(str(files["low"]), adapter_name="low", load_into_transformer_2=True)
    for name, model in (("high", stock.transformer), ("low", stock.transformer_2)):
        with safe_open(files[name], framework="pt") as opened:
            held = [key for key in model.state_dict() if ".lora_" in key]
            assert len(held) == len(opened.keys()) > 0

    def sample(pipeline) -> torch.Tensor:
        pipeline.set_progress_bar_config(disable=True)
        given = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 4}
        generator = torch.Generator().manual_seed(4)
        return pipeline("a fox", "", generator=generator, output_type="latent", **given).frames

    mine = sample(FAMILY.pipeline(ours))
    torch.testing.assert_close(sample(stock), mine, atol=1e-5, rtol=0)
    stock.unload_lora_weights()
    assert base.keys() == stock.transformer.state_dict().keys()
    assert not torch.allclose(sample(stock), mine, atol=1e-3)


def test_a_gradient_reaches_the_lora_of_the_expert_in_use_alone():
    ours = FAMILY.tiny(TEXT)
    spec = lora.LoraSpec(rank=2, targets=("to_q",))
    for expert in experts_of(ours.denoiser).values():
        lora.attach(expert, spec, seed=0)
    given = FAMILY.embed(ours.text, ["a fox"])
    noisy = torch.randn(1, 16, 1, 4, 4)
    FAMILY.predict(ours.denoiser, noisy, torch.tensor([0.95]), given).square().sum().backward()
    high, low = (lora.trainable(experts_of(ours.denoiser)[n]) for n in ("high", "low"))
    assert any(value.grad is not None and value.grad.any() for value in high.values())
    assert all(value.grad is None for value in low.values())


# Of the cards on the hub: 1.3B, 14B (14.3 and, with the image encoder's layers, 16.4), 5B.
@pytest.mark.parametrize(
    ("variant", "billions"),
    [
        ("2.1-t2v-1.3b", 1.42),
        ("2.1-t2v-14b", 14.29),
        ("2.1-i2v-14b-480p", 16.40),
        ("2.1-i2v-14b-720p", 16.40),
        ("2.2-t2v-a14b", 14.29),
        ("2.2-i2v-a14b", 14.29),
        ("2.2-ti2v-5b", 5.00),
        ("2.2-ti2v-5b-i2v", 5.00),
    ],
)
def test_the_built_in_architectures_have_the_released_sizes(variant, billions):
    with torch.device("meta"):
        model = WanTransformer3DModel.from_config(ARCHITECTURES[variant])
    count = sum(value.numel() for value in model.parameters())
    assert count / 1e9 == pytest.approx(billions, abs=0.01)
