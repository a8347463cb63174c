"""Every option that SimpleTuner reads, at a value that is not its default, is answered rightly.

The options, their types and defaults are its own parser's: scripts/record_trainer_options.py.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.importers.trainers.simpletuner import files
from tests.importers.trainers.simpletuner.files import TEXTS, images, masks

from frisket.importers.options import read_rules
from frisket.importers.trainers.simpletuner.adapter import ATTENTION, FLUX, LAYERS

imported = files.imported
RECORD = json.loads((Path(__file__).parents[1] / "peers/simpletuner.json").read_text("utf-8"))
BASE: dict[str, Any] = {
    "data_backend_config": "sets.json",
    "model_type": "lora",
    "model_family": "flux",
    "learning_rate": 1e-4,
    "validation_prompt": "a man",
}
DIFFUSION = {"model_family": "sdxl"}
BESIDE: dict[str, dict[str, Any]] = {  # what an option needs besides, to count
    "ema_decay": {"use_ema": True},
    "ema_update_interval": {"use_ema": True},
    "lr_end": {"lr_scheduler": "polynomial"},
    "lr_power": {"lr_scheduler": "polynomial"},
    "lr_num_cycles": {"lr_scheduler": "polynomial"},
    "max_grad_norm": {"grad_clip_method": "norm"},
    "huber_c": {"loss_type": "huber"},
    "offset_noise": {**DIFFUSION, "noise_offset_probability": 1.0},
    "noise_offset": {**DIFFUSION, "offset_noise": True, "noise_offset_probability": 1.0},
    "noise_offset_probability": {**DIFFUSION, "offset_noise": True},
    "optimizer_beta1": {"optimizer_beta2": 0.9},
    "optimizer_beta2": {"optimizer_beta1": 0.8},
    "use_dora": {},
    "snr_gamma": DIFFUSION,
    "num_train_epochs": {},
    "only_instance_prompt": {"instance_prompt": "a man"},
    "prepend_instance_prompt": {"instance_prompt": "a man"},
    "instance_prompt": {"prepend_instance_prompt": True},
}
MEANT: dict[str, list[Any]] = {  # values that mean something
    "flow_cubic_schedule_weights": ["1,2,2,1"],
    "flow_custom_timesteps": ["900,500"],
    "adam_beta1": [0.5],
    "base_model_precision": ["int8-quanto", "nf4-bnb", "fp8-torchao", "int4-quanto"],
    "caption_dropout_probability": [0.3],
    "caption_strategy": ["instanceprompt"],
    "framerate": [24],
    "huber_c": [0.5],
    "init_lora": ["before.safetensors"],
    "lycoris_config": ["other.json"],
    "masked_loss_probability": [0.5],
    "model_flavour": ["dev"],
    "noise_offset_probability": [1.0],
    "optimizer_config": ["eps=1e-7,weight_decay=0.2"],
    "peft_lora_target_modules": ["to_q,to_k", ["to_v"]],
    "pretrained_model_name_or_path": ["black-forest-labs/FLUX.1-dev"],
    "pretrained_transformer_model_name_or_path": ["black-forest-labs/FLUX.1-dev"],
    "prediction_type": ["v_prediction"],
    "resolution": [768],
    "report_to": ["tensorboard", "wandb", "swanlab"],
    "user_prompt_library": ["prompts.json"],
    "validation_resolution": ["1024x768", "512"],
    "optimizer": ["bnb-lion", "prodigy"],
    "model_family": ["sd3"],
    "model_type": ["full"],
    "lora_type": ["lycoris"],
    "seed": [7],
    "validation_seed": [7],
    "optimizer_beta1": [0.8],
    "optimizer_beta2": [0.9],
    "instance_prompt": ["a sks man"],
    "report": [],
}
NONE = {"data_backend_config"}  # what is not asked for
ALONE = {  # mapped, and yet nothing else is written: what it says is why
    "optimizer",  # several are AdamW here
    "lycoris_config", "conditioning_multidataset_sampling", "lr_scheduler", "only_instance_prompt",
    "prepend_instance_prompt", "framerate", "noise_offset_probability", "flow_schedule_auto_shift",
    "flow_sigmoid_scale", "validation_prompt", "model_family", "pretrained_unet_model_name_or_path",
    "pretrained_transformer_model_name_or_path", "flow_use_uniform_schedule",
    "pretrained_model_name_or_path", "resolution_type", "mixed_precision", "model_type",
    "masked_loss_probability", "validation_steps", "checkpointing_steps", "grad_clip_method",
    "optimizer_beta1", "optimizer_beta2", "gradient_checkpointing", "noise_offset", "huber_c",
}  # fmt: skip
LEVELS = ("flow_", "timestep_bias_", "snr_", "flux_fast_")  # test_noise_levels.py draws them


@pytest.fixture
def job(drawn, imported, tmp_path):
    """Write a job with some options, and read it."""
    drawn("clips", "a.png", "b.png", caption="one, two\n")
    (tmp_path / "prompts.json").write_text(json.dumps({"near": "a face", "far": {"prompt": "hi"}}))
    (tmp_path / "other.json").write_text(json.dumps({"algo": "loha", "linear_dim": 4}))
    (tmp_path / "sets.json").write_text(json.dumps([images(), TEXTS]))

    def read(options: dict[str, Any]):
        return imported(options, "config.json")

    return read


def values(name: str, field: dict[str, Any]) -> list[Any]:
    """Values of an option that are not its default."""
    if name in MEANT:
        return MEANT[name]
    default, kind = field.get("default"), field["type"]
    if field.get("choices"):
        rule = read_rules("simpletuner").find("trainer", name)
        every = None if rule and rule.kind == "mapped" else 2
        return [each for each in field["choices"][:every] if each != default]
    if kind == "bool":
        return [not default]
    if kind in ("int", "float"):
        return [(default or 0) + (7 if kind == "int" else 0.5)]
    return ["x"]


def is_mapped(name: str) -> bool:
    rule = read_rules("simpletuner").find("trainer", name)
    return rule is not None and rule.kind == "mapped"


def asked() -> Iterator[tuple[str, Any]]:
    for name, field in RECORD["options"].items():
        if name not in NONE and is_mapped(name):
            for value in values(name, field):
                yield name, value


def content(done) -> dict[str, Any]:
    return {"data": list(done.data), **done.sections, "clips": dict(done.manifests)}


def answered(name: str, told: list[Any], value: Any) -> Any:
    """The one note of an option that is more than that it asks for nothing."""
    said = [note for note in told if note.kind != "defect"]
    assert said, f"not a word of {name}"
    (note,) = said
    off = RECORD["options"][name].get("default") is True and value is False
    assert note.message != "asks for nothing at this value" or off, name
    assert "documents no such option" not in note.message, name
    return note


@pytest.mark.parametrize(("name", "value"), list(asked()))
def test_what_has_a_place_is_written_there(job, loaded, notes, name, value):
    beside = {**BASE, **BESIDE.get(name, {})}
    done = job({**beside, name: value})
    note = answered(name, notes(done)[name], value)
    loaded(done)
    if note.kind == "mapped" and name not in ALONE and not name.startswith(LEVELS):
        assert content(done) != content(job(beside)), note.message


def test_what_has_no_place_is_told(job, loaded, notes):
    fields = RECORD["options"]
    rest = {n: values(n, fields[n])[0] for n in fields if not is_mapped(n) and n not in NONE}
    assert len(rest) > 400
    done = job({**BASE, **rest})
    told = notes(done)
    for name, value in rest.items():
        answered(name, list(told[name]), value)
    loaded(done)


def test_what_is_left_out_is_written_as_it_would_have_been(job):
    theirs = {name: each["default"] for name, each in RECORD["options"].items()}
    done = job({"data_backend_config": "sets.json", "model_type": "lora"})
    assert done.sections["run"] == {
        "batch": theirs["train_batch_size"],
        "epochs": theirs["num_train_epochs"],
        "save_every": theirs["checkpoint_step_interval"],
        "keep": theirs["checkpoints_total_limit"],
        "precision": "bfloat16",
    }
    assert done.sections["lora"] == {
        "rank": theirs["lora_rank"],
        "alpha": theirs["lora_rank"],
        "dropout": theirs["lora_dropout"],
        "targets": ["to_k", "to_q", "to_v", "to_out.0"],
        "format": theirs["lora_format"],
    }
    assert done.sections["optimizer"] == {
        "name": "adamw",
        "lr": theirs["learning_rate"],
        "weight_decay": 0.01,
        "options": {"betas": [0.9, 0.999], "eps": 1e-6},
        "schedule": "constant",
        "clip": 0.0,
        "accumulate": theirs["gradient_accumulation_steps"],
    }
    assert done.sections["memory"] == {"checkpointing": theirs["gradient_checkpointing"]}
    assert done.data[0]["caption_dropout"] == theirs["caption_dropout_probability"]
    assert done.data[0]["resolution"] == theirs["resolution"]


def test_a_job_that_names_no_kind_trains_the_whole_model_there(job, notes):
    done = job({"data_backend_config": "sets.json", "learning_rate": 1e-6})
    assert RECORD["options"]["model_type"]["default"] == "full"
    assert "lora" not in done.sections
    assert "lr" not in done.sections["optimizer"]
    told = notes(done)
    assert "the whole model" in told["model_type"][0].message
    assert told["learning_rate"][0].kind == "no equivalent"


@pytest.mark.parametrize("name", RECORD["optimizers"])
def test_an_optimizer_is_the_same_one_or_none(job, name):
    """As its own table of optimizers builds it; a rate of another reaches none."""
    theirs = dict(RECORD["optimizers"][name])
    done = job({**BASE, "optimizer": name, "lr_warmup_steps": 5})
    ours = done.sections["optimizer"]
    if "lr" not in ours:
        assert ours["name"] == f"{name} of SimpleTuner"
        assert not {"options", "weight_decay"} & set(ours)
        return
    assert ours["lr"] == 1e-4
    assert ours["weight_decay"] == theirs.pop("weight_decay")
    options = dict(ours["options"])
    assert options.pop("warmup_steps", 5) == 5
    for option, value in options.items():
        assert value == theirs[option], option
    still = {"amsgrad", "min_8bit_size", "percentile_clipping", "kahan_sum", "foreach", "nesterov"}
    still |= {"decouple_lr", "decouple_wd", "max_lr", "torch_init", "t_alpha", "t_beta3"}
    still |= {"use_kahan", "initial_accumulator_value"}
    lost = {name for name in theirs if name not in still and name not in options}
    assert lost <= ({"eps"} if name == "torch-adafactor" else set())  # its class has the same


def test_prodigy_there_is_another_one(job, notes):
    """It is prodigy-plus-schedule-free, whatever its name says."""
    done = job({**BASE, "optimizer": "prodigy", "learning_rate": 1.0})
    assert done.sections["optimizer"]["name"] == "prodigy of SimpleTuner"
    assert "lr" not in done.sections["optimizer"]
    assert "ProdigyPlusScheduleFree" in notes(done)["optimizer"][0].message


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("constant", {"schedule": "constant", "warmup": 10}),
        ("constant_with_warmup", {"schedule": "constant", "warmup": 10}),
        ("linear", {"schedule": "linear", "warmup": 10}),
        ("polynomial", {"schedule": "polynomial", "warmup": 10, "power": 0.8, "final": 0.01}),
        ("cosine", {"schedule": "cosine", "cycles": 4.0, "final": 0.01}),
        ("cosine_with_restarts", {"schedule": "constant"}),
    ],
)
def test_a_schedule_is_its_own(job, loaded, name, written):
    """The rates of 40 steps, as its `get_lr_scheduler` gave them, by Frisket's own schedules."""
    options = {
        "lr_scheduler": name,
        "lr_warmup_steps": 10,
        "lr_end": 1e-6,
        "max_train_steps": 40,
        "num_train_epochs": 0,
    }
    done = job({**BASE, **options})
    keys = ("schedule", "warmup", "cycles", "power", "final")
    found = {key: each for key, each in done.sections["optimizer"].items() if key in keys}
    assert found == written
    loaded(done)
    schedules = pytest.importorskip("frisket.training.schedules")
    given = {"kind" if key == "schedule" else key: each for key, each in found.items()}
    rates = schedules.Rates(steps=40, **given)
    theirs = RECORD["schedules"]["constant_with_warmup" if name == "constant" else name]
    # Its first step of a warm-up has no rate at all, ours a share: one step apart.
    ahead = found.get("warmup", 0) and 1
    for step in range(40 - ahead):
        late = 0 if step >= found.get("warmup", 0) else ahead
        assert rates.factor(step) == pytest.approx(theirs[step + late], abs=2e-3), step


def test_layers_are_those_of_its_models():
    fused = {"to_qkv", "add_qkv_proj"}  # there where fuse_qkv_projections is on
    for name, theirs in RECORD["targets"].items():
        family, _, target = name.partition(" ")
        ours = FLUX[target] if target else LAYERS.get(family, ATTENTION)
        assert set(ours) == set(theirs) - fused, name


def test_its_layers_are_there_in_the_models_here():
    from frisket.adapters.targets import resolve
    from frisket.families.base import FAMILIES

    tiny = FAMILIES.load("flux").tiny("dev").denoiser
    for name, layers in FLUX.items():
        if name not in ("tiny", "nano"):  # of blocks that the tiny one does not have
            assert resolve(tiny, list(layers))


@pytest.mark.parametrize(
    ("held", "lora"),
    [
        (
            {"algo": "lokr", "multiplier": 1.0, "full_matrix": True, "linear_alpha": 1,
             "linear_dim": 10000, "factor": 16,
             "apply_preset": {"target_module": ["Attention", "FeedForward"],
                              "module_algo_map": {"Attention": {"factor": 16},
                                                  "FeedForward": {"factor": 8}}}},
            {"kind": "lokr", "factor": 16, "full_matrix": True, "preset": "attn-mlp"},
        ),
        (
            {"algo": "lora", "linear_dim": 64, "linear_alpha": 32, "dora_wd": True,
             "apply_preset": {"target_module": ["Attention"]}},
            {"kind": "dora", "rank": 64, "alpha": 32.0, "preset": "attn"},
        ),
        (
            {"algo": "loha", "linear_dim": 8, "linear_alpha": 4, "dropout": 0.2,
             "rank_dropout": 0.1, "apply_preset": {"target_module": ["MyBlock"]}},
            {"kind": "loha", "rank": 8, "alpha": 4.0, "rank_dropout": 0.1},
        ),
        (
            {"algo": "locon", "linear_dim": 8, "linear_alpha": 4, "conv_dim": 4, "conv_alpha": 2},
            {"kind": "lora", "rank": 8, "alpha": 4.0, "conv_rank": 4, "conv_alpha": 2.0,
             "preset": "full"},
        ),
        (
            {"algo": "lokr", "full_matrix": True, "factor": 4,
             "apply_preset": {"target_module": ["Flux2Attention", "Flux2ParallelSelfAttention"],
                              "module_algo_map": {"Flux2Attention": {"factor": 2}}}},
            {"kind": "lokr", "factor": 4, "full_matrix": True, "preset": "attn"},
        ),
    ],
)  # fmt: skip
def test_lycoris_options_are_read_from_their_file(job, loaded, notes, tmp_path, held, lora):
    (tmp_path / "lycoris.json").write_text(json.dumps(held))
    done = job({**BASE, "lora_type": "lycoris", "lycoris_config": "config/lycoris.json"})
    assert done.sections["lora"] == lora | {"format": "diffusers"}
    told = notes(done)
    for name in held:
        assert told[f"lycoris.json: {name}"] or isinstance(held[name], dict), name
    loaded(done)


@pytest.mark.parametrize("algo", ["ia3", "full", "diag-oft", "dylora"])
def test_another_kind_of_adapter_keeps_its_rate(job, notes, tmp_path, algo):
    (tmp_path / "lycoris.json").write_text(json.dumps({"algo": algo, "linear_dim": 4}))
    done = job({**BASE, "lora_type": "lycoris", "lycoris_config": "lycoris.json"})
    assert "kind" not in done.sections["lora"]
    assert "lr" not in done.sections["optimizer"]
    assert notes(done)["lycoris.json: algo"][0].kind == "no equivalent"


def test_documented_options_of_data_sets_have_rules():
    rules = read_rules("simpletuner")
    assert [n for n in RECORD["data_sets"] if rules.find("backend", n) is None] == []


def test_a_list_beside_a_job_is_its_list(job, imported, drawn, tmp_path):
    (tmp_path / "multidatabackend.json").write_text(json.dumps([images(), masks(), TEXTS]))
    drawn("masks", "a.png", "b.png", mode="L")
    drawn("clips", "a.png", caption="x")
    job({**BASE})
    done = imported({"model_family": "flux", "model_type": "lora"}, "config.json")
    assert len(done.data) == 1
