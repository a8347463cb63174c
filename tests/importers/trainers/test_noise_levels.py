"""Shifts of other trainers: a law of size by name, or auto where it is the model's own."""

from pathlib import Path
from typing import Any

import pytest
from tests.importers.trainers.noise_jobs import write_job

from frisket.importers.base import IMPORT_FORMATS

OURS, NAMED = "by the same law", "by that law whatever the model"


FLUX_ST = {"model_family": "flux", "model_type": "lora"}
CASES = [
    # trainer, model there, options there, our shift, the option that is answered, how
    *(
        (
            "kohya",
            {"network_module": "networks.lora_flux"},
            options,
            shift,
            "timestep_sampling",
            how,
        )
        for options, shift, how in (
            ({"timestep_sampling": "flux_shift"}, "auto", OURS),
            ({"timestep_sampling": "shift", "discrete_flow_shift": 3.1582}, 3.1582, ""),
            ({"timestep_sampling": "sigmoid"}, 1.0, ""),
        )
    ),
    *(
        (
            "musubi",
            {"network_module": f"networks.{module}"},
            {"timestep_sampling": way},
            "auto" if how == OURS else way,
            "timestep_sampling",
            how,
        )
        for module, way, how in (
            ("lora_flux", "flux_shift", OURS),
            ("lora_flux_2", "flux2_shift", OURS),
            ("lora_flux_2", "flux_shift", NAMED),
            ("lora_qwen_image", "qwen_shift", OURS),
            ("lora_qwen_image", "flux_shift", NAMED),
            ("lora_zimage", "flux_shift", NAMED),
            ("lora_wan", "krea2_shift", NAMED),
        )
    ),
    *(
        (
            "onetrainer",
            {"model_type": model},
            {"dynamic_timestep_shifting": True, "timestep_shift": 3.0},
            "auto" if how == OURS else "flux_shift",
            "dynamic_timestep_shifting",
            how,
        )
        for model, how in (
            ("FLUX_DEV_1", OURS),
            ("FLUX_2", OURS),
            ("QWEN", OURS),
            ("Z_IMAGE", NAMED),
        )
    ),
    ("onetrainer", {"model_type": "FLUX_DEV_1"}, {}, 1.0, "", ""),
    ("simpletuner", FLUX_ST, {}, 3.0, "flow_schedule_shift", "its default there"),
    (
        "simpletuner",
        FLUX_ST,
        {"flow_schedule_auto_shift": True},
        3.0,
        "flow_schedule_auto_shift",
        "flow_schedule_shift = 3 overrides it",
    ),
    *(
        (
            "simpletuner",
            FLUX_ST | {"model_family": family},
            {"flow_schedule_auto_shift": True, "flow_schedule_shift": 0},
            "auto" if how == OURS else "flux_shift",
            "flow_schedule_auto_shift",
            how,
        )
        for family, how in (("flux", OURS), ("qwen_image", OURS), ("sd3", NAMED))
    ),
    ("simpletuner", FLUX_ST, {"flow_schedule_shift": 0}, 1.0, "", ""),
    (
        "ai_toolkit",
        {"arch": "flux"},
        {"timestep_type": "shift"},
        "auto",
        "timestep_type",
        OURS,
    ),
    (
        "ai_toolkit",
        {"arch": "zimage"},
        {"timestep_type": "shift"},
        3.0,
        "timestep_type",
        "the shift of its scheduler is 3",
    ),
    ("ai_toolkit", {"arch": "flux"}, {"timestep_type": "sigmoid"}, 1.0, "", ""),
    (
        "ai_toolkit",
        {"arch": "flux"},
        {"timestep_type": "weighted"},
        1.0,
        "timestep_type",
        "weights",
    ),
    ("diffusion_pipe", {"type": "flux"}, {"flux_shift": True}, "auto", "flux_shift", OURS),
    (
        "diffusion_pipe",
        {"type": "qwen_image"},
        {"flux_shift": True},
        "flux_shift",
        "flux_shift",
        NAMED,
    ),
    ("diffusion_pipe", {"type": "wan"}, {"shift": 3, "flux_shift": True}, 3.0, "", ""),
    ("diffusion_pipe", {"type": "flux"}, {}, 1.0, "", ""),
]


@pytest.mark.parametrize(("trainer", "model", "options", "shift", "answered", "how"), CASES)
def test_a_shift_is_by_size_where_the_law_is_the_models_own_and_what_stands_in_is_told(
    trainer: str,
    model: dict[str, Any],
    options: dict[str, Any],
    shift: object,
    answered: str,
    how: str,
    drawn: Any,
    tmp_path: Path,
) -> None:
    drawn("pictures", "a.png", caption="a cat")
    drawn("train/1_cat", "a.png", caption="a cat")
    read = IMPORT_FORMATS.load(trainer).read(write_job(trainer, tmp_path, model, options))
    assert read.sections["timesteps"]["shift"] == shift
    said = [note for note in read.notes if answered and note.option.endswith(answered)]
    assert not how or any(how in note.message for note in said), [
        note.message for note in read.notes
    ]
    if how in (OURS, NAMED):
        assert said[0].kind == "mapped"
