"""LoRA files of every family: each format comes back bit for bit, and the stock pipelines agree."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from frisket.adapters import files, formats, lora, writing
from frisket.adapters.attach import outputs_of
from frisket.families.base import default_targets, layer_names
from frisket.families.experts import experts_of

FORMS = ("comfyui", "diffusers", "kohya")


def names_of(case):
    """The table of the variant, where a family has several."""
    return layer_names(case.family, case.variant)


def adapted(case, denoiser: nn.Module, alpha: float = 3.1) -> nn.Module:
    """With an adapter that changes the prediction; 3.1 is no number of float32."""
    targets, dead = default_targets(case.family, case.variant)
    spec = lora.LoraSpec(rank=2, alpha=alpha, targets=targets, dead=dead)
    lora.attach(denoiser, spec, seed=0)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in lora.trainable(denoiser).values():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return denoiser.eval()


def saved(case, denoiser: nn.Module, path: Path, form: str) -> tuple[Path, ...]:
    prefix = case.family.lora_prefix
    return lora.save(denoiser, path, {}, prefix=prefix, names=names_of(case), form=form)


def forms_of(case) -> list[str]:
    """The formats that are written for the family."""
    return [form for form in FORMS if form not in names_of(case).unwritten]


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    first, second = lora.trainable(ours), lora.trainable(theirs)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def deltas(model: nn.Module) -> dict[str, Tensor]:
    """What each adapted layer adds to its weight."""
    return {
        name: layer.get_delta_weight("default").detach()
        for name, layer in model.named_modules()
        if hasattr(layer, "get_delta_weight")
    }


@pytest.mark.parametrize("alpha", [pytest.param(1.0, marks=pytest.mark.slow), 3.1])
def test_every_format_comes_back(case, denoiser, tmp_path, alpha):
    prefix, names = case.family.lora_prefix, names_of(case)
    other = deepcopy(denoiser)
    adapted(case, denoiser, alpha)
    for form in forms_of(case):
        written = saved(case, denoiser, tmp_path / f"{form}.safetensors", form)
        lora.load(other, tmp_path / f"{form}.safetensors", prefix=prefix, names=names)
        assert lora.get_spec(other) == lora.get_spec(denoiser)
        # Under diffusers' names alpha / rank is in B: exact where it is a power of two.
        folded = form == "diffusers" or (form, names.comfyui) == ("comfyui", "diffusers")
        assert same(other, denoiser) or (folded and alpha == 3.1)
        torch.testing.assert_close(dict(lora.trainable(other)), dict(lora.trainable(denoiser)))
        lora.detach(other)
        for file in written:  # a file without Frisket's own record does the same
            values, metadata = files.tensors(file)
            kept = {key: said for key, said in metadata.items() if key != "frisket.adapter"}
            files.write(file, values, kept)
        lora.load(other, tmp_path / f"{form}.safetensors", prefix=prefix, names=names)
        torch.testing.assert_close(deltas(other), deltas(denoiser))
        assert lora.get_spec(other).scale == pytest.approx(2 if folded else alpha)
        lora.detach(other)


def test_what_a_family_has_no_keys_for_is_refused_with_what_to_take(case, denoiser, tmp_path):
    adapted(case, denoiser)
    for form in names_of(case).unwritten:
        with pytest.raises(lora.AdapterMismatch, match=rf'{form}.*take lora.format = "comfyui"'):
            saved(case, denoiser, tmp_path / "a.safetensors", form)
    assert not list(tmp_path.iterdir())


def test_formats_turn_into_one_another_bit_for_bit(case, denoiser, tmp_path):
    adapted(case, denoiser, alpha=4.0)
    first = saved(case, denoiser, tmp_path / "first.safetensors", "comfyui")[0]
    options = {"names": names_of(case), "prefix": case.family.lora_prefix}
    sizes = {"outputs": outputs_of(next(iter(experts_of(denoiser).values())))}
    file = first
    for form in (*forms_of(case), "comfyui"):
        layers, spec = formats.read(file, **options, **sizes).alike()
        file = tmp_path / f"{form}.safetensors"
        writing.write(file, layers, {}, form=form, spec=spec, **options, **sizes)
    before, after = files.tensors(first)[0], files.tensors(file)[0]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters:RuntimeWarning")
@pytest.mark.parametrize(
    ("form", "alpha"), [("diffusers", 3.1), ("comfyui", 3.1), ("comfyui", 2.0), ("kohya", 3.1)]
)
def test_the_stock_loader_takes_every_key_and_predicts_the_same(
    case, denoiser, tmp_path, form, alpha
):
    if form not in forms_of(case):
        return
    stock = deepcopy(denoiser)
    pipeline = case.family.pipeline(replace(case.parts, denoiser=stock))
    written = saved(case, adapted(case, denoiser, alpha), tmp_path / "a.safetensors", form)
    if unread(case, form, alpha):
        assert not loaded(case, pipeline, stock, written), "diffusers can read these keys now"
        return
    assert loaded(case, pipeline, stock, written)
    ours = {name.removesuffix(".default.weight") for name in lora.trainable(denoiser)}
    theirs = {name: value for name, value in stock.named_parameters() if "lora_" in name}
    kept = {name: v for name, v in theirs.items() if name.rsplit(".", 2)[0] in ours}
    assert len(kept) == len(ours)
    # WanPipeline gives an image-to-video model zeros for the image layers a file has not got.
    assert not any(value.any() for name, value in theirs.items() if name not in kept)
    if form == "diffusers":
        assert len(kept) == sum(len(files.header(file)[0]) for file in written)
    with torch.no_grad():
        torch.testing.assert_close(
            case.predict(stock.eval()), case.predict(denoiser), atol=1e-5, rtol=1e-5
        )


def loaded(case, pipeline, stock: nn.Module, written) -> bool:
    """Whether the stock loader takes the files; it raises, or finds nothing of the denoiser's."""
    models = experts_of(stock)
    for file in written:
        expert = files.header(file)[1].get("frisket.expert", "")
        more = {"load_into_transformer_2": True} if expert == "low" else {}
        try:
            if hasattr(pipeline, "load_lora_weights"):
                pipeline.load_lora_weights(str(file.parent), weight_name=file.name, **more)
            else:  # then the model has the loader alone
                where = {"weight_name": file.name, "prefix": case.family.lora_prefix}
                models[expert].load_lora_adapter(str(file.parent), **where)
        except (ValueError, RuntimeError, AssertionError, RuntimeWarning):
            return False
        if not any("lora_" in name for name, _ in models[expert].named_parameters()):
            return False
    return True


def unread(case, form: str, alpha: float) -> str:
    """Why diffusers 0.42 does not read our ComfyUI or kohya keys of a family; empty where it does.

    What it reads at the real widths only is tested in tests/adapters/test_upstream.py.
    """
    reasons = {
        ("flux", "comfyui"): "it takes `diffusion_model.` only with `lora_down` in the key",
        ("flux", "kohya"): "its converter cuts linear1 at 3072, the width of the real model",
        ("hunyuan_video", "comfyui"): "the same, and 1.5 has no converter",
        ("sd3", "comfyui"): "it has no converter for them",
        ("sd3", "kohya"): "it has no converter for them",
        ("pocket", "comfyui"): "its only release is ours",
        ("pocket", "kohya"): "its only release is ours",
        ("maskdit", "comfyui"): "it has no release",
        ("maskdit", "kohya"): "it has no release",
    }
    if (case.family.name, form) == ("flux2", "comfyui") and alpha != 2.0:
        return "its converter refuses `.alpha`"
    return reasons.get((case.family.name, form), "")
