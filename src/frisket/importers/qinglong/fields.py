"""Fields of the qinglong GUI by model, and the options of musubi-tuner that they become."""

from collections.abc import Mapping

# By the GUI's name of a model: its script before `_train_network.py`, its network, the paths it
# passes on, and fields that only it has.
MODELS: Mapping[str, tuple[str, str, tuple[str, ...], tuple[str, ...]]] = {
    "Wan2.1": (
        "wan",
        "networks.lora_wan",
        ("dit", "t5", "clip"),
        (
            *("timestep_boundary", "fp8_scaled", "fp8_t5", "vae_cache_cpu", "one_frame"),
            *("force_v2_1_time_embedding", "offload_inactive_dit", "dit_high_noise"),
        ),
    ),
    "HunyuanVideo": (
        "hv",
        "networks.lora",
        ("dit", "te1", "te2"),
        (
            *("text_encoder_dtype", "vae_chunk_size", "vae_spatial_tile_sample_min_size"),
            *("dit_dtype", "dit_in_channels", "fp8_llm", "vae_tiling"),
        ),
    ),
    "FramePack": (
        "fpack",
        "networks.lora_framepack",
        ("dit", "vae", "te1", "te2", "image_encoder"),
        (
            *("vae_chunk_size", "vae_spatial_tile_sample_min_size", "latent_window_size"),
            *("fp8_scaled", "fp8_llm", "vae_tiling", "bulk_decode", "f1_mode", "one_frame"),
        ),
    ),
    "FLUX Kontext": (
        "flux_kontext",
        "networks.lora_flux",
        ("dit", "vae", "te1", "te2"),
        ("fp8_scaled", "fp8_t5"),
    ),
    "FLUX.2": (
        "flux_2",
        "networks.lora_flux_2",
        ("dit", "vae", "text_encoder"),
        ("fp8_scaled", "fp8_text_encoder"),
    ),
    "Qwen Image": (
        "qwen_image",
        "networks.lora_qwen_image",
        ("dit", "vae", "text_encoder"),
        (
            *("num_layers", "fp8_scaled", "fp8_vl", "edit_mode", "edit_plus"),
            "remove_first_image_from_target",
        ),
    ),
    "Z-Image": (
        "zimage",
        "networks.lora_zimage",
        ("dit", "vae", "text_encoder"),
        ("fp8_scaled", "fp8_llm", "use_32bit_attention"),
    ),
    "HV 1.5": (
        "hv_1_5",
        "networks.lora_hv_1_5",
        ("dit", "vae", "text_encoder", "byt5"),
        ("vae_sample_size", "dit_dtype", "fp8_scaled", "fp8_vl", "vae_enable_patch_conv"),
    ),
}
PATHS = {  # option, and the fields that may hold it, the first that is set
    "dit": ("dit", ("dit_path",)),
    "vae": ("vae", ("vae_path",)),
    "text_encoder": ("text_encoder", ("text_encoder_path", "text_encoder_vl_path")),
    "te1": ("text_encoder1", ("te1_path",)),
    "te2": ("text_encoder2", ("te2_path",)),
    "t5": ("t5", ("t5_path",)),
    "clip": ("clip", ("clip_path",)),
    "image_encoder": ("image_encoder", ("image_encoder_path",)),
    "byt5": ("byt5", ("byt5_path",)),
}
VALUES = (  # fields of every model that hold a value
    *("output_name", "seed", "vae_dtype", "max_data_loader_n_workers", "max_grad_norm"),
    *("training_comment", "metadata_title", "metadata_author", "metadata_description"),
    *("metadata_license", "metadata_tags", "huggingface_repo_id", "huggingface_repo_type"),
    *("huggingface_path_in_repo", "huggingface_token", "huggingface_repo_visibility"),
    *("show_timesteps", "lr_scheduler_num_cycles", "lr_scheduler_min_lr_ratio", "task"),
)
OWN_VALUES = (  # those of one model that hold a value, all else of it is a switch
    *("text_encoder_dtype", "vae_chunk_size", "vae_spatial_tile_sample_min_size", "dit_dtype"),
    *("dit_in_channels", "vae_sample_size", "timestep_boundary", "latent_window_size"),
    *("num_layers", "dit_high_noise"),
)
SWITCHES = (
    *("split_attn", "fp8_base", "img_in_txt_in_offloading", "disable_numpy_memmap"),
    *("persistent_workers", "cuda_allow_tf32", "cuda_cudnn_benchmark", "async_upload"),
    *("save_state_to_huggingface", "resume_from_huggingface"),
)
COUNTS = (  # whole numbers above 0, else left out
    *("max_train_steps", "max_train_epochs", "gradient_accumulation_steps", "network_dim"),
    *("save_last_n_epochs", "save_last_n_steps"),
)
UNLESS: Mapping[str, float] = {  # numbers that are left out at this value
    "guidance_scale": 1.0,
    "min_timestep": 0.0,
    "max_timestep": 1000.0,
    "lr_warmup_steps": 0.0,
    "lr_decay_steps": 0.0,
    "lr_scheduler_power": 1.0,
    "lr_scheduler_timescale": 0.0,
    "network_alpha": 0.0,
    "scale_weight_norms": 0.0,
}
RENAMED = {
    "f1_mode": "f1",
    "edit_mode": "edit",
    "persistent_workers": "persistent_data_loader_workers",
    "resume_path": "resume",
}
ATTENTION = {
    **dict.fromkeys(("flash", "flash_attn", "flash2"), "flash_attn"),
    **dict.fromkeys(("sageattn", "sage_attn"), "sage_attn"),
    **dict.fromkeys(("sdpa", "torch"), "sdpa"),
    "flash3": "flash3",
    "xformers": "xformers",
}
WEIGHTINGS = ("logit_normal", "mode", "cosmap", "sigma_sqrt", "none")
VERSIONS = {"2509": "edit-2509", "2511": "edit-2511", "edit_plus": "edit-2509"}
# Optimizers by their short names: the class, and arguments that go with it.
OPTIMIZERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "adam": ("optimi.Adam", ("betas=.95,.98", "decouple_lr=True")),
    "adamw": ("optimi.AdamW", ("betas=.95,.98", "decouple_lr=True")),
    "adafactor": (
        "pytorch_optimizer.AdaFactor",
        ("scale_parameter=False", "warmup_init=False", "relative_step=False", "cautious=True"),
    ),
    "lion": ("pytorch_optimizer.Lion", ("cautious=True",)),
    "lion8bit": ("", ("weight_decay=0.01", "betas=.95,.98")),
    "pagedlion8bit": ("", ("weight_decay=0.01", "betas=.95,.98")),
    "ademamix": ("pytorch_optimizer.AdEMAMix", ("alpha=10", "cautious=True")),
    "ademamix8bit": ("", ("weight_decay=0.01",)),
    "pagedademamix8bit": ("", ("weight_decay=0.01",)),
    "sophia": ("pytorch_optimizer.SophiaH", ("weight_decay=0.01",)),
    "prodigy": (
        "pytorch_optimizer.Prodigy",
        ("weight_decay=0.01", "betas=.9,.99", "decouple=True", "use_bias_correction=True"),
    ),
    "ranger": ("optimi.", ("decouple_lr=True",)),
    "adan": ("optimi.", ("decouple_lr=True",)),
    "stableadamw": ("optimi.", ("decouple_lr=True",)),
    "tiger": ("pytorch_optimizer.Tiger", ("weight_decay=0.01",)),
    "adammini": ("", ("weight_decay=0.01",)),
    "adamg": ("", ("weight_decay=0.1", "weight_decouple=True")),
    "came": ("pytorch_optimizer.CAME", ("weight_decay=0.01",)),
    "soap": ("pytorch_optimizer.SOAP", ()),
    "sgdsai": ("pytorch_optimizer.SGDSaI", ()),
    "adopt": ("pytorch_optimizer.ADOPT", ("cautious=True",)),
    "fira": (
        "pytorch_optimizer.Fira",
        (
            "weight_decay=0.01",
            "rank={dim}",
            "update_proj_gap=50",
            "scale=1",
            "projection_type='std'",
        ),
    ),
    "lorarite": ("pytorch_optimizer.LoRARite", ()),
    "adamuon": (
        "pytorch_optimizer.AdaMuon",
        ("weight_decay=0.01", "adamw_lr=2e-4", "adamw_betas=.9,.95"),
    ),
    "adamw_adv": ("adv_optm.AdamW_adv", ("betas=.95,.98",)),
    "adopt_adv": ("adv_optm.Adopt_adv", ("grams_moment=True",)),
    "prodigy_adv": ("adv_optm.Prodigy_adv", ("grams_moment=True",)),
    "lion_adv": ("adv_optm.Lion_adv", ("cautious_mask=True",)),
    "lion_prodigy_adv": ("adv_optm.Lion_Prodigy_adv", ("grams_moment=True",)),
    "simplified_ademamix": ("adv_optm.SimplifiedAdEMAMix", ()),
    "bcos": ("pytorch_optimizer.BCOS", ("simple_cond=True",)),
    "ano": ("pytorch_optimizer.Ano", ()),
    "flashadamw": ("pytorch_optimizer.FlashAdamW", ()),
    "dualadam": ("pytorch_optimizer.DualAdam", ()),
    "rose": ("pytorch_optimizer.ROSE", ()),
    "emonavi": ("pytorch_optimizer.", ("weight_decay=0.01",)),
    "emofact": ("pytorch_optimizer.", ("weight_decay=0.01",)),
    "emolynx": ("pytorch_optimizer.", ("weight_decay=0.01",)),
    "emoneco": ("pytorch_optimizer.", ("weight_decay=0.01",)),
    "emozeal": ("pytorch_optimizer.EmoZeal", ("weight_decay=0.01", "shadow_weight=0.1")),
}
FREE = ("prodigy", "prodigy_adv", "lion_prodigy_adv")  # their rate is 1, whatever the field says
COMPILED = ("simplified_ademamix", "adamw_adv", "adopt_adv", "prodigy_adv", "lion_adv",
            "lion_prodigy_adv")  # fmt: skip
