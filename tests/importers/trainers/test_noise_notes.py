"""What is told of noise levels at import: what nothing reads, and what has no equal here."""

from pathlib import Path
from typing import Any

import pytest
from tests.importers.trainers.noise_jobs import write_job

from frisket.importers.base import IMPORT_FORMATS, Imported

WAN22 = {"network_module": "networks.lora_wan", "task": "t2v-A14B"}
IMAGE22 = {"model_family": "wan", "model_type": "lora", "model_flavour": "i2v-14b-2.2-high"}
PIPE22 = {"type": "wan", "transformer_path": "Wan2.2-T2V-A14B/high_noise_model"}
FLUX = {"network_module": "networks.lora_flux"}


@pytest.fixture
def read(drawn: Any, tmp_path: Path) -> Any:
    """Imports the job of a trainer with a model and some options."""
    drawn("pictures", "a.png", caption="a cat")
    drawn("train/1_cat", "a.png", caption="a cat")

    def imported(trainer: str, model: dict[str, Any], options: dict[str, Any]) -> Imported:
        return IMPORT_FORMATS.load(trainer).read(write_job(trainer, tmp_path, model, options))

    return imported


def notes_of(imported: Imported, option: str) -> list[tuple[str, str]]:
    """Kind and sentence of what is said of an option."""
    return [
        (note.kind, note.message)
        for note in imported.notes
        if note.option.rpartition(".")[2] == option or note.option == option
    ]


@pytest.mark.parametrize(
    ("trainer", "model", "options", "unread"),
    [
        ("kohya", FLUX, {"min_timestep": 200}, "min_timestep"),
        ("kohya", FLUX, {"min_snr_gamma": 5}, "min_snr_gamma"),
        ("kohya", FLUX, {"timestep_sampling": "shift", "logit_mean": 1.0}, "logit_mean"),
        ("kohya", FLUX, {"timestep_sampling": "sigmoid", "discrete_flow_shift": 2.0},
         "discrete_flow_shift"),
        ("kohya", {"network_module": "networks.lora_sd3"}, {"timestep_sampling": "shift"},
         "timestep_sampling"),
        ("kohya", {"pretrained_model_name_or_path": "a/sd"}, {"discrete_flow_shift": 2.0},
         "discrete_flow_shift"),
        ("musubi", WAN22, {"discrete_flow_shift": 5.0}, "discrete_flow_shift"),
        ("musubi", WAN22, {"preserve_distribution_shape": True}, "preserve_distribution_shape"),
        ("onetrainer", {"model_type": "STABLE_DIFFUSION_35"}, {"dynamic_timestep_shifting": True},
         "dynamic_timestep_shifting"),
        ("onetrainer", {"model_type": "FLUX_DEV_1"}, {"noising_weight": 0.5}, "noising_weight"),
        ("simpletuner", {"model_family": "flux", "model_type": "lora"}, {"snr_gamma": 5},
         "snr_gamma"),
        ("simpletuner", {"model_family": "flux", "model_type": "lora"},
         {"timestep_bias_strategy": "later"}, "timestep_bias_strategy"),
        ("ai_toolkit", {"arch": "flux"}, {"min_snr_gamma": 5}, "min_snr_gamma"),
        ("ai_toolkit", {"arch": "flux"}, {"timestep_type": "one_step", "content_or_style": "style"},
         "content_or_style"),
        ("diffusion_pipe", {"type": "flux"}, {"min_t": 0.5}, "min_t"),
        ("diffusion_pipe", {"type": "sdxl"}, {"shift": 3}, "shift"),
        ("diffusion_pipe", {"type": "hunyuan-video"}, {"flux_shift": True}, "flux_shift"),
    ],
)  # fmt: skip
def test_an_option_that_its_sampler_does_not_read_changes_nothing_and_is_told(
    trainer: str, model: dict[str, Any], options: dict[str, Any], unread: str, read: Any
) -> None:
    without = {name: value for name, value in options.items() if name != unread}
    bare = read(trainer, model, without)
    full = read(trainer, model, options)
    assert full.sections.get("timesteps") == bare.sections.get("timesteps")
    assert [kind for kind, _ in notes_of(full, unread)] == ["not needed"]


@pytest.mark.parametrize(
    ("trainer", "model", "options", "option", "said"),
    [
        ("musubi", WAN22, {"timestep_sampling": "shift", "min_timestep": 500}, "min_timestep",
         "here it is trained from 0 to 0.875"),
        ("musubi", WAN22 | {"dit_high_noise": "high.safetensors"}, {"timestep_boundary": 900},
         "timestep_boundary", "the experts part at 0.875"),
        ("diffusion_pipe", PIPE22, {"min_t": 0.5}, "min_t", "here it is trained from 0.875 to 1"),
        ("simpletuner", IMAGE22, {}, "model_flavour", "here it is trained from 0.9 to 1"),
        ("simpletuner", IMAGE22, {"flow_schedule_shift": 2}, "flow_schedule_shift", "sets it to 5"),
        ("ai_toolkit", {"arch": "wan22_14b_i2v"}, {}, "switch_boundary_every", "part at 0.875"),
        ("ai_toolkit", {"arch": "flux"}, {"timestep_type": "shift", "min_denoising_steps": 200},
         "min_denoising_steps", "follow the size"),
        ("ai_toolkit", {"arch": "flux"}, {"timestep_type": "lognorm_blend"}, "timestep_type",
         "no such density"),
        ("ai_toolkit", {"arch": "sdxl"}, {"noise_scheduler": "ddpm", "snr_gamma": 5}, "snr_gamma",
         "without a ceiling"),
        ("onetrainer", {"model_type": "STABLE_DIFFUSION_XL_10_BASE"}, {"loss_weight_fn": "P2"},
         "loss_weight_fn", "no weight is taken"),
    ],
)  # fmt: skip
def test_what_cannot_be_the_same_is_told_by_name(
    trainer: str, model: dict[str, Any], options: dict[str, Any], option: str, said: str, read: Any
) -> None:
    told = notes_of(read(trainer, model, options), option)
    assert any(said in sentence for _, sentence in told), told


@pytest.mark.parametrize(
    ("trainer", "model", "options", "timesteps"),
    [
        ("ai_toolkit", {"arch": "wan22_14b"}, {}, {"experts": "even"}),
        ("ai_toolkit", {"arch": "flux"}, {"timestep_type": "weighted"}, {"weighting": "flex"}),
        ("ai_toolkit", {"arch": "flux"}, {"linear_timesteps2": True}, {"weighting": "half_bell"}),
        ("kohya", {"pretrained_model_name_or_path": "a/sd"}, {"debiased_estimation_loss": True},
         {"weighting": "debiased"}),
        ("kohya", FLUX, {"weighting_scheme": "cosmap"}, {"weighting": "cosmap"}),
        ("onetrainer", {"model_type": "FLUX_DEV_1"}, {"loss_weight_fn": "SIGMA"},
         {"weighting": "sigma"}),
        ("diffusion_pipe", {"type": "sdxl"}, {"debiased_estimation_loss": True},
         {"weighting": "debiased"}),
    ],
)  # fmt: skip
def test_loss_weights_and_turns_of_experts_come_along(
    trainer: str,
    model: dict[str, Any],
    options: dict[str, Any],
    timesteps: dict[str, Any],
    read: Any,
) -> None:
    assert read(trainer, model, options).sections["timesteps"].items() >= timesteps.items()


def test_a_weighting_that_sd_scripts_leaves_out_is_left_out(read: Any) -> None:
    """It weighs by weighting_scheme with sigma_scaled predictions alone."""
    raw = {"weighting_scheme": "cosmap", "model_prediction_type": "raw"}
    assert "weighting" not in read("kohya", FLUX, raw).sections["timesteps"]
