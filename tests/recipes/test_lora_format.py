"""An adapter that the files of its format cannot hold is refused with the configuration."""

import pytest

from frisket.recipes.config import Config
from frisket.recipes.load import check
from frisket.recipes.origin import ConfigError


def config(tmp_path, case: str, **lora) -> Config:
    family, variant = case.split("/")
    return Config.model_validate(
        {
            "model": {"family": family, "variant": variant},
            "lora": lora,
            "data": [{"clips": str(tmp_path)}],
            "run": {"output": str(tmp_path / "run")},
        }
    )


@pytest.mark.parametrize(
    ("case", "lora", "message"),
    [
        (
            "hunyuan_video/t2v",
            {"kind": "lokr"},
            r'img_attn_qkv: the original model fuses 3 .* a lokr .* take lora.format = "diffusers"',
        ),
        ("hunyuan_video/1.5-480p-t2v", {"kind": "dora"}, "a dora of some of them only"),
        ("flux2/klein-4b", {"kind": "loha", "format": "kohya"}, 'take lora.format = "comfyui"'),
        ("z_image/turbo", {"format": "kohya"}, r'not written .* take lora.format = "comfyui"'),
        (
            "flux2/klein-4b",
            {"targets": ("norm_out.linear",), "format": "kohya"},
            "norm_out.linear is no layer in this family's table",
        ),
    ],
)
def test_what_no_file_can_hold_is_refused_before_any_work(tmp_path, case, lora, message):
    with pytest.raises(ConfigError, match=rf"{case.replace('/', ' ')}: .*{message}"):
        check(config(tmp_path, case, **lora))


@pytest.mark.parametrize(
    ("case", "lora"),
    [
        ("flux2/klein-4b", {"kind": "lokr"}),  # in names that ComfyUI reads as slices
        ("hunyuan_video/t2v", {"kind": "lokr", "format": "diffusers"}),
        ("hunyuan_video/t2v", {"kind": "lokr", "targets": ("/single.*proj_out/",)}),
        ("hunyuan_video/t2v", {"kind": "dora"}),
        ("flux2/klein-4b", {"format": "kohya"}),
    ],
)
def test_what_a_file_can_hold_is_not_refused(tmp_path, case, lora):
    check(config(tmp_path, case, **lora))
