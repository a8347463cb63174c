"""A SimpleTuner configuration becomes the same training here, and every option is answered."""

import json

import pytest
from tests.importers.trainers.simpletuner import files
from tests.importers.trainers.simpletuner.files import LAYOUT, TEXTS, images, masks

from frisket.importers.options import read_rules

clips, imported = files.clips, files.imported


def test_clips_masks_and_captions_are_found_as_it_finds_them(clips, imported, loaded, found):
    done = imported([images(conditioning_data="masks"), masks(), TEXTS])
    assert done.data == (
        {
            "clips": str(clips),
            "masks": {"source": "folder", "path": str(clips.parent / "masks"), "require": True},
            "caption_part": "line",
            "resolution": 1024,
            "buckets": True,
            "repeats": 1,
        },
    )
    assert done.sections == {"losses": {"compat": "simpletuner"}}
    seen = found(loaded(done)).clips
    assert [(one.name, one.caption) for one in seen] == [("a_b", "one, two"), ("sub/c", "one, two")]
    assert dict(seen[1].masks) == {"": clips.parent / "masks/sub/c.png"}


def test_masks_may_name_their_clips_themselves(clips, imported):
    done = imported([images(), masks(source_dataset_id="subject")])
    assert done.data[0]["masks"]["path"].endswith("masks")


def test_segmentation_masks_teach_wherever_they_are_not_black(clips, imported, loaded, tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "--data_backend_config": "config/multidatabackend.json",
                "--masked_loss_probability": "0.75",
            }
        )
    )
    done = imported([images(conditioning_data=["masks"]), masks("segmentation")])
    assert done.sections["curve"] == {"threshold": 0.0, "unmasked_probability": 0.25}
    loaded(done)


def test_without_masks_the_loss_is_our_own(clips, imported):
    assert imported([images()]).sections == {}


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"resolution": 768}, {"resolution": 768, "buckets": True}),
        ({"resolution": 0.25, "resolution_type": "area"}, {"resolution": 500, "buckets": True}),
        (
            {"resolution": 512, "crop": True, "crop_style": "center"},
            {"resolution": [512, 512], "buckets": False},
        ),
        (
            {"resolution": 512, "resolution_type": "pixel", "crop": True, "crop_aspect": "closest"},
            {"resolution": 512, "buckets": True},
        ),
        ({"repeats": 9}, {"repeats": 10}),
        (
            {"caption_shuffle": {"enable": True, "count": 3, "position_start": 1}},
            {"shuffle_tags": True, "keep_tags": 1},
        ),
        (
            {"instance_prompt": "a sks", "prepend_instance_prompt": True},
            {"template": "a sks {caption}"},
        ),
        ({"disable_multiline_split": True}, {"caption_part": "file"}),
        ({"conditioning_data": "edits"}, {"references": "edits"}),
    ],
)
def test_options_of_a_data_set(clips, drawn, imported, loaded, options, shape):
    references = drawn("edits", "a_b.png")
    edits = masks("reference_strict", id="edits", instance_data_dir="edits")
    done = imported([images(**options), edits])
    if "references" in shape:
        shape = {"references": str(references)}
    assert {name: done.data[0].get(name) for name in shape} == shape
    loaded(done)


def test_mixed_sets_keep_their_ratio(clips, drawn, imported):
    drawn("more", "x.png", caption="x")
    more = images(id="more", instance_data_dir="more", repeats=1, probability=0.75)
    done = imported([images(), more])
    assert [table["repeats"] for table in done.data] == [2, 3]


def test_videos(clips, imported, loaded, notes):
    done = imported([images(dataset_type="video", video={"num_frames": 125, "min_frames": 125})])
    assert done.data[0]["frames"] == 125
    assert done.data[0]["fps"] == "own"
    assert notes(done)["[0].video.min_frames"][0].kind == "no equivalent"
    done = imported([images(dataset_type="video")])
    assert done.data[0]["frames"] == 150
    done = imported(
        [
            images(
                dataset_type="video",
                video={"bucket_strategy": "resolution_frames", "max_frames": 81},
            )
        ]
    )
    assert (done.data[0]["extract"], done.data[0]["max_frames"]) == ("full", 81)
    loaded(done)


def test_one_prompt_for_all_reads_no_caption_file(clips, imported, loaded, found):
    done = imported([images(caption_strategy="instanceprompt", instance_prompt="a sks")])
    assert {one.caption for one in found(loaded(done)).clips} == {"a sks"}


def test_names_are_the_captions_where_no_strategy_is_given(clips, imported, loaded, found, written):
    done = imported([images(caption_strategy=None, conditioning_data="masks"), masks()])
    seen = found(loaded(written(done))).clips
    assert [(one.name, one.caption) for one in seen] == [("a_b", "a b"), ("sub/c", "c")]
    assert dict(seen[1].masks) == {"": clips.parent / "masks/sub/c.png"}


def test_captions_of_a_table(clips, imported, loaded, found, written, tmp_path, notes):
    lines = [{"file": "a_b.png", "text": ""}, {"file": "c.png", "text": ["see", "saw"]}]
    lines[0]["tags"] = "spare"
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    table = {
        "path": "t.jsonl",
        "filename_column": "file",
        "caption_column": "text",
        "fallback_caption_column": "tags",
        "identifier_includes_extension": True,
        "width_column": "w",
        "height_column": "h",
    }
    done = imported([images(caption_strategy="parquet", parquet=table)])
    assert [one.caption for one in found(loaded(written(done))).clips] == ["spare", "see"]
    (tmp_path / "t.parquet").touch()
    table["path"] = "t.parquet"
    done = imported([images(caption_strategy="parquet", parquet=table)])
    assert notes(done)["[0].parquet.path"][0].kind == "no equivalent"


def test_sets_that_are_left_out_say_why(clips, imported, notes):
    done = imported(
        [
            images(),
            images(id="off", disabled=True),
            images(id="s3", type="aws", aws_secret_access_key="xyz"),
            images(id="reg", is_regularisation_data=True),
            images(id="held", dataset_type="eval"),
        ]
    )
    assert len(done.data) == 1
    told = notes(done)
    assert "download it" in told["[2].type"][0].message
    assert told["[2].aws_secret_access_key"][0].value == "(hidden)"
    assert "losses.prior" in told["[3].is_regularisation_data"][0].message
    assert "validation.holdout" in told["[4].dataset_type"][0].message


def test_the_trainer_brings_loss_optimizer_and_adapter(clips, imported, loaded, tmp_path):
    imported([images(conditioning_data="masks"), masks()], "config/sets.json")
    done = imported(
        {
            "--data_backend_config": "config/sets.json",
            "--caption_dropout_probability": 0.1,
            "--learning_rate": "1e-4",
            "--lr_scheduler": "polynomial",
            "--lr_warmup_steps": 100,
            "--optimizer": "bnb-adamw8bit",
            "--adam_weight_decay": 0.02,
            "--max_grad_norm": 0.5,
            "--num_train_epochs": 12,
            "--train_batch_size": 2,
            "--gradient_accumulation_steps": 3,
            "--checkpoint_step_interval": 100,
            "--checkpoints_total_limit": 5,
            "--seed": 42,
            "--mixed_precision": "bf16",
            "--gradient_checkpointing": "true",
            "--model_type": "lora",
            "--lora_rank": 8,
            "--use_ema": True,
            "--snr_gamma": 5,
            "--flow_schedule_shift": 3,
        },
        "config/config.json",
    )
    assert done.sections == {
        "losses": {"compat": "simpletuner"},
        "timesteps": {"min_snr": 5.0, "shift": 3.0},
        "lora": {
            "rank": 8,
            "alpha": 8,
            "dropout": 0.1,
            "targets": ["to_k", "to_q", "to_v", "to_out.0"],
            "format": "diffusers",
        },
        "optimizer": {
            "name": "adamw8bit",
            "lr": 1e-4,
            "weight_decay": 0.01,  # adam_weight_decay is DeepSpeed's alone
            "options": {"betas": [0.9, 0.999], "eps": 1e-6},
            "schedule": "polynomial",
            "power": 0.8,
            "final": 0.004,
            "warmup": 100,
            "clip": 0.0,  # it cuts values, not the norm
            "accumulate": 3,
            "ema": 0.995,
        },
        "memory": {"checkpointing": True},
        "run": {
            "batch": 2,
            "epochs": 12,
            "seed": 42,
            "save_every": 100,
            "keep": 5,
            "precision": "bfloat16",
        },
    }
    assert done.data[0]["caption_dropout"] == 0.1
    loaded(done)


@pytest.mark.parametrize(
    ("options", "model"),
    [
        ({"model_family": "flux"}, {"variant": "krea-dev"}),
        ({"model_family": "flux", "model_flavour": "kontext"}, {"variant": "kontext"}),
        (
            {"model_family": "wan", "model_flavour": "i2v-14b-2.2-low", "revision": "main"},
            {"variant": "2.2-i2v-a14b", "experts": "low", "revision": "main"},
        ),
        (
            {"model_family": "sd1x", "model_flavour": "dreamshaper"},
            {"family": "stable_diffusion", "variant": "sd15", "source": "Lykon/dreamshaper-8"},
        ),
        (
            {
                "model_family": "sdxl",
                "pretrained_model_name_or_path": "Laxhar/noobai-XL-Vpred-1.0",
                "prediction_type": "v_prediction",
            },
            {
                "family": "stable_diffusion",
                "variant": "sdxl-v",
                "source": "Laxhar/noobai-XL-Vpred-1.0",
            },
        ),
        ({"model_family": "qwen_image", "model_flavour": "edit-v2+"}, {"variant": "edit-2509"}),
        (
            {"model_family": "hunyuanvideo", "model_flavour": "i2v-720p"},
            {"family": "hunyuan_video", "variant": "1.5-720p-i2v"},
        ),
    ],
)
def test_which_model_is_trained(clips, imported, loaded, options, model):
    imported([images()])
    flags = {"data_backend_config": "multidatabackend.json", **options}
    done = imported(flags, "config.json")
    named = {"family": options["model_family"], "dtype": "bfloat16"} | model
    assert done.sections["model"] == named
    assert {note.option for note in done.notes if note.kind == "mapped"} >= set(options)
    loaded(done)


def test_weights_of_no_named_family_are_no_model(clips, imported, notes):
    imported([images()])
    flags = {"data_backend_config": "multidatabackend.json"}
    weights = {"pretrained_model_name_or_path": "black-forest-labs/FLUX.1-dev"}
    done = imported(flags | weights, "config.json")
    assert (done.model, "model" in done.sections) == ("", False)
    assert "no model_family" in notes(done)["pretrained_model_name_or_path"][0].message
    assert "pretrained_model_name_or_path" not in notes(imported(flags, "config.json"))


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("int8-quanto", "int8"), ("fp8-torchao", "fp8"), ("nf4-bnb", "nf4"), ("int2-quanto", None)],
)
def test_quantisation_where_there_is_the_like(clips, imported, notes, precision, kind):
    imported([images()])
    flags = {"model_family": "flux", "base_model_precision": precision}
    done = imported({"data_backend_config": "multidatabackend.json", **flags}, "config.json")
    assert done.sections.get("memory", {}).get("quantise") == kind
    (note,) = notes(done)["base_model_precision"]
    assert note.kind == ("mapped" if kind else "no equivalent")


def test_a_model_that_is_not_here_names_the_nearest(clips, imported, notes):
    imported([images()])
    flags = {"model_family": "wan", "model_flavour": "vace-14b-2.1", "model_type": "full"}
    done = imported({"data_backend_config": "multidatabackend.json", **flags}, "config.json")
    assert "model" not in done.sections
    assert done.model == "wan:vace-14b-2.1"
    told = notes(done)
    assert "nearest family is wan" in told["model_family"][0].message
    assert told["model_flavour"][0].kind == "no equivalent"
    assert "trains an adapter" in told["model_type"][0].message


def test_settings_beside_are_read_too(clips, imported, tmp_path, notes):
    (tmp_path / "config.env").write_text(
        "export MASKED_LOSS_PROBABILITY='0.5'\nTRAINING_SEED=7\nHF_TOKEN=abc\n# x\n"
    )
    done = imported([images(conditioning_data="masks"), masks("segmentation")])
    assert done.sections["curve"]["unmasked_probability"] == 0.5
    assert done.sections["run"]["seed"] == 7
    told = notes(done)
    assert told["config.env: seed"][0].line == 2
    assert told["config.env: hf_token"][0].value == "(hidden)"


def test_every_option_is_answered(clips, drawn, imported, tmp_path, complete, documented):
    rules = read_rules("simpletuner")
    left = {"is_regularisation_data", "is_regularization_data", "disabled", "disable", "parquet"}
    everything = dict.fromkeys(documented(rules, "backend") - left)
    everything |= images(
        conditioning_data="masks",
        resolution=1024,
        minimum_image_size=768,
        maximum_image_size=2048,
        crop=True,
        crop_style="face",
        crop_aspect="closest",
        start_epoch=1,
        start_step=5,
        grounding={"enabled": True},
        caption_shuffle={"enable": True, "seed": 3, "split_on": "space", "include_original": True},
        video={"num_frames": 5, "is_i2v": True, "frame_interval": 5},
        something_new=1,
    )
    done = imported([everything, masks(), TEXTS])
    tables = ("", "video", "caption_shuffle")
    complete(done, tmp_path / "multidatabackend.json", tables)
    unknown = [note.option for note in done.notes if "documents no such option" in note.message]
    assert unknown == ["[0].something_new"]
    flags = dict.fromkeys(documented(rules, "trainer"))
    flags |= {"data_backend_config": "multidatabackend.json", "crepa_lambda": 1}
    done = imported(flags, "config.json")
    complete(done, tmp_path / "config.json", ())


def test_it_knows_its_own_files(clips, imported, tmp_path):
    imported([images(), TEXTS])
    imported({"--data_backend_config": "multidatabackend.json"}, "config.json")
    (tmp_path / "other.json").write_text('[{"path": "x", "image": {}, "text": {}}]')
    assert LAYOUT.matches(tmp_path / "multidatabackend.json")
    assert LAYOUT.matches(tmp_path / "config.json")
    assert not LAYOUT.matches(tmp_path / "other.json")
