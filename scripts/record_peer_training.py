"""Records what other trainers' own code makes of schedules, noise, norms and layers of a LoRA.

    python scripts/record_peer_training.py kohya=CHECKOUT onetrainer=CHECKOUT diffusion_pipe=...

As record_peer_losses.py: checkouts as there, nothing of their text is kept, only what it gives for
inputs that `tests/training/peer_inputs.py` makes anew. Read by test_schedules.py, test_norms.py,
test_optim_rates.py, test_noise.py and test_presets.py.
"""

import ast
import json
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from types import SimpleNamespace as Stub
from typing import Any

import diffusers
import torch
import transformers
from diffusers.optimization import TYPE_TO_SCHEDULER_FUNCTION as DIFFUSERS
from diffusers.optimization import SchedulerType as OfDiffusers
from torch import nn
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION as TRANSFORMERS
from transformers.trainer_utils import SchedulerType

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.peers.text import Commit  # noqa: E402
from tests.training.peer_inputs import (  # noqa: E402
    FACTORS,
    LIMITS,
    NOISES,
    UNETS,
    ScaledOnce,
    digest_of,
    factors,
    kahan_problem,
    latents_of,
    layers_of,
    losses_of,
    unet_of,
)

TO = ROOT / "tests/training/peers.json"
STEPS = 60
KOHYA: tuple[tuple[str, dict[str, Any]], ...] = (  # lr_scheduler, and its other options
    ("constant", {}),
    ("linear", {"lr_warmup_steps": 7}),
    ("cosine", {"lr_warmup_steps": 0.1}),
    ("cosine_with_restarts", {"lr_scheduler_num_cycles": 3}),
    ("cosine_with_restarts", {"lr_scheduler_num_cycles": 4, "lr_warmup_steps": 7}),
    ("polynomial", {"lr_scheduler_power": 2.0, "lr_warmup_steps": 5}),
    ("inverse_sqrt", {"lr_warmup_steps": 6}),
    ("inverse_sqrt", {}),
    ("cosine_with_min_lr", {"lr_scheduler_min_lr_ratio": 0.2, "lr_warmup_steps": 4}),
    ("cosine_with_min_lr", {"lr_scheduler_min_lr_ratio": 0.2, "lr_scheduler_num_cycles": 3}),
    ("warmup_stable_decay", {"lr_warmup_steps": 5, "lr_decay_steps": 0.25}),
    (
        "warmup_stable_decay",
        {"lr_decay_steps": 20, "lr_scheduler_min_lr_ratio": 0.1, "lr_warmup_steps": 0.1},
    ),
)
ONETRAINER = (
    ("linear", {"min_factor": 0.1}),
    ("cosine", {"min_factor": 0.1}),
    ("cosine_with_restarts", {"num_cycles": 1.5, "min_factor": 0.05}),
    ("cosine_with_hard_restarts", {"num_cycles": 2.0, "min_factor": 0.1}),
    ("rex", {"min_factor": 0.0}),
    ("rex", {"min_factor": 0.2}),
)
Rows = Iterator[dict[str, Any]]


def curve(schedule: Any) -> list[float]:
    """The multiplier of each step: the base rate is 1."""
    seen = []
    for _ in range(STEPS):
        seen.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return seen


def kohya(commit: Commit) -> Rows:
    file = "library/train_util.py"
    build = commit.function(
        file,
        "get_scheduler_fix",
        Optimizer=Any,
        Optional=typing.Optional,
        ast=ast,
        transformers=transformers,
        SchedulerType=SchedulerType,
        DiffusersSchedulerType=OfDiffusers,
        TYPE_TO_SCHEDULER_FUNCTION=TRANSFORMERS,
        DIFFUSERS_TYPE_TO_SCHEDULER_FUNCTION=DIFFUSERS,
        is_schedulefree_optimizer=lambda *_: False,
    )
    for name, options in KOHYA:
        given = {
            "lr_scheduler": name, "max_train_steps": STEPS, "lr_warmup_steps": 0,
            "lr_decay_steps": 0, "lr_scheduler_num_cycles": 1, "lr_scheduler_power": 1,
            "lr_scheduler_timescale": None, "lr_scheduler_min_lr_ratio": None,
            "lr_scheduler_args": None, "lr_scheduler_type": "",
        } | options  # fmt: skip
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        yield {"what": "schedule", "name": name, "options": options} | {
            "curve": curve(build(Stub(**given), optimizer, 1))
        }
    yield from _noises(commit)
    yield from _network(commit)


def _noises(commit: Commit) -> Rows:
    """Of the whole function that draws it, with torch in the place of Python's random numbers."""
    file = "library/custom_train_functions.py"
    drawn = Stub(random=lambda: float(torch.rand(1)))
    pyramid = commit.function(file, "pyramid_noise_like", random=drawn)
    offset = commit.function(file, "apply_noise_offset")
    whole = commit.function(
        "library/train_util.py",
        "get_noise_noisy_latents_and_timesteps",
        Tuple=tuple,
        custom_train_functions=Stub(pyramid_noise_like=pyramid, apply_noise_offset=offset),
        get_timesteps=lambda *_: torch.zeros(1, dtype=torch.long),
    )
    scheduler = diffusers.DDPMScheduler()
    for seed, (strength, by_chance, iterations, discount) in enumerate(NOISES):
        args = Stub(
            noise_offset=strength, noise_offset_random_strength=by_chance,
            adaptive_noise_scale=None, multires_noise_iterations=iterations,
            multires_noise_discount=discount, min_timestep=None, max_timestep=None,
            ip_noise_gamma=None,
        )  # fmt: skip
        torch.manual_seed(seed)
        noise = whole(args, scheduler, latents_of())[0]
        picked = noise.flatten()[:: max(1, noise.numel() // 24)][:24]
        yield {"what": "noise", "seed": seed, "values": picked.tolist()} | {
            "std": float(noise.std()),
            "means": noise.mean((2, 3)).flatten().tolist(),
        }


def _network(commit: Commit) -> Rows:
    library = ModuleType("library")
    utils, unet = ModuleType("library.utils"), ModuleType("library.sdxl_original_unet")
    utils.setup_logging = lambda *_, **__: None  # type: ignore[attr-defined]
    unet.SdxlUNet2DConditionModel = type("SdxlUNet2DConditionModel", (), {})  # type: ignore[attr-defined]
    sys.modules |= {"library": library, "library.utils": utils, "library.sdxl_original_unet": unet}
    network = commit.module("networks/lora.py", __name__="lora").LoRANetwork
    for limit in LIMITS:
        for number, shapes in enumerate(FACTORS):
            down, up, alpha = factors(number, shapes)
            bench = ScaledOnce(down, up, alpha)
            scaled, mean, most = network.apply_max_norm_regularization(bench, limit, "cpu")
            yield {"what": "norm", "limit": limit, "number": number, "scaled": scaled} | {
                "norm": mean,
                "most": most,
                "down": float(bench.down.norm()),
                "up": float(bench.up.norm()),
            }
    # Before any with a conv_dim: that one's layers are added to the class, for all after it.
    model = unet_of("sd15")
    made = network([], model, lora_dim=8)
    made.apply_to([], model, False, True)
    made.set_loraplus_lr_ratio(16.0, None, None)
    groups, _ = made.prepare_optimizer_params(None, 1e-4, 1e-4)
    listed = [(group["lr"], list(group["params"])) for group in groups]
    yield {"what": "groups", "ratio": 16.0, "lr": 1e-4} | {
        "groups": [[lr, len(each), sum(p.numel() for p in each)] for lr, each in listed]
    }
    for conv in (None, 4):
        for variant in UNETS:
            made = network([], unet_of(variant), lora_dim=8, conv_lora_dim=conv, conv_alpha=1)
            yield {"what": "layers", "variant": variant, "conv": conv} | {
                "count": len(made.unet_loras),
                "digest": digest_of(
                    f"{each.lora_name} {each.lora_dim}" for each in made.unet_loras
                ),
            }


def onetrainer(commit: Commit) -> Rows:
    made = commit.module("modules/util/lr_scheduler_util.py")
    for name, options in ONETRAINER:
        factor = getattr(made, f"lr_lambda_{name}")(STEPS, **options)
        yield {"what": "schedule", "name": name, "options": options} | {
            "curve": [factor(step) for step in range(STEPS)]
        }
    file = "modules/modelSetup/mixin/ModelSetupNoiseMixin.py"
    draw = commit.function(file, "_create_noise", TrainConfig=Any, Tensor=Any, Generator=Any)
    config = Stub(offset_noise_weight=0.1, generalized_offset_noise=False, train_device="cpu")
    config.perturbation_noise_weight = 0.0
    clip = torch.zeros(2, 4, 3, 6, 5)
    generator = torch.Generator().manual_seed(5)
    noise = draw(Stub(), clip, config, generator)
    yield {"what": "noise", "seed": 5, "values": noise.flatten()[::15][:24].tolist()} | {
        "means": noise.mean((3, 4)).flatten().tolist(),
        "std": float(noise.std()),
    }
    yield from _filters(commit)


def _filters(commit: Commit) -> Rows:
    """Which of a family's layers each preset takes, by its own tables and its own filter."""
    text = commit.text("modules/util/ModuleFilter.py").replace(
        "from modules.util.config.TrainConfig import TrainConfig", "TrainConfig = object"
    )
    names: dict[str, Any] = {}
    exec(compile(text, "peer", "exec"), names)
    for family, file in (
        ("stable_diffusion", "BaseStableDiffusionXLSetup"), ("flux", "BaseFluxSetup"),
        ("flux2", "BaseFlux2Setup"), ("sd3", "BaseStableDiffusion3Setup"),
        ("qwen_image", "BaseQwenSetup"), ("z_image", "BaseZImageSetup"),
        ("hunyuan_video", "BaseHunyuanVideoSetup"),
    ):  # fmt: skip
        tree = ast.parse(commit.text(f"modules/modelSetup/{file}.py"))
        table = next(
            ast.literal_eval(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and getattr(node.targets[0], "id", "") == "LAYER_PRESETS"
        )
        layers = layers_of(family)
        for name, chosen in table.items():
            regex = isinstance(chosen, dict)
            patterns = chosen["patterns"] if regex else chosen or [""]
            filters = [names["ModuleFilter"](each, use_regex=regex) for each in patterns]
            hit = [layer for layer in layers if any(one.matches(layer) for one in filters)]
            yield {"what": "preset", "family": family, "name": name, "count": len(hit)} | {
                "digest": digest_of(hit)
            }


def diffusion_pipe(commit: Commit) -> Rows:
    """Its AdamW8bitKahan, with states of 32 bits: what its weight decay reaches."""
    kahan = commit.module("optimizers/adamw_8bit.py", __name__="adamw_8bit").AdamW8bitKahan

    class Kahan(kahan):  # type: ignore[misc, valid-type]
        def get_config(self, *where: Any) -> Any:  # entries that bitsandbytes no longer has
            return {"percentile_clipping": 100, "block_wise": True} | super().get_config(*where)

    for decay in (0.01, 1.0):
        parameters, loss = kahan_problem()
        options = {"weight_decay": decay, "betas": (0.9, 0.99), "min_8bit_size": 1 << 30}
        losses = losses_of(Kahan(list(parameters.values()), lr=1e-2, **options), loss)
        yield {"what": "kahan", "decay": decay, "losses": losses}


PEERS: dict[str, Callable[[Commit], Rows]] = {
    each.__name__: each for each in (kohya, onetrainer, diffusion_pipe)
}

if __name__ == "__main__":
    rows = []
    for given in sys.argv[1:]:
        name, checkout = given.split("=", 1)
        commit = Commit(checkout)
        head = {"trainer": name, "commit": commit.name}
        rows += [head | row for row in PEERS[name](commit)]
    versions = {"diffusers": diffusers.__version__, "transformers": transformers.__version__}
    lines = ",\n".join(json.dumps(row) for row in rows)
    TO.write_text(f'{{"with": {json.dumps(versions)}, "rows": [\n{lines}\n]}}\n')
    print(f"{len(rows)} rows")
