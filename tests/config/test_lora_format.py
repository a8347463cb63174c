"""An adapter that the files of its format cannot hold is refused with the configuration."""

from itertools import product

import pytest
import torch

from frisket.adapters import lora
from frisket.config.load import check
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.families.base import FAMILIES, Source, layer_names
from frisket.media.frames import write_image
from frisket.recipes.train import train


def config(tmp_path, case: str, **adapter) -> Config:
    family, variant = case.split("/")
    return Config.model_validate(
        {
            "model": {"family": family, "variant": variant},
            "lora": adapter,
            "data": [{"clips": str(tmp_path)}],
            "run": {"output": str(tmp_path / "run")},
        }
    )


@pytest.mark.parametrize(
    ("case", "adapter", "message"),
    [
        (
            "hunyuan_video/t2v",
            {"kind": "lokr"},
            r'img_attn_qkv: the original model fuses 3 .* a lokr .* take lora.format = "diffusers"',
        ),
        ("hunyuan_video/1.5-480p-t2v", {"kind": "dora"}, "a dora of some of them only"),
        ("flux2/klein-4b", {"kind": "loha", "format": "kohya"}, 'take lora.format = "comfyui"'),
        ("z_image/turbo", {"format": "kohya"}, r'not written .* take lora.format = "comfyui"'),
    ],
)
def test_what_no_file_can_hold_is_refused_before_any_work(tmp_path, case, adapter, message):
    with pytest.raises(ConfigError, match=rf"{case.replace('/', ' ')}: .*{message}"):
        check(config(tmp_path, case, **adapter))


@pytest.mark.parametrize(
    ("case", "adapter"),
    [
        ("flux2/klein-4b", {"kind": "lokr"}),  # in names that ComfyUI reads as slices
        ("hunyuan_video/t2v", {"kind": "lokr", "format": "diffusers"}),
        ("hunyuan_video/t2v", {"kind": "lokr", "targets": ("/single.*proj_out/",)}),
        ("hunyuan_video/t2v", {"kind": "dora"}),
        ("flux2/klein-4b", {"format": "kohya"}),
        ("flux2/klein-4b", {"targets": ("norm_out.linear",), "format": "kohya"}),  # halves turned
    ],
)
def test_what_a_file_can_hold_is_not_refused(tmp_path, case, adapter):
    check(config(tmp_path, case, **adapter))


CASES = [
    f"{name}/{variant}"
    for name in FAMILIES.names()
    for variant, card in FAMILIES.load(name).variants.items()
    if not card.like and card.sees == "nothing"
]
QUICK = (("flux/schnell", "lokr"),)


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        pytest.param(case, kind, marks=() if (case, kind) in QUICK else pytest.mark.slow)
        for case, kind in product(CASES, ("lora", "dora", "loha", "lokr"))
    ],
)
def test_a_run_of_any_kind_ends_with_a_file_that_loads(tmp_path, case, kind):
    family, variant = case.split("/")
    shelf = FAMILIES.load(family)
    shelf.save(shelf.tiny(variant), tmp_path / "model")
    for number in range(2):
        pixels = torch.randint(256, (64, 64, 3), dtype=torch.uint8)
        write_image(tmp_path / "clips" / f"{number}.png", pixels)
    tree = config(tmp_path / "clips", case, kind=kind, rank=2, alpha=3.0).model_dump()
    tree["model"] |= {"source": str(tmp_path / "model"), "device": "cpu"}
    tree["data"] = [{"clips": tmp_path / "clips", "caption": "sks", "resolution": 64}]
    tree["run"] = {"output": tmp_path / "run", "cache": tmp_path / "cache", "steps": 2}
    asked = Config.model_validate(tree)
    unfit = ("dora", "loha", "lokr") if "1.5" in variant else ("loha", "lokr")
    if family == "hunyuan_video" and kind in unfit:
        with pytest.raises(ConfigError, match=r'take lora.format = "diffusers"'):
            check(asked)
        tree["lora"]["format"] = "diffusers"
        asked = Config.model_validate(tree)
    for file in train(asked).loras:
        bare = shelf.load_denoiser(Source(variant, str(tmp_path / "model")))
        names = layer_names(shelf, variant)
        lora.load(bare, file, prefix=shelf.lora_prefix, names=names)
        spec = lora.get_spec(bare)
        assert spec is not None
        assert (spec.kind, spec.rank, spec.alpha) == (kind, 2, 3.0)
