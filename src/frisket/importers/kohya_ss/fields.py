"""Fields of the kohya_ss GUI: defaults, what opening a file makes of them, and their options."""

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from frisket.disk.untrusted import show
from frisket.importers.base import BadImport
from frisket.importers.files import Written

WHOLE = {  # fields that are made whole numbers when a file is opened, and what else they become
    **dict.fromkeys(("clip_skip", "epoch", "gradient_accumulation_steps", "keep_tokens"), 0),
    **dict.fromkeys(("lr_warmup", "max_data_loader_n_workers", "max_train_epochs", "seed"), 0),
    **dict.fromkeys(("save_every_n_epochs", "max_train_steps"), 0),
    "caption_dropout_every_n_epochs": 0,
    "lr_scheduler_num_cycles": 1,
    "max_token_length": 75,
}
FLOATS = {
    **dict.fromkeys(("adaptive_noise_scale", "noise_offset", "learning_rate"), 0.0),
    **dict.fromkeys(("text_encoder_lr", "unet_lr"), 0.0),
    "lr_scheduler_power": 1.0,
}
SAME = (  # options that are called as their field is
    *("async_upload", "bucket_no_upscale", "bucket_reso_steps", "cache_latents"),
    *("cache_latents_to_disk", "caption_dropout_every_n_epochs", "caption_dropout_rate"),
    *("caption_extension", "color_aug", "dataset_config", "debiased_estimation_loss"),
    *("dynamo_backend", "dim_from_weights", "enable_bucket", "flip_aug", "fp8_base", "full_bf16"),
    *("full_fp16", "gradient_accumulation_steps", "gradient_checkpointing", "highvram", "huber_c"),
    *("huber_scale", "huber_schedule", "huggingface_repo_id", "huggingface_token"),
    *("huggingface_repo_type", "huggingface_repo_visibility", "huggingface_path_in_repo"),
    *("ip_noise_gamma", "ip_noise_gamma_random_strength", "keep_tokens", "learning_rate"),
    *("logging_dir", "log_config", "log_tracker_name", "log_tracker_config", "loss_type"),
    *("lr_scheduler", "lr_scheduler_num_cycles", "lr_scheduler_power", "lr_scheduler_type"),
    *("masked_loss", "max_bucket_reso", "max_grad_norm", "max_timestep", "max_train_epochs"),
    *("mem_eff_attn", "metadata_author", "metadata_description", "metadata_license"),
    *("metadata_tags", "metadata_title", "min_bucket_reso", "min_snr_gamma", "min_timestep"),
    *("mixed_precision", "network_alpha", "network_dim", "network_dropout", "network_weights"),
    *("output_dir", "output_name", "persistent_data_loader_workers"),
    *("pretrained_model_name_or_path", "prior_loss_weight", "random_crop", "reg_data_dir"),
    *("resume", "resume_from_huggingface", "sample_every_n_epochs", "sample_every_n_steps"),
    *("sample_sampler", "save_every_n_epochs", "save_every_n_steps", "save_last_n_steps"),
    *("save_last_n_steps_state", "save_last_n_epochs", "save_last_n_epochs_state"),
    *("save_model_as", "save_precision", "save_state", "save_state_on_train_end"),
    *("save_state_to_huggingface", "scale_v_pred_loss_like_noise_pred", "scale_weight_norms"),
    *("seed", "shuffle_caption", "skip_cache_check"),
    *("train_batch_size", "train_data_dir", "train_inpainting", "training_comment", "unet_lr"),
    *("log_with", "v2", "v_parameterization", "v_pred_like_loss", "vae", "vae_batch_size"),
    *("wandb_api_key", "wandb_run_name", "weighted_captions", "max_data_loader_n_workers"),
)
RENAMED = {"max_resolution": "resolution", "optimizer": "optimizer_type"}
SPLIT = ("optimizer_args", "lr_scheduler_args")
OF_MODEL: Mapping[str, dict[str, str]] = {  # option by field, of the model whose switch is on
    "": {"clip_skip": "clip_skip", "max_token_length": "max_token_length"},
    "sdxl": {
        "clip_skip": "clip_skip",
        "max_token_length": "max_token_length",
        "sdxl_no_half_vae": "no_half_vae",
        "sdxl_cache_text_encoder_outputs": "cache_text_encoder_outputs",
    },
    "flux1_checkbox": {
        "clip_skip": "clip_skip",
        "flux1_cache_text_encoder_outputs": "cache_text_encoder_outputs",
        "flux1_cache_text_encoder_outputs_to_disk": "cache_text_encoder_outputs_to_disk",
        **{
            name: name
            for name in (
                *("fp8_base_unet", "clip_l", "t5xxl", "ae", "split_mode", "t5xxl_max_token_length"),
                *("guidance_scale", "mem_eff_save", "apply_t5_attn_mask", "discrete_flow_shift"),
                *("cpu_offload_checkpointing", "blocks_to_swap", "single_blocks_to_swap"),
                *("double_blocks_to_swap", "model_prediction_type", "timestep_sampling"),
            )
        },
    },
    "sd3_checkbox": {
        "clip_skip": "clip_skip",
        "max_token_length": "max_token_length",
        "sd3_cache_text_encoder_outputs": "cache_text_encoder_outputs",
        "sd3_cache_text_encoder_outputs_to_disk": "cache_text_encoder_outputs_to_disk",
        "sd3_fused_backward_pass": "fused_backward_pass",
        "sd3_clip_l": "clip_l",
        "sd3_clip_l_dropout_rate": "clip_l_dropout_rate",
        "sd3_disable_mmap_load_safetensors": "disable_mmap_load_safetensors",
        "sd3_enable_scaled_pos_embed": "enable_scaled_pos_embed",
        "sd3_t5_dropout_rate": "t5_dropout_rate",
        "sd3_t5xxl": "t5xxl",
        "sd3_text_encoder_batch_size": "text_encoder_batch_size",
        **{
            name: name
            for name in (
                *("clip_g", "clip_g_dropout_rate", "logit_mean", "logit_std", "mode_scale"),
                *("pos_emb_random_crop_rate", "save_clip", "save_t5xxl", "t5xxl_device"),
                *("t5xxl_dtype", "weighting_scheme", "blocks_to_swap"),
            )
        },
    },
    "hunyuan_image_checkbox": {
        "hunyuan_image_cache_text_encoder_outputs": "cache_text_encoder_outputs",
        "hunyuan_image_cache_text_encoder_outputs_to_disk": "cache_text_encoder_outputs_to_disk",
        "blocks_to_swap": "blocks_to_swap",
        **{
            f"hunyuan_{name}": name
            for name in (
                *("text_encoder", "byt5", "vae", "discrete_flow_shift", "model_prediction_type"),
                *("timestep_sampling", "sigmoid_scale", "attn_mode", "split_attn", "fp8_scaled"),
                *("fp8_vl", "text_encoder_cpu", "vae_chunk_size"),
            )
        },
    },
    "anima_checkbox": {
        "blocks_to_swap": "blocks_to_swap",
        **{
            f"anima_{name}": name
            for name in (
                *("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk", "qwen3"),
                *("vae", "llm_adapter_path", "t5_tokenizer_path", "discrete_flow_shift"),
                *("timestep_sampling", "sigmoid_scale", "qwen3_max_token_length"),
                *("t5_max_token_length", "attn_mode", "split_attn", "vae_chunk_size"),
                *("vae_disable_cache", "unsloth_offload_checkpointing", "qwen_image_vae_2d"),
                *("compile", "torch_compile"),
            )
        },
    },
    "lumina_checkbox": {
        "blocks_to_swap": "blocks_to_swap",
        **{
            f"lumina_{name}": name
            for name in (
                *("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk", "gemma2"),
                *("ae", "discrete_flow_shift", "model_prediction_type", "timestep_sampling"),
                *("sigmoid_scale", "gemma2_max_token_length", "system_prompt", "use_flash_attn"),
                "use_sage_attn",
            )
        },
    },
}


@cache
def read_defaults() -> Mapping[str, Any]:
    """The value of each field when the GUI starts, by name."""
    text = (resources.files("frisket.importers.kohya_ss") / "fields.json").read_text("utf-8")
    fields: Mapping[str, Any] = json.loads(text)["fields"]
    return fields


class Fields:
    """The GUI's fields once a file is opened: what it holds, and defaults for the rest."""

    def __init__(self, written: Written) -> None:
        self.written = written
        set_fields = {name: value for name, value in written.tree.items() if value is not None}
        self.values: dict[str, Any] = {
            **read_defaults(),
            **set_fields,
            **_update_old_fields(set_fields),
        }
        for name, other in WHOLE.items():
            self.values[name] = as_whole(self.values[name], other)
        for name, fraction in FLOATS.items():
            self.values[name] = as_float(self.values[name], fraction)

    def value(self, name: str) -> Any:
        """A field: text, a number or a switch; BadImport for a table or list."""
        value = self.values.get(name)
        if isinstance(value, dict | list):
            raise self.bad(name, "text, a number or true or false is needed")
        return value

    def on(self, name: str) -> bool:
        """Whether a switch is on."""
        return bool(self.value(name))

    def text(self, name: str) -> str:
        """A field as text."""
        value = self.value(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> float:
        """A field that is a number, empty for 0."""
        value = self.value(name)
        number = as_float(0 if value in ("", None, False) else value, math.nan)
        if not math.isfinite(number):
            raise self.bad(name, "a number is needed")
        return number

    def bad(self, name: str, message: str) -> BadImport:
        """The error for a field, to be raised."""
        value = show(self.values.get(name), 60)
        return BadImport(f"{self.written.where((name,))}: {name} = {value}: {message}")


def _update_old_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Today's fields of files from before them, and of presets that leave a choice to the page."""
    today: dict[str, Any] = {}
    if "pretrained_model_name_or_path" not in fields:
        today["pretrained_model_name_or_path"] = ""
    if "max_train_steps" not in fields:  # of before the field: epochs count
        today["max_train_steps"] = 0
    if "optimizer" not in fields:
        today["optimizer"] = "AdamW8bit" if fields.get("use_8bit_adam") else "AdamW"
    if fields.get("LoRA_type", "Standard") == "LoCon":
        today["LoRA_type"] = "LyCORIS/LoCon"
    if isinstance(fields.get("xformers"), bool):
        today["xformers"] = "xformers" if fields["xformers"] else "none"
    if fields.get("use_wandb") == "True":
        today["log_with"] = "wandb"
    if "lora_network_weights" in fields:
        today["network_weights"] = fields["lora_network_weights"]
    return today


def as_whole(value: Any, other: int) -> int:
    """A whole number, or another where it is none."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return other


def as_float(value: Any, other: float) -> float:
    """A number, or another where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return other
