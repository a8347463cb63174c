"""An ai-toolkit job becomes the same training here, and every option is answered."""

from typing import Any

import pytest
from tests.importers.trainers.ai_toolkit import files
from tests.importers.trainers.ai_toolkit.files import LAYOUT, job

from frisket.importers.base import BadImport
from frisket.importers.options import read_rules

clips, imported = files.clips, files.imported


def test_clips_masks_and_captions_are_found_as_it_finds_them(clips, imported, loaded, found):
    done = imported(job({"folder_path": "clips", "mask_path": "masks"}))
    assert done.data == (
        {
            "clips": str(clips),
            "masks": {
                "source": "folder",
                "path": str(clips.parent / "masks"),
                "unmasked": "train",
                "blur": 0.005,
            },
            "caption_part": "file",
            "frames": 1,
            "resolution": 512,
            "buckets": True,
            "repeats": 1,
        },
    )  # fmt: skip
    assert done.sections == {"losses": {"compat": "ai-toolkit"}}
    seen = found(loaded(done)).clips
    assert [(one.name, one.caption) for one in seen] == [("a", "one,\ntwo"), ("b", "one,\ntwo")]
    assert [dict(one.masks) for one in seen] == [{"": clips.parent / "masks/a.webp"}, {}]


def test_masked_training_keeps_its_meaning(clips, imported, loaded):
    datasets = {
        "folder_path": "clips",
        "mask_path": "masks",
        "invert_mask": True,
        "mask_min_value": 0.1,
    }
    train = {"inverted_mask_prior": True, "loss_type": "mae"}
    done = imported(job(datasets, train=train))
    assert done.data[0]["masks"]["invert"] is True
    assert done.sections["curve"] == {"floor": 0.1}
    assert done.sections["losses"] == {
        "compat": "ai-toolkit",
        "denoise": {"kind": "l1"},
        "prior": 0.5,
    }
    loaded(done)


def test_transparency_as_mask(drawn, imported, loaded, found):
    drawn("clips", "a.png", mode="RGBA", caption="x")
    done = imported(job({"folder_path": "clips", "alpha_mask": True, "mask_path": "gone"}))
    assert found(loaded(done)).clips[0].alpha


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({"resolution": [512, 768]}, [{"resolution": 512}, {"resolution": 768}]),
        ({"buckets": False}, [{"resolution": [512, 512], "buckets": False}]),
        ({"square_crop": True}, [{"resolution": [512, 512], "buckets": False}]),
        ({"num_repeats": 3, "flip_x": True}, [{"repeats": 3, "flip": True}]),
        ({"loss_multiplier": 2.0}, [{"weight": 2.0}]),
        ({"caption_ext": "caption"}, [{"caption_extension": ".caption"}]),
        (
            {"default_caption": "x", "shuffle_tokens": True},
            [{"caption": "x", "shuffle_tags": True}],
        ),
        ({"caption_dropout_rate": 0.05}, [{"caption_dropout": 0.05}]),
        ({"trigger_word": "sks"}, [{"trigger": "sks"}]),
        ({}, [{"trigger": "p3r5on"}]),
        ({"num_frames": 33}, [{"frames": 33, "extract": "head"}]),
        (
            {"num_frames": 33, "shrink_video_to_frames": False, "fps": 16},
            [{"frames": 33, "fps": 16.0}],
        ),
        ({"auto_frame_count": True}, [{"extract": "full", "fps": 24.0}]),
        ({"control_path": ["edits"]}, [{"references": "edits"}]),
    ],
)
def test_options_of_a_data_set(clips, drawn, imported, loaded, options, shapes):
    references = drawn("edits", "a.png")
    done = imported(job({"folder_path": "clips", **options}, trigger_word="p3r5on"))
    assert len(done.data) == len(shapes)
    for table, shape in zip(done.data, shapes, strict=True):
        if "references" in shape:
            shape["references"] = str(references)
        assert {name: table.get(name) for name in shape} == shape
    loaded(done)


def test_regularisation_sets_have_no_trigger(clips, drawn, imported, notes):
    drawn("reg", "x.png", caption="x")
    done = imported(
        job(
            {"folder_path": "clips"},
            {"folder_path": "reg", "is_reg": True, "loss_multiplier": 2},
            {"folder_path": "reg", "prior_reg": True},
            trigger_word="sks",
            train={"reg_weight": 0.25},
        )
    )
    assert [table.get("trigger") for table in done.data] == ["sks", None]
    assert done.data[1]["weight"] == 0.5
    told = notes(done)
    assert "every second step" in told["config.process[0].datasets[1].is_reg"][0].message
    # Two clips and one: both sets are seen as often.
    assert [table["repeats"] for table in done.data] == [1, 2]
    assert "left out" in told["config.process[0].datasets[2].prior_reg"][0].message


def test_the_rest_of_the_job(clips, imported, loaded):
    done = imported(
        job(
            {"folder_path": "clips"},
            trigger_word="sks",
            training_seed=7,
            network={"type": "lora", "linear": 32, "linear_alpha": 16, "dropout": 0.1},
            save={"save_every": 250, "max_step_saves_to_keep": 4, "dtype": "float16"},
            train={
                "steps": 2000,
                "batch_size": 2,
                "gradient_accumulation": 3,
                "lr": "1e-4",
                "optimizer": "adamw8bit",
                "optimizer_params": {"weight_decay": 1e-4, "eps": 1e-6},
                "lr_scheduler": "cosine",
                "max_grad_norm": 0.5,
                "ema_config": {"use_ema": True, "ema_decay": 0.99},
                "dtype": "bf16",
                "noise_scheduler": "flowmatch",
                "timestep_type": "linear",
                "snr_gamma": 5,
                "gradient_checkpointing": True,
            },
            model={
                "arch": "wan22_14b:t2v",
                "name_or_path": "ai-toolkit/Wan2.2-T2V-A14B-Diffusers-bf16",
                "quantize": True,
                "compile": True,
                "model_kwargs": {"train_high_noise": False},
            },
            sample={
                "sample_every": 250,
                "width": 832,
                "height": 480,
                "num_frames": 40,
                "prompts": ["not read where there are samples"],
                "samples": [{"prompt": "[trigger] on a beach"}, {"prompt": "a cat"}],
                "neg": "ugly",
                "seed": 42,
                "guidance_scale": 5,
                "sample_steps": 30,
            },
        )
    )
    assert done.sections == {
        "model": {
            "family": "wan",
            "variant": "2.2-t2v-a14b",
            "source": "ai-toolkit/Wan2.2-T2V-A14B-Diffusers-bf16",
            "experts": "low",
            "dtype": "bfloat16",
        },
        "timesteps": {"density": "uniform", "shift": 1.0},
        "lora": {"rank": 32, "alpha": 16.0, "dropout": 0.1, "preset": "blocks"},
        "optimizer": {
            "name": "adamw8bit",
            "lr": 1e-4,
            "weight_decay": 1e-4,
            "options": {"eps": 1e-6},
            "schedule": "cosine",
            # It clips the sum of three gradients, Frisket their mean.
            "clip": 0.5 / 3,
            "accumulate": 3,
            "final": 0.0,
            "ema": 0.99,
        },
        "memory": {"checkpointing": True, "compile": True, "quantise": "fp8"},
        "preview": {
            "every": 250,
            "prompts": ["sks on a beach", "a cat"],
            "seeds": [42],
            "negative": "ugly",
            "width": 832,
            "height": 480,
            "steps": 30,
            "guidance": 5.0,
            "frames": 41,  # what the pipelines make of 40
        },
        "run": {
            "seed": 7,
            "steps": 2000,
            "batch": 2,
            "precision": "bfloat16",
            "save_every": 250,
            "keep": 4,
        },
    }
    loaded(done)


@pytest.mark.parametrize(
    ("model", "family", "variant"),
    [
        ({"arch": "flux", "name_or_path": "black-forest-labs/FLUX.1-schnell"}, "flux", "schnell"),
        ({"is_flux": True, "name_or_path": "black-forest-labs/FLUX.1-dev"}, "flux", "dev"),
        ({"is_xl": True, "is_v_pred": True}, "stable_diffusion", "sdxl-v"),
        (
            {"is_v3": True, "name_or_path": "stabilityai/stable-diffusion-3.5-large"},
            *("sd3", "3.5-large"),
        ),
        ({"name_or_path": "runwayml/stable-diffusion-v1-5"}, "stable_diffusion", "sd15"),
        (
            {"arch": "wan21", "name_or_path": "Wan-AI/Wan2.1-T2V-14B-Diffusers"},
            "wan",
            "2.1-t2v-14b",
        ),
        ({"arch": "wan21_i2v:14b"}, "wan", "2.1-i2v-14b-720p"),
        ({"arch": "qwen_image_edit_plus:2511"}, "qwen_image", "edit-2511"),
        ({"arch": "zimage", "name_or_path": "Tongyi-MAI/Z-Image-Turbo"}, "z_image", "turbo"),
        ({"arch": "flux2_klein_9b"}, "flux2", "klein-base-9b"),
    ],
)
def test_which_model_is_trained(clips, imported, loaded, model, family, variant):
    done = imported(job({"folder_path": "clips"}, model=model))
    named = done.sections["model"]
    assert (named["family"], named["variant"]) == (family, variant)
    assert named.get("source") == model.get("name_or_path")
    loaded(done)


def test_a_model_that_is_not_here_names_the_nearest(clips, imported, notes):
    model = {"arch": "chroma", "name_or_path": "lodestones/Chroma1-Base", "quantize": True}
    done = imported(job({"folder_path": "clips"}, model=model))
    assert "model" not in done.sections
    assert done.model == "chroma"
    told = notes(done)
    assert "nearest family is flux" in told["config.process[0].model.arch"][0].message
    for option in model:
        assert told[f"config.process[0].model.{option}"][0].kind == "no equivalent"


@pytest.mark.parametrize(
    ("quantised", "kind"),
    [({"qtype": "qint8"}, "int8"), ({"qtype": "float8"}, "fp8"), ({"qtype": "uint3|x/y"}, None)],
)
def test_quantisation_where_there_is_the_like(clips, imported, notes, quantised, kind):
    model = {"arch": "qwen_image", "quantize": True, **quantised}
    done = imported(job({"folder_path": "clips"}, model=model))
    assert done.sections.get("memory", {}).get("quantise") == kind
    (note,) = notes(done)["config.process[0].model.qtype"]
    assert note.kind == ("mapped" if kind else "no equivalent")


def test_captions_of_a_json_file(clips, imported, loaded, found, written, tmp_path):
    (tmp_path / "set.json").write_text(
        '{"clips/a.png": {"caption": "see"}, "clips/gone.png": {"caption": "x"}}'
    )
    done = imported(job({"dataset_path": "set.json"}))
    seen = found(loaded(written(done))).clips
    assert [(one.clip, one.caption) for one in seen] == [(clips / "a.png", "see")]


def test_names_and_variables_are_filled_in(drawn, imported, monkeypatch, tmp_path):
    drawn("clips-mine", "a.png", caption="x")
    monkeypatch.setenv("SETS", str(tmp_path))
    done = imported(job({"folder_path": "${SETS}/clips-[name]"}))
    assert done.data[0]["clips"] == str(tmp_path / "clips-mine")
    monkeypatch.delenv("SETS")
    with pytest.raises(BadImport, match="SETS"):
        imported(job({"folder_path": "${SETS}/clips"}))


def test_what_lies_in_the_way_is_told(clips, drawn, imported, notes):
    drawn("clips/_controls", "a.pose.jpg")
    (clips / "a.txt").write_text("[trigger] on a beach")
    (clips / "v.mp4").touch()
    drawn("edits", "a.png")
    done = imported(
        job(
            {"folder_path": "clips", "control_path_1": "edits", "control_path_2": "edits"},
            trigger_word="sks",
        )
    )
    told = notes(done)
    row = "config.process[0].datasets[0]"
    assert "_controls" in told[f"{row}.folder_path"][0].message
    assert "1 captions say [trigger]" in told["config.process[0].trigger_word"][0].message
    assert "there are 1" in told[f"{row}.num_frames"][0].message
    assert "several" in told[f"{row}.control_path_2"][0].message


def test_every_option_is_answered(clips, imported, tmp_path, complete, documented):
    rules = read_rules("ai_toolkit")
    tree = job({})
    process = tree["config"]["process"][0]
    typed: dict[str, Any] = {
        "network": {"type": "lokr", "linear": 4, "conv": 4},
        "save": {"save_every": 5, "push_to_hub": True},
        "train": {"lr": 1e-4, "steps": 5, "noise_offset": 0.1, "do_fft_loss": True},
        "sample": {"prompts": ["x"], "walk_seed": True},
        "model": {"arch": "wan21", "low_vram": True},
    }
    for section, options in typed.items():
        process[section] = dict.fromkeys(documented(rules, section)) | options
    process["train"]["ema_config"] = {"use_ema": True, "param_multiplier": 0.5}
    left = {"dataset_path", "prior_reg", "control_path_2", "control_path_3"}
    row = dict.fromkeys(documented(rules, "dataset") - left)
    row |= {"folder_path": "clips", "mask_path": "masks", "flip_y": True, "something_new": 1}
    process["datasets"] = [row]
    process |= dict.fromkeys(documented(rules, "process") - set(process))
    done = imported(tree)
    inner = ("train", "network", "save", "sample", "model", "datasets", "train.ema_config")
    tables = ["config", "config.process", *(f"config.process.{name}" for name in inner)]
    complete(done, tmp_path / "job.yaml", tables)
    unknown = [note.option for note in done.notes if "documents no such option" in note.message]
    assert unknown == ["config.process[0].datasets[0].something_new"]


def test_it_knows_its_own_files(clips, imported, tmp_path):
    imported(job({"folder_path": "clips"}))
    (tmp_path / "other.yaml").write_text("services: {}\n")
    assert LAYOUT.matches(tmp_path / "job.yaml")
    assert not LAYOUT.matches(tmp_path / "other.yaml")
    assert not LAYOUT.matches(clips)
