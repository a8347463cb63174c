"""Every kind of adapter in every format for every family: written so that it comes back, or refused
before any work in one sentence that names the format to take."""

from copy import deepcopy
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

from frisket.adapters import files, lora
from frisket.adapters.forms import check_form
from frisket.families.base import FAMILIES, Family, default_targets, layer_names
from frisket.families.experts import experts_of

KINDS, FORMS = ("lora", "dora", "loha", "lokr"), ("comfyui", "diffusers", "kohya")
# One a code path: nothing fused; fused, and sliced by ComfyUI; fused, and not; UNet kernels;
# diffusers' names always.
QUICK = ("wan/2.2-ti2v-5b", "flux/dev", "hunyuan_video/1.5-480p-t2v", "stable_diffusion/sd15",
         "qwen_image_21/2.1")  # fmt: skip
VARIANTS = [
    f"{name}/{variant}"
    for name in FAMILIES.names()
    for variant, card in FAMILIES.load(name).variants.items()
    if not card.like
]
# What no file of the family's own names can hold; all else is written.
REFUSED = {
    *(("hunyuan_video/t2v", kind, "comfyui") for kind in ("loha", "lokr")),
    *(
        (f"hunyuan_video/1.5-480p-{way}", kind, "comfyui")
        for way, kind in product(("t2v", "i2v"), ("dora", "loha", "lokr"))
    ),
    *(
        (variant, kind, "kohya")
        for variant in VARIANTS
        for kind in KINDS
        if variant.startswith(("hunyuan_video", "z_image", "qwen_image_21"))
        or (kind in ("loha", "lokr") and variant.startswith(("flux", "sd3")))
        or (kind == "dora" and variant.startswith("sd3"))
    ),
}


@cache
def tiny(case: str) -> tuple[Family, str, nn.Module]:
    name, variant = case.split("/")
    family = FAMILIES.load(name)
    denoiser = family.tiny(variant).denoiser
    assert denoiser is not None
    return family, variant, denoiser


def adapted(case: str, kind: str, alpha: float) -> nn.Module:
    family, variant, denoiser = tiny(case)
    model = deepcopy(denoiser)
    targets, dead = default_targets(family, variant)
    if family.name == "stable_diffusion":  # it has many layers of few kinds
        targets = ("to_q", "proj_in")
    lora.attach(model, lora.LoraSpec(kind, 2, alpha, targets=targets, dead=dead), seed=0)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in lora.trainable(model).values():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return model


def names_in(model: nn.Module) -> list[str]:
    return [
        name
        for expert in experts_of(model).values()
        for name, layer in expert.named_modules()
        if hasattr(layer, "get_delta_weight")
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "case",
    [pytest.param(v, marks=() if v in QUICK else pytest.mark.slow) for v in VARIANTS],
)
def test_an_adapter_is_written_and_comes_back_or_is_refused_before(case, kind, form, tmp_path):
    family, variant, _ = tiny(case)
    names, prefix = layer_names(family, variant), family.lora_prefix
    model = adapted(case, kind, alpha=3.0)
    file = tmp_path / "a.safetensors"

    def save() -> tuple[Path, ...]:
        return lora.save(model, file, {}, prefix=prefix, names=names, form=form)

    if (case, kind, form) in REFUSED:
        for refused in (lambda: check_form(names, kind, form, names_in(model)), save):
            with pytest.raises(lora.AdapterMismatch, match=r'take lora.format = "(comf|diff)'):
                refused()
        assert not list(tmp_path.iterdir())
        return
    check_form(names, kind, form, names_in(model))
    written = save()
    other = deepcopy(tiny(case)[2])
    lora.load(other, file, prefix=prefix, names=names)
    assert lora.get_spec(other) == lora.get_spec(model)
    torch.testing.assert_close(dict(lora.trainable(other)), dict(lora.trainable(model)))
    for each in written:  # and as others read it, who do not know our record
        values, metadata = files.tensors(each)
        files.write(each, values, {k: v for k, v in metadata.items() if k != "frisket.adapter"})
    if kind in ("lora", "dora") or form != "diffusers":
        lora.detach(other)
        lora.load(other, file, prefix=prefix, names=names)
        assert effects(other).keys() == effects(model).keys()
        torch.testing.assert_close(effects(other), effects(model))


def effects(model: nn.Module) -> dict[str, torch.Tensor]:
    """What each adapted layer adds to its weight (of dora, without the magnitudes)."""
    return {
        f"{expert}.{name}": layer.get_delta_weight("default").detach()
        for expert, each in experts_of(model).items()
        for name, layer in each.named_modules()
        if hasattr(layer, "get_delta_weight")
    }
