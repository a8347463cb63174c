"""Records at which noise levels other trainers train, for tests/importers/trainers/peer_draws.

    python scripts/record_peer_draws.py kohya=CHECKOUT musubi=CHECKOUT onetrainer=CHECKOUT ...

As record_peer_losses.py: checkouts as there, nothing of their text is kept. Of every row of CASES
200,000 draws (DRAWS of the environment; blissful's were 60,000) are made by the trainer's own
functions, and the quantiles of t at LEVELS are kept, to four places. `model` and `options` are
written as they stand in that trainer's configuration.
"""

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.peers.draws import DRAWS  # noqa: E402
from scripts.peers.text import Commit  # noqa: E402

TO = ROOT / "tests/importers/trainers/peer_draws"
LEVELS = torch.tensor([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95], dtype=torch.float64)
SQUARE, WIDE, SHORT = (1, 1024, 1024), (1, 832, 1216), (33, 480, 832)  # frames, pixels
Row = tuple[str, dict[str, Any], list[dict[str, Any]], tuple[int, int, int]]

SCHEMES: list[dict[str, Any]] = [
    {},
    {"weighting_scheme": "none"},
    {"weighting_scheme": "logit_normal"},
    {"weighting_scheme": "logit_normal", "logit_mean": 0.6, "logit_std": 0.7},
    {"weighting_scheme": "mode"},
    {"weighting_scheme": "mode", "mode_scale": 0.5},
    {"weighting_scheme": "cosmap"},
    {"weighting_scheme": "sigma_sqrt"},
]
CUTS: list[dict[str, Any]] = [
    {"min_timestep": 200},
    {"max_timestep": 700},
    {"min_timestep": 875, "max_timestep": 1000},
    {"min_timestep": 100, "max_timestep": 875},
]


def crossed(*several: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for part in parts for k, v in part.items()} for parts in product(*several)]


def ways(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [{"timestep_sampling": name, **more} for name in names]


SHIFTED = [{}, {"discrete_flow_shift": 1.0}, {"discrete_flow_shift": 5.0}]
SIGMOIDS = ways("sigmoid", sigmoid_scale=0.6) + ways("shift", sigmoid_scale=1.4)

KOHYA: list[Row] = [
    ("stable_diffusion", {"pretrained_model_name_or_path": "one/sd"}, [{}, *CUTS], SQUARE),
    (
        "flux",
        {"network_module": "networks.lora_flux"},
        [
            *crossed(SCHEMES, SHIFTED),
            *ways("uniform", "sigmoid", "shift", "flux_shift"),
            *ways("shift", discrete_flow_shift=3.1582),
            *SIGMOIDS,
            *CUTS,
        ],
        WIDE,
    ),
    (
        "sd3",
        {"network_module": "networks.lora_sd3"},
        [
            *crossed(SCHEMES, [{}, {"training_shift": 3.0}]),
            *crossed(SCHEMES[1:4], [{"training_shift": 3.0}], CUTS),
        ],
        SQUARE,
    ),
]

BY_SIZE = ways("flux_shift", "flux2_shift", "qwen_shift", "krea2_shift")
MUSUBI_ALL = [
    {},
    *crossed(SCHEMES[2:5], SHIFTED),
    *ways("uniform", "sigmoid", "shift", "logsnr"),
    *ways("shift", discrete_flow_shift=3.0),
    *ways("logsnr", logit_mean=1.0, logit_std=2.0),
    *SIGMOIDS,
    *BY_SIZE,
]
SHAPE = [{}, {"preserve_distribution_shape": True}]
MUSUBI_CUT = [
    *crossed(CUTS, SHAPE, ways("uniform") + ways("shift", discrete_flow_shift=5.0)),
    *crossed(CUTS, [{}, {"weighting_scheme": "logit_normal", "logit_mean": 0.5}]),
]
QINGLONG = ways("qinglong_flux", "qinglong_qwen", discrete_flow_shift=2.0) + ways(
    "qinglong_flux", logit_mean=-6.0, logit_std=2.0, sigmoid_scale=1.3
)
QINGLONG += crossed(QINGLONG[:1], CUTS[:1], SHAPE)
BLISSFUL = {"use_mask_loss": True}


def musubi(module: str, **more: Any) -> dict[str, Any]:
    return {"network_module": f"networks.{module}"} | more


MUSUBI: list[Row] = [
    ("wan", musubi("lora_wan", task="t2v-14B"), MUSUBI_ALL + MUSUBI_CUT, SHORT),
    (
        "wan",
        musubi("lora_wan", task="t2v-A14B"),
        crossed(CUTS[2:3], SHAPE, ways("sigmoid") + ways("shift", discrete_flow_shift=12.0)),
        SHORT,
    ),
    ("hunyuan_video", musubi("lora"), MUSUBI_ALL, SHORT),
    (
        "hunyuan_video",
        musubi("lora_hv_1_5", task="t2v"),
        ways("shift", discrete_flow_shift=2.0),
        SHORT,
    ),
    ("flux", musubi("lora_flux"), MUSUBI_ALL + QINGLONG, SQUARE),
    ("flux2", musubi("lora_flux_2", model_version="klein-base-4b"), BY_SIZE, WIDE),
    ("qwen_image", musubi("lora_qwen_image"), MUSUBI_ALL + QINGLONG, WIDE),
    ("qwen_image", musubi("lora_qwen_image", edit_plus=True), ways("qwen_shift"), WIDE),
    ("z_image", musubi("lora_zimage"), MUSUBI_ALL, SQUARE),
]
OLD = [
    row for row in MUSUBI_ALL if row.get("timestep_sampling") not in ("flux2_shift", "krea2_shift")
]
BLISSFULS: list[Row] = [
    ("wan", musubi("lora_wan", task="t2v-14B", **BLISSFUL), OLD + MUSUBI_CUT, SHORT),
    ("qwen_image", musubi("lora_qwen_image", **BLISSFUL), OLD + QINGLONG, WIDE),
]

PIPE_FLOW: list[dict[str, Any]] = [
    {},
    {"timestep_sample_method": "uniform"},
    {"timestep_sample_method": "logit_normal", "sigmoid_scale": 1.3},
    {"shift": 3},
    {"timestep_sample_method": "uniform", "shift": 5.0},
    {"flux_shift": True},
    {"shift": 3, "flux_shift": True},
    {"min_t": 0.5},
]
PIPE_CUT: list[dict[str, Any]] = [
    *crossed([{"min_t": 0.2}, {"max_t": 0.7}, {"min_t": 0.3, "max_t": 0.8}], PIPE_FLOW[:6])
]
EXPERTS = [("Wan2.2-T2V-A14B/high_noise_model", {"min_t": 0.875}),
           ("Wan2.2-T2V-A14B/low_noise_model", {"max_t": 0.875})]  # fmt: skip
PIPE: list[Row] = [
    ("wan", {"type": "wan", "ckpt_path": "Wan2.1-T2V-14B"}, PIPE_FLOW + PIPE_CUT, SHORT),
    *(
        ("wan", {"type": "wan", "transformer_path": path}, crossed([cut], PIPE_FLOW[:6]), SHORT)
        for path, cut in EXPERTS
    ),
    ("hunyuan_video", {"type": "hunyuan-video"}, PIPE_FLOW, SHORT),
    ("hunyuan_video", {"type": "hunyuan_video_15"}, PIPE_FLOW, SHORT),
    *(
        (each, {"type": each}, PIPE_FLOW, WIDE)
        for each in ("flux", "flux2", "qwen_image", "z_image")
    ),
    ("sd3", {"type": "sd3"}, PIPE_FLOW, SQUARE),
    ("stable_diffusion", {"type": "sdxl"}, [{}, {"shift": 3}, {"min_t": 0.5}], SQUARE),
]

ONE_CURVES: list[dict[str, Any]] = [
    {},
    {"timestep_distribution": "UNIFORM"},
    {"timestep_distribution": "LOGIT_NORMAL"},
    {"timestep_distribution": "LOGIT_NORMAL", "noising_weight": 0.5, "noising_bias": -0.7},
    {"timestep_distribution": "HEAVY_TAIL", "noising_weight": 1.2},
    {"timestep_distribution": "HEAVY_TAIL"},
    {"timestep_distribution": "BETA", "noising_weight": 0.6, "noising_bias": 1.0},
    {"timestep_distribution": "BETA", "noising_weight": 2.0, "noising_bias": 3.0},
    {"timestep_distribution": "COS_MAP"},
    {"timestep_distribution": "SIGMOID", "noising_weight": 6.0, "noising_bias": 0.1},
    {"timestep_distribution": "SIGMOID"},
    {"timestep_distribution": "INVERTED_PARABOLA", "noising_weight": 8.0, "noising_bias": 0.2},
    {"timestep_distribution": "INVERTED_PARABOLA", "noising_weight": 7.7},
]
ONE_RANGE = [
    {"min_noising_strength": 0.1, "max_noising_strength": 0.8},
    {"max_noising_strength": 0.6},
]
ONE_SHIFT: list[dict[str, Any]] = [{}, {"timestep_shift": 3.0}]
ONE: list[Row] = [
    ("stable_diffusion", {"model_type": "STABLE_DIFFUSION_XL_10_BASE"},
     crossed(ONE_CURVES, [{}, *ONE_RANGE]), SQUARE),
    ("flux", {"model_type": "FLUX_DEV_1"},
     crossed(ONE_CURVES, [*ONE_SHIFT, {"dynamic_timestep_shifting": True}])
     + crossed(ONE_CURVES, ONE_RANGE[:1], ONE_SHIFT), WIDE),
    *((family, {"model_type": kind}, crossed(ONE_CURVES[1:3], [*ONE_SHIFT,
       {"dynamic_timestep_shifting": True, "timestep_shift": 2.0}]), WIDE)
      for family, kind in (("flux2", "FLUX_2"), ("qwen_image", "QWEN"), ("z_image", "Z_IMAGE"),
                           ("sd3", "STABLE_DIFFUSION_35"))),
    ("hunyuan_video", {"model_type": "HUNYUAN_VIDEO"}, crossed(ONE_CURVES[:3], ONE_SHIFT), SHORT),
]  # fmt: skip

TUNER_FLOW: list[dict[str, Any]] = [
    {},
    {"flow_sigmoid_scale": 0.7},
    {"flow_use_uniform_schedule": True},
    {"flow_use_beta_schedule": True},
    {
        "flow_use_beta_schedule": True,
        "flow_beta_schedule_alpha": 4.0,
        "flow_beta_schedule_beta": 1.5,
    },
    {"flow_cubic_schedule_weights": "1,3,2,0.5"},
]
TUNER_SHIFT: list[dict[str, Any]] = [
    {},
    {"flow_schedule_shift": 1.5},
    {"flow_schedule_shift": 0},
    {"flow_schedule_shift": 0, "flow_schedule_auto_shift": True},
    {"flow_schedule_auto_shift": True},
]
TUNER_LISTS: list[dict[str, Any]] = [
    {"flux_fast_schedule": True},
    {"flow_custom_timesteps": "1000,800,300"},
    {"flow_custom_timesteps": "0.9"},
]
BIAS: list[dict[str, Any]] = [
    {},
    *crossed(
        [{"timestep_bias_multiplier": 4.0}],
        [
            {"timestep_bias_strategy": "later", "timestep_bias_portion": 0.3},
            {"timestep_bias_strategy": "earlier"},
            {"timestep_bias_strategy": "range"}
            | {"timestep_bias_begin": 200, "timestep_bias_end": 500},
            {"timestep_bias_strategy": "none"},
        ],
        [{"train_batch_size": 1}, {"train_batch_size": 4},
         {"train_batch_size": 4, "disable_segmented_timestep_sampling": True}],
    ),
]  # fmt: skip


def tuned(family: str, flavour: str = "") -> dict[str, Any]:
    model = {"model_family": family, "model_type": "lora"}
    return model | ({"model_flavour": flavour} if flavour else {})


TUNER: list[Row] = [
    ("flux", tuned("flux", "dev"), crossed(TUNER_FLOW, TUNER_SHIFT) + TUNER_LISTS, WIDE),
    ("flux2", tuned("flux2"), crossed(TUNER_FLOW[:1], TUNER_SHIFT), WIDE),
    ("qwen_image", tuned("qwen_image", "v1.0"), crossed(TUNER_FLOW[:3], TUNER_SHIFT), WIDE),
    ("z_image", tuned("z_image", "base"), crossed(TUNER_FLOW[:3], TUNER_SHIFT), SQUARE),
    ("sd3", tuned("sd3"), crossed(TUNER_FLOW[:3], TUNER_SHIFT), SQUARE),
    ("wan", tuned("wan", "t2v-480p-1.3b-2.1"), crossed(TUNER_FLOW[:3], TUNER_SHIFT), SHORT),
    ("hunyuan_video", tuned("hunyuanvideo"), crossed(TUNER_FLOW[:1], TUNER_SHIFT[:3]), SHORT),
    ("stable_diffusion", tuned("sdxl"), BIAS, SQUARE),
]

KIT: list[dict[str, Any]] = [
    {},
    *({"timestep_type": name} for name in (
        "sigmoid", "linear", "weighted", "shift", "flux_shift", "lumina2_shift", "one_step",
        "two_step", "four_step", "eight_step", "next_sample", "lognorm_blend")),
    {"linear_timesteps": True},
    {"linear_timesteps2": True},
    {"timestep_type": "next_sample", "next_sample_timesteps": 20},
]  # fmt: skip
KIT_MORE = [
    *crossed(
        [{"timestep_type": name} for name in ("sigmoid", "linear", "shift")],
        [
            {"content_or_style": "content"},
            {"content_or_style": "style"},
            {"min_denoising_steps": 100, "max_denoising_steps": 700},
            {"content_or_style": "style", "min_denoising_steps": 500},
        ],
    ),
]
KIT_ROWS: list[Row] = [
    ("flux", {"arch": "flux"}, KIT + KIT_MORE[:8], WIDE),
    ("flux", {"arch": "flux_kontext"}, KIT[:8], WIDE),
    ("flux2", {"arch": "flux2_klein_4b"}, KIT[:8], WIDE),
    ("qwen_image", {"arch": "qwen_image"}, KIT[:8], WIDE),
    ("qwen_image", {"arch": "qwen_image_edit"}, KIT[:8], SQUARE),
    ("z_image", {"arch": "zimage"}, KIT + KIT_MORE, SQUARE),
    ("sd3", {"arch": "sd3"}, KIT[:8], SQUARE),
    ("wan", {"arch": "wan21:14b"}, KIT + KIT_MORE, SHORT),
    ("wan", {"arch": "wan22_5b"}, KIT[:8], SHORT),
    *(("wan", {"arch": "wan22_14b", "stage": stage}, KIT[:6], SHORT) for stage in (0, 1)),
    ("stable_diffusion", {"arch": "sdxl"}, [{}, *KIT_MORE[4:7]], SQUARE),
]

CASES: dict[str, list[Row]] = {
    "kohya": KOHYA,
    "musubi": MUSUBI,
    "blissful": BLISSFULS,
    "diffusion_pipe": PIPE,
    "onetrainer": ONE,
    "simpletuner": TUNER,
    "ai_toolkit": KIT_ROWS,
}


def main() -> None:
    TO.mkdir(exist_ok=True)
    for given in sys.argv[1:]:
        name, checkout = given.split("=", 1)
        commit, lines = Commit(checkout), []
        for family, model, several, size in CASES[name]:
            for options in {json.dumps(each): each for each in several}.values():
                torch.manual_seed(0)
                t = DRAWS[name](commit, family, model | options, size)
                found = [round(q, 4) for q in torch.quantile(t.double(), LEVELS).tolist()]
                row = {"family": family, "model": model, "options": options, "size": size}
                row |= {"mean": round(t.double().mean().item(), 4), "quantiles": found}
                lines.append(json.dumps(row))
        head = json.dumps(commit.name)
        (TO / f"{name}.json").write_text(
            f'{{"commit": {head}, "rows": [\n' + ",\n".join(lines) + "\n]}\n"
        )
        print(f"{name}: {len(lines)} rows")


if __name__ == "__main__":
    main()
