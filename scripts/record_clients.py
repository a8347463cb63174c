"""Records which LoRA keys other programs accept, by running their own code on their own models.

    python scripts/record_clients.py CLIENT CHECKOUT --repo OWNER/NAME --commit HASH

CLIENT: comfyui, musubi or sd-scripts; CHECKOUT: a checkout of it. The models are built at
their real sizes on the meta device: no weights, no memory. What comes out is written to
tests/adapters/clients/CLIENT.json, from which `tests/adapters/test_clients.py` counts what a client
would lose of our files and docs/lora-files.md says who reads what. Needs torch, and in an
environment of its own what the client imports (ComfyUI: torchsde, scipy, aiohttp, einops).
"""

import argparse
import importlib
import importlib.machinery
import json
import re
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch

FOLDER = Path(__file__).parents[1] / "tests" / "adapters" / "clients"
# What our files begin with; a client takes other beginnings too, which are left out here.
STARTS = ("diffusion_model.", "transformer.", "lora_unet_", "unet.")
NUMBER = re.compile(r"(?<=[._])\d+(?=[._]|$)")
# The released models, as ComfyUI's model_detection describes them.
FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2,
    "vec_in_dim": 768, "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0,
    "num_heads": 24, "depth": 19, "depth_single_blocks": 38, "axes_dim": [16, 56, 56],
    "theta": 10000, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
FLUX_2 = FLUX | {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "patch_size": 1,
    "vec_in_dim": None, "context_in_dim": 15360, "hidden_size": 6144, "mlp_ratio": 3.0,
    "num_heads": 48, "depth": 8, "depth_single_blocks": 48, "axes_dim": [32, 32, 32, 32],
    "theta": 2000, "qkv_bias": False, "global_modulation": True, "mlp_silu_act": True,
    "ops_bias": False, "default_ref_method": "index", "ref_index_scale": 10.0,
    "txt_ids_dims": [3],
}  # fmt: skip
WAN = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": 5120, "ffn_dim": 13824, "num_heads": 40,
    "num_layers": 40, "in_dim": 16, "out_dim": 16, "patch_size": (1, 2, 2), "freq_dim": 256,
    "window_size": (-1, -1), "qk_norm": True, "cross_attn_norm": True, "eps": 1e-6,
}  # fmt: skip
HUNYUAN = {
    "image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16,
    "patch_size": [1, 2, 2], "vec_in_dim": 768, "axes_dim": [16, 56, 56], "meanflow": False,
    "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 20,
    "depth_single_blocks": 40, "theta": 256, "qkv_bias": True, "byt5": False,
    "guidance_embed": True, "use_cond_type_embedding": False, "vision_in_dim": None,
    "meanflow_sum": False,
}  # fmt: skip
HUNYUAN_15 = HUNYUAN | {
    "in_channels": 65, "out_channels": 32, "patch_size": [1, 1, 1], "vec_in_dim": None,
    "context_in_dim": 3584, "hidden_size": 2048, "num_heads": 16, "depth": 54,
    "depth_single_blocks": 0, "byt5": True, "guidance_embed": False,
    "use_cond_type_embedding": True, "vision_in_dim": 1152, "meanflow_sum": True,
}  # fmt: skip
Z_IMAGE = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 3840,
    "cap_feat_dim": 2560, "n_layers": 30, "qk_norm": True, "n_heads": 30, "n_kv_heads": 30,
    "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512], "rope_theta": 256.0,
    "ffn_dim_multiplier": 8.0 / 3.0, "z_image_modulation": True, "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}  # fmt: skip
QWEN = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 60}


def sd3(depth: int, dual: int) -> dict[str, Any]:
    return {
        "in_channels": 16, "patch_size": 2, "depth": depth,
        "input_size": None, "adm_in_channels": 2048, "context_embedder_config": {
            "target": "torch.nn.Linear",
            "params": {"in_features": 4096, "out_features": 64 * depth},
        }, "pos_embed_scaling_factor": None, "num_patches": 36864, "pos_embed_max_size": 192,
        "qk_norm": "rms", "x_block_self_attn_layers": list(range(dual)),
    }  # fmt: skip


# By our name of the model: ComfyUI's class and the description.
COMFYUI: dict[str, tuple[str, dict[str, Any]]] = {
    "flux": ("Flux", FLUX),
    "flux2-dev": ("Flux2", FLUX_2),
    "flux2-klein-4b": ("Flux2", FLUX_2 | {
        "context_in_dim": 7680, "hidden_size": 3072, "num_heads": 24, "depth": 5,
        "depth_single_blocks": 20, "guidance_embed": False}),
    "flux2-klein-9b": ("Flux2", FLUX_2 | {
        "context_in_dim": 12288, "hidden_size": 4096, "num_heads": 32, "depth": 8,
        "depth_single_blocks": 24, "guidance_embed": False}),
    "wan-1.3b": ("WAN21_T2V", WAN | {
        "dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}),
    "wan-14b": ("WAN21_T2V", WAN),
    "wan-14b-i2v": ("WAN21_I2V", WAN | {"model_type": "i2v", "in_dim": 36}),
    "wan-5b": ("WAN22_T2V", WAN | {
        "dim": 3072, "ffn_dim": 14336, "num_heads": 24, "num_layers": 30, "in_dim": 48,
        "out_dim": 48}),
    "hunyuan_video": ("HunyuanVideo", HUNYUAN),
    "hunyuan_video-1.5": ("HunyuanVideo15", HUNYUAN_15),
    "z_image": ("ZImage", Z_IMAGE),
    "qwen_image": ("QwenImage", QWEN),
    "sd3-medium": ("SD3", sd3(24, 0)),
    "sd3.5-medium": ("SD3", sd3(24, 13)),
    "sd3.5-large": ("SD3", sd3(38, 0)),
    "sd15": ("SD15", {}),
    "sdxl": ("SDXL", {}),
}  # fmt: skip


def compress(names: Iterable[str]) -> dict[str, str]:
    """Names by pattern, `{}` for each number, with the numbers: `4 1 0-9` is 4 1 0 to 4 1 9.

    Rows of numbers are parted by commas.
    """
    groups: dict[str, list[list[str]]] = {}
    for name in names:
        groups.setdefault(NUMBER.sub("{}", name), []).append(NUMBER.findall(name))
    found: dict[str, str] = {}
    for pattern, rows in groups.items():
        places = range(len(rows[0]))
        place = max(places, key=lambda i: len({row[i] for row in rows}), default=0)
        values: dict[tuple[str, ...], set[int]] = {}
        for row in rows if rows[0] else ():
            around = (*row[:place], "{}", *row[place + 1 :])
            values.setdefault(around, set()).add(int(row[place]))
        found[pattern] = ", ".join(
            " ".join(around).replace("{}", part)
            for around, numbers in sorted(values.items())
            for part in ranges(numbers)
        )
    return dict(sorted(found.items()))


def ranges(numbers: set[int]) -> list[str]:
    made: list[list[int]] = []
    for number in sorted(numbers):
        if made and made[-1][1] == number - 1:
            made[-1][1] = number
        else:
            made.append([number, number])
    return [f"{low}-{high}" if low != high else str(low) for low, high in made]


PARTS = ("", ".transforms", ".transforms.functional", ".functional")
MEDIA = [f"{name}{part}" for name in ("torchvision", "torchaudio", "kornia", "spandrel")
         for part in PARTS]  # fmt: skip


def stub(*names: str) -> None:
    """Stand-ins for what a client imports and a list of keys does not need."""
    for name in names:
        made = MagicMock()
        made.__spec__ = importlib.machinery.ModuleSpec(name, None)
        made.__path__ = []
        sys.modules[name] = made


def comfyui(checkout: Path) -> dict[str, Any]:
    unets = {name: unet(name) for name in ("sd15", "sdxl")}  # before diffusers meets the stand-ins
    stub(*MEDIA, *(f"comfy_aimdo{part}" for part in ("", ".torch", ".control", ".model_vbar")))
    sys.path.insert(0, str(checkout))
    sys.argv = ["record", "--cpu"]
    importlib.import_module("comfy.options").enable_args_parsing()
    lora = importlib.import_module("comfy.lora")
    shelf = importlib.import_module("comfy.supported_models")
    detection = importlib.import_module("comfy.model_detection")
    models = {}
    for name, (kind, config) in COMFYUI.items():
        made = getattr(shelf, kind)(
            config or detection.unet_config_from_diffusers_unet(unets[name])
        )
        made.set_inference_dtype(torch.float32, None)
        with torch.device("meta"):
            model = made.get_model({}, device="meta")
        names = [key for key in lora.model_lora_keys_unet(model, {}) if key.startswith(STARTS)]
        models[name] = compress(names)
        print(name, len(names))
    return {"words": words(lora), "models": models}


def unet(name: str) -> dict[str, torch.Tensor]:
    """Shapes of diffusers' weights, from which ComfyUI finds its own description of a UNet."""
    diffusers = importlib.import_module("diffusers")
    families = importlib.import_module("frisket.families.models.stable_diffusion.family")
    with torch.device("meta"):
        made = diffusers.UNet2DConditionModel.from_config(families.ARCHITECTURES[name])
    state: dict[str, torch.Tensor] = made.state_dict()
    return state


def words(lora: Any) -> list[str]:
    """What the loader takes after the name of a layer."""
    every = {
        "lora": ("lora_A.weight", "lora_B.weight", "alpha", "dora_scale"),
        "magnitude": ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector"),
        "kohya": ("lora_down.weight", "lora_up.weight", "alpha", "dora_scale"),
        "loha": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"),
        "lokr": ("lokr_w1", "lokr_w2_a", "lokr_w2_b", "alpha"),
        "lokr_low": ("lokr_w1_a", "lokr_w1_b", "lokr_w2", "alpha"),
    }
    taken: set[str] = set()
    for kind in every.values():
        state = {f"x.{word}": torch.ones(() if word == "alpha" else (2, 2)) for word in kind}
        loaded: set[str] = set()
        log = lora.logging.warning
        lora.logging.warning = lambda said, loaded=loaded: loaded.add(said.rsplit(" ", 1)[1])
        try:
            lora.load_lora(state, {"x": "x.weight"})
        finally:
            lora.logging.warning = log
        taken |= {key.removeprefix("x.") for key in state if key not in loaded}
    return sorted(taken)


def musubi(checkout: Path) -> dict[str, Any]:
    stub(*MEDIA, "easydict")
    sys.path.insert(0, str(checkout / "src"))
    # A default argument of a text encoder asks for a card while it is imported.
    torch.cuda.current_device = lambda: 0

    def part(name: str) -> Any:
        return importlib.import_module(f"musubi_tuner.{name}")

    flux_2, wan = part("flux_2.flux2_models"), part("wan.modules.model").WanModel
    qwen, z_image = part("qwen_image.qwen_image_model"), part("zimage.zimage_model")
    hunyuan, later = (
        part("hunyuan_model.models"),
        part("hunyuan_video_1_5.hunyuan_video_1_5_models"),
    )
    off = (False,) * 4
    names = ("dim", "ffn_dim", "num_heads", "num_layers", "in_dim", "out_dim")
    made: dict[str, tuple[str, Callable[[], Any]]] = {
        "hunyuan_video": ("lora", lambda: hunyuan.load_dit_model(4096, 768, 16, 16, {})),
        "hunyuan_video-1.5": (
            "lora_hv_1_5", lambda: later.HunyuanVideo_1_5_DiffusionTransformer("i2v")),
        "flux": ("lora_flux", lambda: kontext(part("flux.flux_models"))),
        "flux2-dev": ("lora_flux_2", lambda: flux_2.Flux2(flux_2.Flux2Params(), "torch")),
        "flux2-klein-4b": ("lora_flux_2", lambda: flux_2.Flux2(flux_2.Klein4BParams(), "torch")),
        "flux2-klein-9b": ("lora_flux_2", lambda: flux_2.Flux2(flux_2.Klein9BParams(), "torch")),
        "z_image": ("lora_zimage", lambda: z_image.create_model("torch", False, None)),
        "qwen_image": (
            "lora_qwen_image", lambda: qwen.create_model("torch", *off, None)),
        **{
            model: ("lora_wan", lambda config=COMFYUI[model][1]: wan(
                model_type=config["model_type"], **{name: config[name] for name in names}))
            for model in ("wan-1.3b", "wan-14b", "wan-14b-i2v")
        },
    }  # fmt: skip
    models = {}
    for name, (network, build) in made.items():
        with torch.device("meta"):
            model = build()
            found = part(f"networks.{network}").create_arch_network_from_weights(
                1.0, every_layer(model), unet=model
            )
        models[name] = compress(one.lora_name for one in found.unet_loras)
        print(name, len(found.unet_loras))
    return {"words": KOHYA, "models": models}


def kontext(module: Any) -> Any:
    """FLUX.1 as musubi builds it."""
    return module.Flux(module.configs_flux_dev_context.params, "torch", False)


def sd_scripts(checkout: Path) -> dict[str, Any]:
    _ = importlib.import_module("diffusers").UNet2DConditionModel  # before the stand-ins
    stub(*MEDIA)
    sys.path.insert(0, str(checkout))
    flux, sd3 = (importlib.import_module(f"library.{name}_models") for name in ("flux", "sd3"))
    old = importlib.import_module("library.original_unet")
    wide = importlib.import_module("library.sdxl_original_unet")

    def large(depth: int, dual: int) -> Any:
        params = sd3.SD3Params(
            2, depth, 36864, 384, 2048, "rms", list(range(dual)), 4096, 64 * depth, ""
        )
        return sd3.create_sd3_mmdit(params)

    made: dict[str, tuple[str, Callable[[], Any]]] = {
        "flux": ("lora_flux", lambda: flux.Flux(flux.configs["dev"].params)),
        "sd3-medium": ("lora_sd3", lambda: large(24, 0)),
        "sd3.5-medium": ("lora_sd3", lambda: large(24, 13)),
        "sd3.5-large": ("lora_sd3", lambda: large(38, 0)),
        "sd15": ("lora", lambda: old.UNet2DConditionModel(
            sample_size=64, attention_head_dim=8, cross_attention_dim=768)),
        "sdxl": ("lora", wide.SdxlUNet2DConditionModel),
    }  # fmt: skip
    models = {}
    for name, (network, build) in made.items():
        with torch.device("meta"):
            model = build()
            found, _ = importlib.import_module(f"networks.{network}").create_network_from_weights(
                1.0, None, None, [], model, weights_sd=every_layer(model)
            )
        models[name] = compress(one.lora_name for one in found.unet_loras)
        print(name, len(found.unet_loras))
    return {"words": KOHYA, "models": models}


KOHYA = ["lora_down.weight", "lora_up.weight", "alpha"]


def every_layer(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A file with a LoRA on every layer, from which a trainer makes those it knows."""
    kinds = ("Linear", "LoRACompatibleLinear", "Conv2d", "LoRACompatibleConv", "Conv3d")
    state = {}
    for name, module in model.named_modules():
        if type(module).__name__ in kinds:
            base = f"lora_unet_{name.replace('.', '_')}"
            state[f"{base}.lora_down.weight"] = torch.ones(1, 1, device="cpu")
            state[f"{base}.alpha"] = torch.tensor(1.0, device="cpu")
    return state


NAMES = {
    "comfyui": "ComfyUI",
    "musubi": "musubi-tuner",
    "sd-scripts": "sd-scripts",
}
CLIENTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "comfyui": comfyui,
    "musubi": musubi,
    "sd-scripts": sd_scripts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("client", choices=sorted(CLIENTS))
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--version", default="")
    asked = parser.parse_args()
    said = {
        "name": NAMES[asked.client],
        "repo": asked.repo,
        "commit": asked.commit,
        "version": asked.version,
    }
    said["recorded"] = datetime.now(UTC).date().isoformat()
    found = CLIENTS[asked.client](asked.checkout)
    text = json.dumps({**said, **found}, indent=0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{asked.client}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
