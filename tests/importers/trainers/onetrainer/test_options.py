"""Every option that OneTrainer reads, at every value that is not its default, is answered rightly.

The options, their types and defaults are its own code's: scripts/record_trainer_options.py.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.importers.trainers.onetrainer import files
from tests.importers.trainers.onetrainer.files import concept, config

from frisket.importers.options import read_rules

imported = files.imported
RECORD = json.loads((Path(__file__).parents[1] / "peers/onetrainer.json").read_text("utf-8"))
# What an option needs besides, to count.
BESIDE: dict[str, dict[str, Any]] = {
    "huber_delta": {"huber_strength": 2.0},
    "ema_decay": {"ema": "GPU"},
    "ema_update_step_interval": {"ema": "GPU"},
    "learning_rate_cycles": {"learning_rate_scheduler": "COSINE_WITH_RESTARTS"},
    "learning_rate_min_factor": {"learning_rate_scheduler": "COSINE"},
    "learning_rate_scaler": {"batch_size": 2, "gradient_accumulation_steps": 3},
    "loss_scaler": {"batch_size": 2, "gradient_accumulation_steps": 3},
    "save_every": {"save_every_unit": "EPOCH"},
    "save_every_unit": {"save_every": 3},
    "backup_after": {"backup_after_unit": "STEP"},
    "rolling_backup": {"backup_after_unit": "STEP"},
    "rolling_backup_count": {"backup_after_unit": "STEP", "rolling_backup": True},
    "validate_after": {"validation": True},
    "validate_after_unit": {"validation": True},
    "sample_after": {"sample_after_unit": "STEP", "samples": [{"prompt": "a"}]},
    "sample_after_unit": {"samples": [{"prompt": "a"}]},
    "layer_filter_regex": {"layer_filter": "attn.*"},
    "lora_decompose_output_axis": {"lora_decompose": True},
    "lokr_dim": {"peft_type": "LOKR"},
    "lokr_decompose_factor": {"peft_type": "LOKR"},
    "lokr_full_matrix": {"peft_type": "LOKR"},
    "lokr_decompose_both": {"peft_type": "LOKR"},
    "lokr_use_tucker": {"peft_type": "LOKR"},
    "lokr_weight_decompose": {"peft_type": "LOKR"},
    "lokr_dora_on_output": {"peft_type": "LOKR", "lokr_weight_decompose": True},
    "oft_block_size": {"peft_type": "OFT_2"},
    "oft_block_share": {"peft_type": "OFT_2"},
    "oft_scaled": {"peft_type": "OFT_2"},
    "tag_delimiter": {"enable_tag_shuffling": True},
    "keep_tags_count": {"enable_tag_shuffling": True},
}
OFF = {"enable_crop_jitter"}  # off is what Frisket does
MEANT: dict[str, list[Any]] = {  # values that mean something, of options whose type does not tell
    "resolution": ["768", "640x512"],
    "frames": ["9"],
    "layer_filter": ["attn,ff.net"],
    "base_model_name": ["black-forest-labs/FLUX.1-Krea-dev"],
    "min_noising_strength": [0.1],
    "max_noising_strength": [0.9],
    "learning_rate_min_factor": [0.1],
    "lora_model_name": ["before.safetensors"],
    "noising_weight": [0.5],
    "ema_decay": [0.9],
    "save_every": [2],
    "seed": [7],
    "dropout_probability": [0.2],
    "prompt_source": ["filename"],
    "resolution_override": ["640"],
    "balancing": [3.0],
    "path": ["set"],
    "tag_delimiter": [";"],
    "learning_rate_warmup_steps": [50, 0.1],
    "masked_training": [False],
}
SAME = {  # mapped, and yet nothing is written: what it says is why
    "concept_file_name", "concepts", "sample_definition_file_name", "prompt_path", "type",
    "base_model_name", "model_type", "enabled", "balancing_strategy",
    "timestep_distribution", "noising_weight", "noising_bias",  # only with one another
    "loss_weight_strength", "dynamic_timestep_shifting",
    "frames", "model_name", "enable_resolution_override",
    "resolution_override", "include_subdirectories", "weight_dtype", "training_method",
    "path", "output_model_format", "train", "lora_decompose_output_axis", "tag_delimiter",
}  # fmt: skip


@pytest.fixture
def clips(drawn):
    root = drawn("set", "a.png", "b.jpg", caption="one, two")
    drawn("set", "a-masklabel.png", mode="L")
    return root


LEVELS = (  # noise levels, which test_noise_levels.py draws
    *("timestep_", "noising_", "min_noising", "max_noising", "loss_weight_", "dynamic_timestep"),
)


def values(name: str, field: dict[str, Any]) -> list[Any]:
    """Values of an option that are not its default."""
    if name in MEANT:
        return MEANT[name]
    default, kind = field.get("default"), field["type"]
    if kind == "enum":
        rule = read_rules("onetrainer").find("config", name)
        every = len(field["choices"]) if rule and rule.kind == "mapped" else 3
        return [word for word in field["choices"][:every] if word != default]
    if kind == "bool":
        return [not default]
    if kind in ("int", "float"):
        return [(default or 0) + (7 if kind == "int" else 0.5)]
    return {"str": ["x"], "dict": [{"a": 1}]}.get(kind, [])


SECTIONS = ("config", "concept", "image", "text", "part", "sample")


def is_mapped(section: str, name: str) -> bool:
    rule = read_rules("onetrainer").find(section, name)
    return rule is not None and rule.kind == "mapped"


def asked() -> Iterator[tuple[str, str, Any]]:
    for section in SECTIONS:
        for name, field in RECORD["sections"][section].items():
            # What another option has to be set for is tried with it, too.
            if is_mapped(section, name) or name in BESIDE:
                for value in values(name, field):
                    yield section, name, value


@cache
def base() -> dict[str, Any]:
    """A job in which whatever is asked for counts."""
    tree = config(
        masked_training=True,
        masked_prior_preservation_weight=0.2,
        model_type="FLUX_DEV_1",
        optimizer={"optimizer": "ADAMW"},
        transformer={"train": True},
        samples=[{"prompt": "a"}],
    )
    tree["concepts"] = [concept("set", image={}, text={})]
    return tree


def job(section: str, **options: Any) -> tuple[dict[str, Any], str]:
    """The job with some options in a section, and how its notes call that section."""
    tree = deepcopy(base())
    if section == "config":
        return tree | options, ""
    places = {
        "concept": (tree["concepts"][0], "concepts[0]."),
        "image": (tree["concepts"][0]["image"], "concepts[0].image."),
        "text": (tree["concepts"][0]["text"], "concepts[0].text."),
        "part": (tree["transformer"], "transformer."),
        "sample": (tree["samples"][0], "samples[0]."),
        "optimizer": (tree["optimizer"], "optimizer."),
    }
    inner, where = places[section]
    inner |= options
    return tree, where


def content(done) -> dict[str, Any]:
    return {"data": list(done.data), **done.sections, "clips": dict(done.manifests)}


def answered(name: str, told: list[Any]) -> Any:
    """The one note of an option that is more than that it asks for nothing."""
    said = [note for note in told if note.kind != "defect"]
    assert said, f"not a word of {name}"
    (note,) = said
    assert note.message != "asks for nothing at this value" or name in OFF, name
    assert "documents no such option" not in note.message, name
    return note


@pytest.mark.parametrize(("section", "name", "value"), list(asked()))
def test_what_has_a_place_is_written_there(clips, imported, loaded, notes, section, name, value):
    beside = BESIDE.get(name, {})
    tree, where = job(section, **{**beside, name: value})
    if section == "concept" and name in ("enabled", "type") and value != "STANDARD":
        tree["concepts"].append(concept("set"))
    done = imported(tree)
    note = answered(name, list(notes(done)[where + name]))
    loaded(done)
    if note.kind == "mapped" and name not in SAME and not name.startswith(LEVELS):
        plain = imported(job(section, **beside)[0])
        assert content(done) != content(plain), note.message


@pytest.mark.parametrize("section", SECTIONS)
def test_what_has_no_place_is_told(clips, imported, loaded, notes, section):
    fields = RECORD["sections"][section].items()
    tried = {name: values(name, field) for name, field in fields if not is_mapped(section, name)}
    rest = {name: given[0] for name, given in tried.items() if given and name not in BESIDE}
    tree, where = job(section, **rest)
    tree["concepts"].append(concept("set"))
    done = imported(tree)
    told = notes(done)
    for name in rest:
        answered(name, list(told[where + name]))
    loaded(done)


@pytest.mark.parametrize("section", ["optimizer", "quantization", "embedding"])
def test_tables_that_are_not_walked_have_a_rule(section):
    rules = read_rules("onetrainer")
    inside = {"quantization": "config", "embedding": "config"}.get(section, section)
    names = [section] if inside != section else RECORD["sections"][section]
    assert [name for name in names if rules.find(inside, name) is None] == []


def test_what_is_left_out_is_written_as_it_would_have_been(clips, imported):
    sections = RECORD["sections"]
    theirs = {name: each.get("default") for name, each in sections["config"].items()}
    done = imported({"training_method": "LORA", "model_type": "FLUX_DEV_1",
                     "concepts": [concept("set")]})  # fmt: skip
    assert done.sections["run"] == {
        "batch": theirs["batch_size"],
        "epochs": theirs["epochs"],
        "trackers": ["tensorboard"],
        "precision": "float16",
    }
    assert done.sections["lora"] == {
        "kind": "lora",
        "rank": theirs["lora_rank"],
        "alpha": theirs["lora_alpha"],
        "targets": ["/./"],
    }
    assert done.sections["optimizer"] == {
        "name": "adamw",
        "lr": theirs["learning_rate"],
        "weight_decay": 0.01,
        "options": {"betas": [0.9, 0.999], "eps": 1e-8},
        "schedule": "constant",
        "warmup": theirs["learning_rate_warmup_steps"],
        "clip": theirs["clip_grad_norm"],
        "accumulate": theirs["gradient_accumulation_steps"],
    }
    assert done.sections["memory"] == {"checkpointing": True}
    assert sections["part"]["gradient_checkpointing"]["default"] is True
    assert done.sections["model"]["dtype"] == "float32"
    assert sections["part"]["weight_dtype"]["default"] == "FLOAT_32"
    assert done.data[0]["resolution"] == int(theirs["resolution"])


@pytest.mark.parametrize("kind", RECORD["optimizers"]["bare"])
@pytest.mark.parametrize("given", ["bare", "offered"])
def test_an_optimizer_is_the_same_one_or_none(clips, imported, kind, given):
    """As its own `create_optimizer` was called, of a bare name and of what its window offers."""
    theirs = RECORD["optimizers"][given][kind]
    if theirs is None:
        pytest.skip("its own code builds it on a GPU alone")
    form = RECORD["optimizers"]["form"].get(kind, {}) if given == "offered" else {}
    done = imported(config(learning_rate=0.5, optimizer={"optimizer": kind, **form}))
    ours = done.sections["optimizer"]
    if "lr" not in ours:
        assert ours["name"] == f"{kind} of OneTrainer"
        assert not {"options", "weight_decay"} & set(ours)
        return
    assert ours["lr"] == 0.5
    options = theirs["options"]
    assert ours["weight_decay"] == options["weight_decay"]
    if "betas" in options:
        assert ours["options"]["betas"] == options["betas"]
    for name, value in ours.get("options", {}).items():
        if name in options:
            assert value == options[name], name
    still = {"weight_decay", "foreach", "fused", "capturable", "differentiable", "use_triton"}
    still |= {"min_8bit_size", "percentile_clipping", "block_wise", "optim_bits", "is_paged"}
    still |= {"stochastic_rounding", "fsdp_in_use"}
    default = (None, "inf", False)  # of their classes, too
    left = {n for n, v in options.items() if n not in still and v not in default}
    assert left <= set(ours.get("options", {})), "an argument is lost"


def test_a_sample_has_the_looks_of_its_model(clips, imported):
    for kind, theirs in RECORD["looks"].items():
        done = imported(config(model_type=kind, samples=[{"prompt": "a"}], masked_training=False))
        ours = {name: done.sections["preview"][name] for name in ("width", "height", "steps")}
        ours["guidance"] = done.sections["preview"]["guidance"]
        if "model" in done.sections:
            assert ours == theirs, kind
