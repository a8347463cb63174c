"""How long a job of OneTrainer trains, at which rate, and when it saves: in Frisket's counting."""

import json

import pytest
from tests.importers.trainers.onetrainer import files
from tests.importers.trainers.onetrainer.files import LAYOUT, concept, config

imported = files.imported


@pytest.fixture
def clips(drawn):
    return drawn("set", "a.png", "b.png", "c.png", "d.png", caption="one")


def test_an_optimizer_that_is_not_here_keeps_its_rate_to_itself(clips, imported, notes):
    done = imported(
        config(
            learning_rate=1.0,
            learning_rate_warmup_steps=100,
            gradient_accumulation_steps=2,
            gradient_checkpointing="ON",
            epochs=13,
            save_every=1,
            save_every_unit="EPOCH",
            optimizer={"optimizer": "PRODIGY_ADV", "d_coef": 0.8, "d_limiter": True, "eps": None},
        )
    )
    assert done.sections["optimizer"] == {
        "name": "PRODIGY_ADV of OneTrainer",
        "schedule": "constant",
        "warmup": 50,
        "clip": 1.0,
        "accumulate": 2,
    }
    assert done.sections["memory"]["checkpointing"] is True
    run = done.sections["run"]
    assert (run["epochs"], run["save_every"], run["save_every_epochs"]) == (13, 0, 1)
    told = notes(done)
    assert "left out" in told["learning_rate"][0].message
    for name in ("d_coef", "d_limiter"):
        assert told[f"optimizer.{name}"][0].kind == "no equivalent"


@pytest.mark.parametrize(
    ("options", "rate", "where"),
    [
        ({"learning_rate": 1e-4}, 1e-4, "learning_rate"),
        ({"learning_rate": 1e-4, "transformer": {"learning_rate": 3e-4}}, 3e-4,
         "transformer.learning_rate"),
        ({"learning_rate": 1e-4, "transformer": {"learning_rate": None}}, 1e-4, "learning_rate"),
        ({"learning_rate": 1e-4, "unet": {"learning_rate": 3e-4}}, 1e-4, "learning_rate"),
        ({"learning_rate": 1e-4, "batch_size": 2, "gradient_accumulation_steps": 8,
          "learning_rate_scaler": "BOTH"}, 4e-4, "learning_rate"),
        ({}, 3e-6, "learning_rate"),
    ],
)  # fmt: skip
def test_the_denoisers_rate_is_taken(clips, imported, notes, options, rate, where):
    done = imported(config(**options))
    assert done.sections["optimizer"]["lr"] == pytest.approx(rate, rel=1e-8)
    assert notes(done)[where][0].message == "is optimizer.lr here"


@pytest.mark.parametrize("method", ["FINE_TUNE", "EMBEDDING", "FINE_TUNE_VAE"])
def test_what_trains_no_adapter_is_told_and_its_rate_left_out(clips, imported, notes, method):
    done = imported(config(training_method=method, learning_rate=1e-5, lora_rank=64))
    assert "lora" not in done.sections
    assert "lr" not in done.sections["optimizer"]
    told = notes(done)
    assert told["training_method"][0].kind == "no equivalent"
    assert told["learning_rate"][0].kind == "no equivalent"
    assert told["lora_rank"][0].kind == "not needed"


@pytest.mark.parametrize(
    ("options", "saves"),
    [
        ({"save_every": 2, "save_every_unit": "EPOCH"},
         {"save_every": 0, "save_every_epochs": 2, "keep": 51}),
        ({"save_every": 100, "save_every_unit": "STEP", "gradient_accumulation_steps": 4},
         {"save_every": 25, "keep": 5}),
        ({"backup_after": 5, "backup_after_unit": "EPOCH", "rolling_backup": True},
         {"save_every": 0, "save_every_epochs": 5, "keep": 3}),
        ({"save_every": 20, "save_every_unit": "MINUTE"}, {}),
        ({"save_every": 0, "save_every_unit": "EPOCH"}, {}),
    ],
)  # fmt: skip
def test_when_it_saves(clips, imported, options, saves):
    run = imported(config(**options)).sections["run"]
    assert {name: each for name, each in run.items() if "save" in name or name == "keep"} == saves


def test_epochs_that_are_no_whole_pass_here_are_steps(clips, drawn, imported):
    drawn("rest", "x.png", "y.png", caption="x")
    rows = [concept("set", balancing=1.0), concept("rest", balancing=0.5)]
    done = imported(
        config(
            concepts=rows, epochs=10, batch_size=5, masked_training=False,
            save_every=2, save_every_unit="EPOCH",
        )
    )  # fmt: skip
    assert [table["repeats"] for table in done.data] == [2, 1]
    run = done.sections["run"]
    assert (run["steps"], run["save_every"]) == (10, 2)  # 5 clips an epoch
    assert "epochs" not in run


@pytest.mark.parametrize(
    ("schedule", "written"),
    [
        ("CONSTANT", {"schedule": "constant"}),
        ("LINEAR", {"schedule": "linear", "final": 0.2}),
        ("COSINE", {"schedule": "cosine", "final": 0.2}),
        ("COSINE_WITH_RESTARTS", {"schedule": "cosine", "cycles": 6.0, "final": 0.2}),
        ("COSINE_WITH_HARD_RESTARTS",
         {"schedule": "cosine_with_restarts", "cycles": 3.0, "final": 0.2}),
        ("REX", {"schedule": "rex", "final": 0.2}),
    ],
)  # fmt: skip
def test_schedules(clips, imported, loaded, schedule, written):
    done = imported(
        config(
            learning_rate_scheduler=schedule, learning_rate_cycles=3,
            learning_rate_min_factor=0.2, learning_rate_warmup_steps=0.05,
        )
    )  # fmt: skip
    names = ("schedule", "warmup", "cycles", "final")
    found = {name: each for name, each in done.sections["optimizer"].items() if name in names}
    assert found == written | {"warmup": 0.05}
    loaded(done)


def test_samples_are_previews(clips, imported, loaded, notes):
    samples = [
        {"prompt": "a sks man", "seed": 7, "width": 768, "height": 512, "cfg_scale": 2.0},
        {"prompt": "a street", "seed": 8, "width": 512, "height": 512},
        {"prompt": "never", "enabled": False},
    ]
    done = imported(config(samples=samples, sample_after=2, sample_after_unit="EPOCH"))
    assert done.sections["preview"] == {
        "every_epochs": 2,
        "prompts": ["a sks man", "a street"],
        "seeds": [7],
        "width": 768,
        "height": 512,
        "steps": 30,
        "guidance": 2.0,
    }
    told = notes(done)
    assert told["samples[1].seed"][0].kind == "no equivalent"
    loaded(done)


def test_samples_of_a_file(clips, imported, tmp_path, notes):
    (tmp_path / "samples.json").write_text(json.dumps([{"prompt": "a man", "nmae": 1}]))
    done = imported(config(sample_definition_file_name="samples.json"))
    assert done.sections["preview"]["prompts"] == ["a man"]
    told = notes(done)
    assert "by the clock" in told["sample_after"][0].message
    assert "documents no such option" in told["samples.json: [0].nmae"][0].message


@pytest.mark.parametrize(
    ("options", "losses"),
    [
        ({"mse_strength": 0, "mae_strength": 1},
         {"denoise": {"kind": "l1", "strength": 1.0},
          "prior": {"kind": "l1", "strength": 0.5}}),
        ({"mse_strength": 2}, {"denoise": {"kind": "mse", "strength": 2.0},
                               "prior": {"kind": "mse", "strength": 1.0}}),
        ({"mse_strength": 0, "log_cosh_strength": 1},
         {"denoise": {"kind": "huber", "strength": 1.0, "delta": 1.0},
          "prior": {"kind": "huber", "strength": 0.5, "delta": 1.0}}),
        ({"loss_scaler": "BATCH", "batch_size": 4},
         {"denoise": {"kind": "mse", "strength": 4.0},
          "prior": {"kind": "mse", "strength": 2.0}}),
        ({}, {"prior": 0.5}),
    ],
)  # fmt: skip
def test_the_prior_is_of_the_errors_kind_and_strength(clips, imported, loaded, options, losses):
    done = imported(config(masked_prior_preservation_weight=0.5, **options))
    expected = {"compat": "onetrainer", "normalise": "none", **losses}
    assert done.sections["losses"] == expected
    loaded(done)


@pytest.mark.parametrize(
    ("options", "targets"),
    [
        ({}, ["/./"]),
        ({"layer_filter": "", "layer_filter_preset": "attn-mlp"}, ["/./"]),
        ({"layer_filter": "attn, ff.net"}, ["/attn|ff\\.net/"]),
        ({"layer_filter": "attn,"}, ["/./"]),  # an empty part fits every name
        ({"layer_filter": "^blocks[.]", "layer_filter_regex": True}, ["/^blocks[.]/"]),
    ],
)
def test_layers_are_those_of_its_filter(clips, imported, options, targets):
    assert imported(config(**options)).sections["lora"]["targets"] == targets


def test_its_whole_filter_can_be_trained_of_every_family(clips, imported):
    from frisket.adapters.targets import resolve
    from frisket.families.base import FAMILIES

    for kind in ("STABLE_DIFFUSION_15", "HUNYUAN_VIDEO", "Z_IMAGE"):
        done = imported(config(model_type=kind, masked_training=False))
        model, lora = done.sections["model"], done.sections["lora"]
        denoiser = FAMILIES.load(model["family"]).tiny(model["variant"]).denoiser
        taken = resolve(denoiser, lora["targets"], lora.get("exclude", []))
        kinds = {type(dict(denoiser.named_modules())[name]).__name__ for name in taken}
        assert kinds <= {"Linear", "Conv2d"}


def test_a_word_it_does_not_know_is_its_default(clips, imported, notes):
    done = imported(
        config(timestep_distribution="UNIFIED", timestep_shift=3.0, learning_rate_scheduler="SINE")
    )
    assert done.sections["timesteps"]["density"] == "uniform"
    assert done.sections["timesteps"]["shift"] == 3.0
    assert done.sections["optimizer"]["schedule"] == "constant"
    for name in ("timestep_distribution", "learning_rate_scheduler"):
        assert "knows no such word" in notes(done)[name][0].message


def test_a_preset_says_what_it_lacks(imported, tmp_path):
    tree = {"training_method": "LORA", "model_type": "FLUX_DEV_1", "learning_rate": 3e-4}
    (tmp_path / "preset.json").write_text(json.dumps(tree))
    assert LAYOUT.matches(tmp_path / "preset.json")
    with pytest.raises(Exception, match="names no concepts, as a preset does"):
        LAYOUT.read(tmp_path / "preset.json")
