"""A diffusion-pipe run steps as its own code, whose numbers are in peers/diffusion_pipe.json."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from tests.importers.trainers.diffusion_pipe.files import LAYOUT

from frisket.config.tree import Config
from frisket.config.variant_checks import optimizer_problems
from frisket.importers.options import read_rules
from frisket.runs.epochs import rates_of
from frisket.training import optim

PEER = json.loads((Path(__file__).parents[1] / "peers/diffusion_pipe.json").read_text())
RATES = PEER["rates"]
CLIPS = 2
STEPS = RATES["epochs"] * RATES["epoch"]
SQUARE = {"resolutions": [64]}


@pytest.fixture
def pipe(tmp_path, drawn):
    """What becomes of a run with these tables; of `dataset`, in the file of that name."""
    drawn("a", *(f"{n}.png" for n in range(CLIPS)), caption="one, two")
    drawn("masks", "0.png", mode="L")
    drawn("held", "h.png", caption="x")

    def read(main=None, *, dataset=None, row=None, **tables: Any):
        data = SQUARE | (dataset or {}) | {"directory": [{"path": "a"} | (row or {})]}
        held = SQUARE | {"directory": [{"path": "held"}]}
        files: dict[str, Any] = {"set.toml": data, "held.toml": held}
        base = {"dataset": "set.toml", "model": {"type": "flux", "dtype": "bfloat16"}}
        adapter = {"adapter": {"type": "lora", "rank": 8}}
        optimizer = {"optimizer": {"type": "adamw", "lr": 1e-4}}
        files["main.toml"] = base | adapter | optimizer | tables | (main or {})
        for name, tree in files.items():
            kept = {key: each for key, each in tree.items() if each is not None}
            (tmp_path / name).write_text(tomlkit.dumps(kept))
        return LAYOUT.read(tmp_path / "main.toml")

    return read


def loaded(imported) -> Config:
    tree = {"data": list(imported.data), **imported.sections}
    return Config.model_validate(tomllib.loads(tomlkit.dumps(tree)))


@pytest.mark.parametrize("peer", RATES["runs"], ids=lambda peer: str(peer["options"]))
def test_the_rate_at_each_step(pipe, notes, peer):
    # As many clips as make its epochs: two of them, repeated.
    repeats = RATES["epoch"] / CLIPS
    done = pipe(peer["options"] | {"epochs": RATES["epochs"]}, row={"num_repeats": repeats})
    assert done.sections["run"]["epochs"] * CLIPS * done.data[0]["repeats"] == STEPS
    if peer["shares"] is None:
        (note,) = notes(done)["lr_scheduler"]
        assert (note.kind, "stops at this one" in note.message) == ("no equivalent", True)
        return
    config = loaded(done)
    run = config.run.model_copy(update={"steps": STEPS})
    made = rates_of(config.model_copy(update={"run": run}))
    ours = [made.factor(step) for step in range(0, STEPS, 5)]
    # Its warm-up begins at 1 / 20 too, and ends a step later.
    warming = 4 if "warmup_steps" in peer["options"] else 0
    assert ours[:warming] == pytest.approx(peer["shares"][:warming], abs=1 / 20)
    assert ours[warming:] == pytest.approx(peer["shares"][warming:], abs=1e-5)


def test_a_schedule_runs_over_the_epochs_though_steps_end_it(pipe):
    done = pipe({"epochs": 100, "max_steps": 50, "lr_scheduler": "linear"})
    assert done.sections["run"]["steps"] == 50
    # A quarter of the 200 steps that its line goes over.
    assert done.sections["optimizer"]["final"] == 0.75
    done = pipe({"epochs": 1000, "max_steps": 50, "lr_scheduler": "cosine"})
    assert done.sections["optimizer"]["cycles"] == 50 / 2000
    assert rates_of(loaded(done)).factor(49) > 0.99


@pytest.mark.parametrize("name", sorted(PEER["optimizers"]))
def test_the_optimizer_and_its_rate(pipe, name):
    done = pipe(optimizer={"type": name, "lr": 1e-4})
    chosen = done.sections["optimizer"]
    if "." not in chosen["name"] and chosen["name"] not in optim.ALIASES:
        assert "lr" not in chosen
        ((_, said),) = optimizer_problems(loaded(done))
        assert "no optimizer is named" in said
        return
    assert chosen["lr"] == 1e-4
    own = PEER["optimizers"][name].rpartition(".")[2].lower()
    if own != "cpuoffloadoptimizer":
        assert own.startswith(chosen["name"].rpartition(".")[2].lower()[:5])


def test_defaults_of_classes_are_written_out(pipe):
    made = pipe(optimizer={"type": "adamw_optimi", "lr": 1e-4}).sections["optimizer"]
    assert made["options"] == {"betas": [0.9, 0.99], "eps": 1e-6}
    assert made["weight_decay"] == 0.01
    made = pipe(optimizer={"type": "Prodigy", "betas": [0.9, 0.99], "bias_correction": True})
    chosen = made.sections["optimizer"]
    assert (chosen["name"], chosen["lr"], chosen["weight_decay"]) == ("prodigy", 1.0, 0.0)
    on = {"use_bias_correction": True, "safeguard_warmup": False, "betas": [0.9, 0.99]}
    assert chosen["options"] == on
    made = pipe(optimizer={"type": "sgd", "lr": 1e-3}).sections["optimizer"]
    assert made["options"] == {"momentum": 0.0}


def test_what_is_left_out_is_its_default(pipe):
    done = pipe({"epochs": 3})
    assert done.sections["optimizer"] == {
        "name": "adamw", "lr": 1e-4, "weight_decay": 0.01, "schedule": "constant", "warmup": 0,
        "clip": 1.0, "accumulate": 1,
    }  # fmt: skip
    blocks = {"preset": "blocks"}
    assert done.sections["lora"] == {"kind": "lora", "rank": 8, "alpha": 8} | blocks
    assert done.sections["run"] == {
        "batch": 1, "epochs": 3, "save_every": 0, "keep": 1000, "precision": "bfloat16",
    }  # fmt: skip
    assert done.sections["timesteps"]["shift"] == 1.0
    loaded(done)


@pytest.mark.parametrize(
    ("options", "run"),
    [
        ({"save_every_n_epochs": 2, "epochs": 4}, {"epochs": 4, "save_every_epochs": 2}),
        ({"save_every_n_examples": 6, "gradient_accumulation_steps": 3}, {"save_every": 2}),
        ({"save_every_n_steps": 7}, {"save_every": 7, "keep": 1000}),
        ({"image_micro_batch_size_per_gpu": 4, "micro_batch_size_per_gpu": 2}, {"batch": 4}),
        ({"micro_batch_size_per_gpu": [[512, 4], [1024, 1]]}, {"batch": 1}),
        ({"epochs": 3, "max_steps": 4}, {"steps": 4}),
        ({"epochs": 3, "max_steps": 40}, {"epochs": 3}),
    ],
)
def test_length_and_saves(pipe, options, run):
    found = pipe(options).sections["run"]
    assert {name: found.get(name) for name in run} == run


def test_epochs_of_a_share_of_the_clips(pipe):
    done = pipe({"epochs": 4}, row={"num_repeats": 0.5})
    assert (done.data[0]["repeats"], done.sections["run"]["epochs"]) == (1, 2)
    done = pipe({"epochs": 3}, row={"num_repeats": 0.5})
    assert done.sections["run"]["steps"] == 3  # three times half of two clips
    done = pipe({"epochs": 4}, row={"cache_shuffle_num": 10})
    assert (done.data[0]["repeats"], done.sections["run"]["epochs"]) == (10, 4)


def test_a_forced_rate_has_no_warm_up(pipe):
    options = {"force_constant_lr": 3e-5, "warmup_steps": 100, "lr_scheduler": "linear"}
    chosen = pipe(options).sections["optimizer"]
    assert (chosen["lr"], chosen["warmup"], chosen["schedule"]) == (3e-5, 0, "constant")


def test_a_whole_model_is_no_lora_in_silence(pipe, notes):
    done = pipe(adapter=None)
    assert "lr" not in done.sections["optimizer"]
    (note,) = notes(done)["adapter"]
    assert note.kind == "no equivalent"
    ((_, said),) = optimizer_problems(loaded(done))
    assert "set optimizer.name, and with it optimizer.lr" in said


def test_sdxl_trains_its_text_encoders_and_that_is_told(pipe, notes):
    done = pipe(model={"type": "sdxl", "dtype": "bfloat16", "unet_lr": 4e-5})
    assert done.sections["optimizer"]["lr"] == 4e-5
    (note,) = notes(done)["model.text_encoder_1_lr"]
    assert "trained too there" in note.message


@pytest.mark.parametrize(
    ("adapter", "lora"),
    [
        (
            {"type": "lokr", "rank": 1e6, "decompose_factor": 4},
            {"kind": "lokr", "full_matrix": True, "factor": 4},
        ),
        (
            {"type": "lokr", "rank": 8, "rank_dropout": 0.1},
            {"kind": "lokr", "rank": 8, "alpha": 8, "factor": -1, "rank_dropout": 0.1},
        ),
        (
            {"type": "lora", "rank": 8, "exclude_modules": ["proj"]},
            {"kind": "lora", "rank": 8, "alpha": 8, "exclude": ["proj"]},
        ),
        (
            {"type": "lora", "rank": 8, "exclude_modules": ".*proj"},
            {"kind": "lora", "rank": 8, "alpha": 8, "exclude": ["/^(?:.*proj)$/"]},
        ),
    ],
)
def test_kinds_of_adapters(pipe, adapter, lora):
    done = pipe(adapter=adapter)
    assert done.sections["lora"] == lora | {"preset": "blocks"}
    loaded(done)


def test_the_layers_it_adapts(pipe):
    """All linear layers of the blocks; of Z-Image those of its refiners, blocks as well."""
    zimage = pipe(model={"type": "z_image", "dtype": "bfloat16"}).sections["lora"]
    assert zimage["targets"] == ["/^(layers|noise_refiner|context_refiner)[.]/"]
    sdxl = pipe(model={"type": "sdxl", "dtype": "bfloat16"}).sections["lora"]
    assert set(sdxl) == {"kind", "rank", "alpha"}


def test_evaluation_sets(pipe, notes, tmp_path):
    both = {"eval_datasets": ["held.toml", "gone.toml"], "eval_every_n_examples": 40}
    done = pipe(both | {"eval_every_n_epochs": 1, "gradient_accumulation_steps": 4})
    found = done.sections["validation"]
    assert (found["every"], found["every_epochs"]) == (10, 1)
    assert [table["clips"] for table in found["data"]] == [str(tmp_path / "held")]
    assert loaded(done).validation.data
    assert "gone.toml is not there" in notes(done)["eval_datasets"][0].message
    (note,) = notes(pipe({"eval_every_n_epochs": 1}))["eval_every_n_epochs"]
    assert note.kind == "not needed"


def test_masks_of_clips_that_have_none(pipe, loaded, found, written):
    done = pipe(row={"mask_path": "masks"})
    assert done.data[0]["masks"]["unmasked"] == "train"
    lent = pipe(row={"mask_path": "masks", "default_mask_file": "masks/0.png"})
    assert lent.data[0]["masks"]["fallback"].endswith("0.png")
    every = written(pipe(row={"default_mask_file": "masks/0.png"}))
    assert all(each.masks for each in found(loaded(every)).clips)


def test_captions_of_a_json_file(pipe, notes, found, written, tmp_path):
    pipe()
    (tmp_path / "a/captions.json").write_text('{"0.png": ["one", "two"], "gone.png": ["x"]}')
    done = pipe()
    seen = found(loaded(written(done))).clips
    assert [(each.name, each.caption) for each in seen] == [("0", "one")]
    (note,) = notes(done)["set.toml: directory[0].captions.json"]
    assert (note.kind, "1 clips have several" in note.message) == ("no equivalent", True)


# Every option, at its default and otherwise.

VALUES: dict[str, Any] = {
    "path": "a", "mask_path": "masks", "control_path": "held", "default_mask_file": "masks/0.png",
    "resolutions": [128], "frame_buckets": [1, 33], "size_buckets": [[64, 64, 1]],
    "ar_buckets": [[64, 128]], "min_ar": 0.5, "max_ar": 2.0, "num_ar_buckets": 7,
    "dataset": "set.toml", "eval_datasets": ["held.toml"], "lr_scheduler": "linear",
    "video_clip_mode": "single_middle", "monitoring": {"enable_wandb": True}, "epochs": 2,
    "partition_split": [10], "type": "lora", "rank": 4, "exclude_modules": ["x"],
    "fuse_adapters": [{"path": "x"}], "betas": [0.9, 0.9], "min_t": 0.1, "max_t": 0.9,
    "timestep_sample_method": "uniform", "text_encoders": [{"path": "x"}], "warmup_steps": 2,
    "merge_adapters": ["x"], "image_shift": 2.0, "first_frame_conditioning_p": 0.5,
    "dropout": 0.1, "rank_dropout": 0.1, "subsample_ratio": 0.5, "cfg": 4.0,
    "dtype": "float16", "transformer_dtype": "float8", "diffusion_model_dtype": "float8",
}  # fmt: skip
TABLES = ("adapter", "model", "optimizer")
NUMBERS = ("every", "lr", "delta", "beta", "eps", "max_", "steps", "gamma", "shift", "weight_decay",
           "half_life", "batch", "ratio", "alpha", "num_proc", "pseudo", "multiscale")  # fmt: skip


def other(name: str, default: Any) -> Any:
    """A value that is not the default."""
    if name in VALUES:
        return VALUES[name]
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default * 2 + 3
    if name in ("stabilize", "debiased_estimation_loss", "lumina_shift"):
        return True
    return 2 if any(part in name for part in NUMBERS) and "latent" not in name else "x"


@pytest.mark.parametrize("section", sorted(PEER["sections"]))
def test_options_at_another_value_are_answered(pipe, notes, section):
    for name, default in PEER["sections"][section].items():
        if section == "main" and name in TABLES:
            continue
        value = other(name, default)
        assert value != default, name
        kind = {"optimizer": "AdamW8bitKahan", "model": "flux"}.get(section, "lora")
        given = {name: value if name != "type" else kind}
        if section == "directory":
            told = notes(pipe(row=given))
            option = f"set.toml: directory[0].{name}"
        elif section == "main":
            told, option = notes(pipe(given)), name
        else:
            base = {
                "model": {"type": "flux", "dtype": "bfloat16"},
                "adapter": {"type": "lora", "rank": 8},
                "optimizer": {"type": "AdamW8bitKahan", "lr": 1e-4, "betas": [0.9, 0.99]},
            }
            if name in ("decompose_factor", "rank_dropout"):
                base["adapter"]["type"] = "lokr"
            told = notes(pipe(**{section: base[section] | given}))
            option = f"{section}.{name}"
        said = [note.message for note in told.get(option, ()) if note.kind != "defect"]
        said += [
            note.message for note in told.get(option, ()) if "nothing reads it" in note.message
        ]
        assert said, name
        quiet = ("asks for nothing", "no such option")
        assert not any(words in each for each in said for words in quiet), name


@pytest.mark.parametrize("section", sorted(PEER["sections"]))
def test_options_at_their_default_ask_for_nothing(section):
    for name, default in PEER["sections"][section].items():
        rule = read_rules("diffusion_pipe").find(section, name)
        assert rule is not None, name
        if default is not None and rule.kind == "no equivalent":
            assert rule.is_idle(default), name
