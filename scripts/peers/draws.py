# ruff: noqa: D102
"""How other trainers draw noise levels: their own text, run with what it needs around it."""

import ast
import json
import math
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace as Stub
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from scripts.peers.text import Commit, run
from torch import Tensor

COUNT = int(os.environ.get("DRAWS", "200000"))
Draw = Callable[..., Tensor]  # (commit, family, options, size in pixels f h w) -> t


class Latents:
    """The shape of latents, and nothing that takes room."""

    def __init__(self, *shape: int) -> None:
        self.shape, self.ndim, self.device = torch.Size(shape), len(shape), torch.device("cpu")

    def __mul__(self, other: Any) -> "Latents":
        return self

    __rmul__ = __add__ = __radd__ = __mul__

    def to(self, *_: Any) -> "Latents":
        return self


def sized(family: str, size: tuple[int, int, int], count: int = COUNT, kind: str = "") -> Latents:
    frames, height, width = size
    cell = 16 if family == "flux2" or kind == "hunyuan_video_15" else 8
    if family in ("wan", "hunyuan_video"):
        return Latents(count, 16, (frames - 1) // 4 + 1, height // cell, width // cell)
    return Latents(count, 16, height // cell, width // cell)


def args_of(options: dict[str, Any], **defaults: Any) -> Stub:
    return Stub(**defaults | options)


SD3 = {"weighting_scheme": "none", "logit_mean": 0.0, "logit_std": 1.0, "mode_scale": 1.29}
RANGE = {"min_timestep": None, "max_timestep": None}


def kohya(commit: Commit, family: str, options: dict[str, Any], size: Any) -> Tensor:
    latents = sized(family, size)
    if family == "stable_diffusion":
        args = args_of(
            options, ip_noise_gamma=0, noise_offset=0, multires_noise_iterations=0, **RANGE
        )
        file = "library/train_util.py"
        draw = commit.function(file, "get_timesteps")
        noisy = commit.function(file, "get_noise_noisy_latents_and_timesteps", get_timesteps=draw)
        small = torch.empty(COUNT, 1)
        scheduler = Stub(config=Stub(num_train_timesteps=1000), alphas_cumprod=torch.ones(1))
        scheduler.add_noise = lambda latents, *_: latents
        return (noisy(args, scheduler, small)[2] + 1) / 1000
    file = f"library/{'sd3' if family == 'sd3' else 'flux'}_train_utils.py"
    given: dict[str, Any] = {"Callable": Any, "Tuple": tuple}
    density = commit.function(file, "compute_density_for_timestep_sampling")
    given["compute_density_for_timestep_sampling"] = density
    if family == "sd3":
        args = args_of(options, training_shift=1.0, **SD3, **RANGE)
        draw = commit.function(file, "get_noisy_model_input_and_timesteps", **given)
        return draw(args, latents, latents, "cpu", torch.float32)[2].flatten()
    given["get_lin_function"] = commit.function(file, "get_lin_function", Callable=Callable)
    given |= {name: commit.function(file, name) for name in ("time_shift", "get_sigmas")}
    sampling = {"timestep_sampling": "sigma", "sigmoid_scale": 1.0, "discrete_flow_shift": 3.0}
    args = args_of(options, ip_noise_gamma=None, **sampling, **SD3, **RANGE)
    draw = commit.function(file, "get_noisy_model_input_and_timesteps", **given)
    scheduler = schedulers(commit, "library/sd3_train_utils.py").FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000, shift=args.discrete_flow_shift
    )
    return draw(args, scheduler, latents, latents, "cpu", torch.float32)[2].flatten()


@cache
def schedulers(commit: Commit, file: str) -> Stub:
    """The classes of a file that are schedulers, alone: the rest imports what is not here."""
    text = commit.text(file)
    nodes = [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and "Scheduler" in node.name
    ]
    names: dict[str, Any] = {"torch": torch, "np": np, "math": math, "dataclass": dataclass}
    names |= {
        "SchedulerMixin": SchedulerMixin,
        "ConfigMixin": ConfigMixin,
        "BaseOutput": BaseOutput,
    }
    names |= {"register_to_config": register_to_config}
    names |= {"FlowMatchEulerDiscreteScheduler": FlowMatchEulerDiscreteScheduler}
    weighing = "toolkit/timestep_weighing/default_weighing_scheme.py"
    if "default_weighing_scheme" in text:
        names |= {"default_weighing_scheme": commit.module(weighing).default_weighing_scheme}
        names |= {"LogNormal": torch.distributions.LogNormal}
        names["calculate_shift"] = commit.function(file, "calculate_shift")
    lines = text.splitlines()
    for node in nodes:
        start = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
        run("\n".join(lines[start : node.end_lineno]), names)
    return Stub(**names)


def musubi(commit: Commit, family: str, options: dict[str, Any], size: Any) -> Tensor:
    latents = sized(family, size)
    new = "src/musubi_tuner/training/trainer_base.py"
    old = "src/musubi_tuner/hv_train_network.py"
    is_new = commit.has(new)
    file = new if is_new else old
    helpers = "src/musubi_tuner/training/timesteps.py" if is_new else old
    names = ("compute_density_for_timestep_sampling", "get_sigmas")
    given: dict[str, Any] = {name: commit.function(helpers, name) for name in names}
    line = commit.function(
        "src/musubi_tuner/utils/train_utils.py", "get_lin_function", Callable=Callable
    )
    given |= {
        "train_utils": Stub(get_lin_function=line),
        "random": random,
        "argparse": Stub(Namespace=Any),
    }
    draw = commit.function(file, "get_noisy_model_input_and_timesteps", **given)
    sampling = {"timestep_sampling": "sigma", "sigmoid_scale": 1.0, "discrete_flow_shift": 1.0}
    args = args_of(options, preserve_distribution_shape=False, **sampling, **SD3, **RANGE)
    schedule = schedulers(commit, "src/musubi_tuner/modules/scheduling_flow_match_discrete.py")
    scheduler = schedule.FlowMatchDiscreteScheduler(
        shift=args.discrete_flow_shift, reverse=True, solver="euler"
    )
    me = Stub(num_timestep_buckets=None)
    timesteps = draw(
        me, args, latents, latents, None, scheduler, torch.device("cpu"), torch.float32
    )[1]
    return (timesteps.float() - int(args.timestep_sampling != "sigma")) / 1000


blissful = musubi


def diffusion_pipe(commit: Commit, family: str, options: dict[str, Any], size: Any) -> Tensor:
    latents = sized(family, size, kind=options["type"])
    me = Stub(model_config=options)
    given: dict[str, Any] = {"self": me, "bs": COUNT, "timestep_quantile": None, "torch": torch}
    given |= {"latents": latents, "device": "cpu", "h": latents.shape[-2], "w": latents.shape[-1]}
    for name in ("get_lin_function", "time_shift"):
        given[name] = commit.function("models/flux.py", name)
    if family == "stable_diffusion":
        me.scheduler = Stub(config=Stub(num_train_timesteps=1000))
        run(commit.part("models/sdxl.py", "min_timestep = 0", "noisy_latents ="), given)
        return (given["timesteps"] + 1) / 1000
    if family == "wan":
        names = ("get_t_distribution", "slice_t_distribution", "sample_t")
        given |= {name: commit.function("utils/common.py", name) for name in names}
        me.t_dist = given["get_t_distribution"](options)
        run(commit.part("models/wan/wan.py", "t = self.t_dist", "x_1 = latents"), given)
        return given["t"]
    file = "hunyuan_video_15" if options.get("type") == "hunyuan_video_15" else family
    ends = ("x_1 = latents", "noise = torch.randn")
    text = commit.text(f"models/{file}.py")
    end = next(each for each in ends if each in text)
    start = "timestep_sample_method = self.model_config"
    run(commit.part(f"models/{file}.py", start, end), given)
    return given["t"]


def onetrainer(commit: Commit, family: str, options: dict[str, Any], size: Any) -> Tensor:
    kinds = commit.module("modules/util/enum/TimestepDistribution.py").TimestepDistribution
    names = {"TimestepDistribution": kinds, "TrainConfig": Any, "Generator": torch.Generator}
    file = "modules/modelSetup/mixin/ModelSetupNoiseMixin.py"
    draw = commit.function(file, "_get_timestep_discrete", Tensor=Tensor, **names)
    defaults = {"min_noising_strength": 0.0, "max_noising_strength": 1.0, "timestep_shift": 1.0}
    defaults |= {"noising_weight": 0.0, "noising_bias": 0.0, "dynamic_timestep_shifting": False}
    config = args_of(options, timestep_distribution="UNIFORM", **defaults)
    config.timestep_distribution = kinds(config.timestep_distribution)
    models = {"flux": "Flux", "flux2": "Flux2", "qwen_image": "Qwen", "z_image": "ZImage"}
    shift = None
    if family in models:  # the others hand no shift over
        law = commit.function(f"modules/model/{models[family]}Model.py", "calculate_timestep_shift")
        high, many = (0.9, 8192) if family == "qwen_image" else (1.15, 4096)
        counts = {"base_image_seq_len": 256, "max_image_seq_len": many}
        numbers = counts | {"base_shift": 0.5, "max_shift": high, "patch_size": 2}
        me = Stub(noise_scheduler=Stub(config=Stub(**numbers)))
        shift = law(me, size[1] // 8, size[2] // 8)
        shift = shift if config.dynamic_timestep_shifting else config.timestep_shift
    me = Stub(**{"__weights": None})
    found = draw(me, 1000, False, torch.default_generator, COUNT, config, shift)
    return (found.clamp(0, 999) + 1) / 1000


def simpletuner(commit: Commit, family: str, options: dict[str, Any], size: Any) -> Tensor:
    latents = sized(family, size)
    plan = "simpletuner/helpers/training/custom_schedule.py"
    if family == "stable_diffusion":
        defaults: dict[str, Any] = {"timestep_bias_strategy": "none", "timestep_bias_portion": 0.25}
        defaults |= {"timestep_bias_begin": 0, "timestep_bias_end": 1000}
        defaults |= {"timestep_bias_multiplier": 1.0, "refiner_training": False}
        config = args_of(options, disable_segmented_timestep_sampling=False, **defaults)
        weigh, part = (
            commit.function(plan, name)
            for name in ("generate_timestep_weights", "segmented_timestep_selection")
        )
        batch = options.get("train_batch_size", 4)
        if batch > 1 and not config.disable_segmented_timestep_sampling:
            rows = [
                part(
                    actual_num_timesteps=1000, bsz=batch, weights=weigh(config, 1000), config=config
                )
                for _ in range(40_000 // batch)
            ]
            return (torch.cat(rows) + 1) / 1000
        return (torch.multinomial(weigh(config, 1000), COUNT, replacement=True) + 1) / 1000
    file = "simpletuner/helpers/models/common.py"
    module = commit.module("simpletuner/helpers/training/timestep_distribution.py")
    move = commit.function(plan, "apply_flow_schedule_shift", calculate_shift_flux=calculate_shift)
    given = {"apply_flow_schedule_shift": move, "random": random, "Beta": torch.distributions.Beta}
    draw = commit.function(file, "sample_flow_sigmas", **given)
    parse = commit.function(
        file, "_normalize_flow_custom_timesteps", json=json, np=np, Optional=Any
    )
    schedule: dict[str, Any] = {"flow_schedule_shift": 3.0, "flow_schedule_auto_shift": False}
    schedule |= {"flow_sigmoid_scale": 1.0, "flow_beta_schedule_alpha": 2.0}
    schedule |= {"flow_beta_schedule_beta": 2.0, "flow_use_beta_schedule": False}
    schedule |= {"flow_use_uniform_schedule": False, "flux_fast_schedule": False}
    config = args_of(options, **schedule)
    if "2.2-" in options.get("model_flavour", "") and "i2v" in options["model_flavour"]:
        config.flow_schedule_shift = 5.0  # WAN_STAGE_OVERRIDES of models/wan/model.py
    high, many = (0.9, 8192) if family == "qwen_image" else (1.15, 4096)
    numbers = {"base_shift": 0.5, "max_shift": high, "base_image_seq_len": 256}
    me = Stub(config=config, accelerator=Stub(device=torch.device("cpu")))
    me.noise_schedule = Stub(config=Stub(**numbers, max_image_seq_len=many))
    me._normalize_flow_custom_timesteps = lambda value: parse(me, value)
    weights = module.parse_cubic_spline_weights(
        getattr(config, "flow_cubic_schedule_weights", None)
    )
    me._flow_cubic_schedule_weights = lambda: weights
    me._sample_flow_cubic_values = lambda count, _: module.CubicSplineDistribution(weights).sample(
        (count,)
    )
    me._get_dataset_timestep_sampling_offset = lambda _: 0.0
    return draw(me, {"latents": latents, "noise": latents}, {})[0]


TOOLKIT = {  # the training scheduler of each architecture, from its own file
    "wan21": "toolkit/models/wan21/wan21.py",
    "wan22_14b": "extensions_built_in/diffusion_models/wan22/wan22_5b_model.py",
    "wan22_14b_i2v": "extensions_built_in/diffusion_models/wan22/wan22_5b_model.py",
    "wan22_5b": "extensions_built_in/diffusion_models/wan22/wan22_5b_model.py",
    "qwen_image": "extensions_built_in/diffusion_models/qwen_image/qwen_image.py",
    "qwen_image_edit": "extensions_built_in/diffusion_models/qwen_image/qwen_image.py",
    "zimage": "extensions_built_in/diffusion_models/z_image/z_image.py",
    "flux2": "extensions_built_in/diffusion_models/flux2/flux2_model.py",
    "flux2_klein_4b": "extensions_built_in/diffusion_models/flux2/flux2_model.py",
    "flux_kontext": "extensions_built_in/diffusion_models/flux_kontext/flux_kontext.py",
}
PATCHES = {"qwen_image": 2, "qwen_image_edit": 2, "flux_kontext": 1}  # of the transformers' configs


def ai_toolkit(commit: Commit, family: str, options: dict[str, Any], size: Any) -> Tensor:
    options = dict(options)
    arch = options.pop("arch").split(":")[0]
    stage = options.pop("stage", None)
    flow = "toolkit/samplers/custom_flowmatch_sampler.py"
    if family == "stable_diffusion":
        betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        scheduler: Any = DDPMScheduler(**betas, timestep_spacing="leading")
    else:
        file = TOOLKIT.get(arch, "toolkit/sampler.py")
        name = {"flux": "flux_config", "sd3": "sd_flow_config"}.get(arch, "scheduler_config")
        numbers = _literal(commit.text(file), name)
        made = schedulers(commit, flow).CustomFlowMatchEulerDiscreteScheduler
        # Some models make it themselves; get_sampler makes the others' by from_config.
        scheduler = made(**numbers) if arch in TOOLKIT else made.from_config(numbers)
    given = {"noise_scheduler": "ddpm" if family == "stable_diffusion" else "flowmatch"}
    given |= {"min_denoising_steps": 0, "max_denoising_steps": 999, "num_train_timesteps": 1000}
    given |= {"content_or_style": "balanced", "timestep_type": "sigmoid"}
    given |= {"linear_timesteps": False, "linear_timesteps2": False, "next_sample_timesteps": 8}
    config = args_of(options, loss_target="noise", train_unet=True, **given)
    unet = Stub(config=Stub(patch_size=PATCHES[arch])) if arch in PATCHES else Stub()
    sd = Stub(noise_scheduler=scheduler, is_flux=arch == "flux", arch=arch, unet=unet)
    sd.is_multistage, sd.multistage_boundaries = stage is not None, [0.875, 0.0]
    batch, loops = 1000, COUNT // 1000

    class Timer:
        def __init__(self, *_: Any) -> None: ...
        def __enter__(self) -> None: ...
        def __exit__(self, *_: Any) -> None: ...

    me = Stub(train_config=config, sd=sd, device_torch="cpu", timer=Timer)
    me.model_config, me.current_boundary_index = Stub(refiner_name_or_path=None), stage or 0
    text = commit.part(
        "jobs/process/BaseSDTrainProcess.py",
        "with self.timer('prepare_scheduler')",
        "with self.timer('prepare_noise')",
    )
    code = compile(text, "peer", "exec")
    mapped = commit.function("toolkit/basic.py", "value_map")
    latents = sized(family, size, batch)
    rows = []
    for _ in range(loops):
        names = {"self": me, "batch": Stub(file_items=[0] * batch), "latents": latents}
        names |= {"is_reg": False, "value_map": mapped, "random": random, "torch": torch}
        exec(code, names)
        rows.append(names["timesteps"].float())
    t = torch.cat(rows)
    return (t + 1) / 1000 if family == "stable_diffusion" else t / 1000


def _literal(text: str, name: str) -> Any:
    """The table that a file binds to a name."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in node.targets
        ):
            return ast.literal_eval(node.value)
    raise KeyError(name)


DRAWS: dict[str, Draw] = {
    each: globals()[each]
    for each in (
        *("kohya", "musubi", "blissful", "onetrainer", "simpletuner", "ai_toolkit"),
        "diffusion_pipe",
    )
}
