"""sd-scripts' data sets and training files, read as they were meant."""

import json
import tomllib

import pytest
from tests.importers.trainers.kohya import files
from tests.importers.trainers.kohya.files import EVERYTHING, config_of, draw, found_by, notes_of

from frisket.importers.base import IMPORT_FORMATS, BadImport
from frisket.importers.trainers.kohya.read import FORMAT

write, photos, everything = files.write, files.photos, files.everything


def test_every_option_of_a_dataset_file(everything, photos):
    imported = FORMAT.read(everything)
    cats, dogs, reg = imported.data
    common = {"resolution": 512, "buckets": True, "enlarge": False, "caption_part": "line",
              "caption_extension": ".caption", "shuffle_tags": True}  # fmt: skip
    assert cats == common | {
        "clips": str(photos / "cats"),
        "masks": {"source": "folder", "path": str(photos / "masks"), "require": True},
        "caption": "a cat",
        "template": "photo, {caption} , 4k",
        "caption_dropout": 0.1,
        "keep_tags": 1,
        "flip": True,
    }
    # 3 x 2 + 2 x 3 pictures, so the one reg picture is seen 12 times; a flipped set is twice as
    # long here, so it is repeated half as often.
    assert [each.get("repeats", 1) for each in imported.data] == [1, 3, 12]
    assert dogs["masks"] == "alpha"
    assert dogs["keep_tags"] == "|||"
    assert "masks" not in reg
    assert "weight" not in reg  # prior_loss_weight is 1 there, too
    assert imported.sections == {
        "losses": {"compat": "kohya"},
        "run": {"batch": 4},
        "validation": {"holdout": 2},
    }
    config_of(imported)


def test_every_written_option_has_one_note_with_its_line(everything):
    imported = FORMAT.read(everything)
    told = [note for note in imported.notes if note.kind != "defect"]
    assert len({note.option for note in told}) == len(told)
    tree = tomllib.loads(EVERYTHING)
    written = len(tree["general"]) + sum(
        len(dataset) - 1 + sum(map(len, dataset["subsets"])) for dataset in tree["datasets"]
    )
    assert sum(note.line is not None for note in told) == written
    lines = EVERYTHING.split("\n")
    assert all(note.option.rpartition(".")[2] in lines[note.line - 1] for note in told if note.line)
    lost = notes_of(imported, "no equivalent")
    assert {each.rpartition(".")[2] for each in lost} == {
        "network_multiplier", "caption_dropout_every_n_epochs", "caption_tag_dropout_rate",
        "color_aug", "random_crop", "face_crop_aug_range", "caption_separator",
        "secondary_separator", "enable_wildcard", "token_warmup_step",
    }  # fmt: skip


def test_clips_masks_and_captions_are_found_as_it_found_them(everything, photos):
    cats, dogs, reg = config_of(FORMAT.read(everything)).data
    found = found_by(cats, photos)
    assert [one.caption for one in found] == ["1girl, sks, hat", "a dog", "a cat"]
    assert all(one.masks[""] == photos / "masks" / one.clip.name for one in found)
    assert all(one.alpha for one in found_by(dogs, photos))
    assert [one.caption for one in found_by(reg, photos)] == ["animal"]


def test_general_and_dataset_options_reach_every_subset(photos, write):
    text = """
    [general]
    num_repeats = 5
    [[datasets]]
    resolution = [640, 512]
    flip_aug = true
    caption_dropout_rate = 0.3
    [[datasets.subsets]]
    image_dir = "cats"
    [[datasets.subsets]]
    image_dir = "cats"
    flip_aug = false
    num_repeats = 1
    caption_dropout_rate = 0
    """
    first, second = FORMAT.read(write(text)).data
    assert (first["repeats"], second["repeats"]) == (5, 2)  # flipped is half an epoch there
    assert (first["caption_dropout"], "caption_dropout" in second) == (0.3, False)
    assert (first["resolution"], first["buckets"]) == ([640, 512], False)


def test_metadata_becomes_a_manifest(photos, write):
    metadata = {
        "a": {"caption": "a cat", "tags": "hat, sitting"},
        str(photos / "cats" / "b.png"): {"tags": "dog"},
    }
    write(json.dumps(metadata), "meta_cap.json")
    text = "[[datasets]]\nresolution = 64\n[[datasets.subsets]]\n"
    imported = FORMAT.read(write(text + 'image_dir = "cats"\nmetadata_file = "meta_cap.json"\n'))
    config = config_of(imported)
    assert imported.data[0]["clips"] == "meta_cap.jsonl"
    found = found_by(config.data[0], photos)
    assert [(one.name, one.caption) for one in found] == [
        ("a", "a cat, hat, sitting"),
        ("b", "dog"),
    ]
    assert config.losses.compat == ""
    lines = '{"image_path": "cats/a.png", "caption": "x"}\n\n{"image_path": "gone.png"}\n'
    write(lines, "meta.jsonl")
    with pytest.raises(BadImport, match=r"meta\.jsonl line 3: 'gone\.png' is not there"):
        FORMAT.read(write(text + 'image_dir = "."\nmetadata_file = "meta.jsonl"\n'))


def test_pictures_it_would_not_have_taken_are_left_out(photos, write):
    draw(photos / "cats" / "deeper" / "d.png")
    text = '[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = "cats"\n'
    imported = FORMAT.read(write(text + 'conditioning_data_dir = "masks"\n'))
    config = config_of(imported)
    assert config.data[0].masks.source == "listed"
    found = found_by(config.data[0], photos)
    assert [one.name for one in found] == ["a", "b", "c"]
    assert all(one.masks[""].parent == photos / "masks" for one in found)
    assert found[0].caption == "1girl, sks, hat"


def test_folders_by_number_and_name(tmp_path):
    for folder, names in {"img/10_sks cat": "ab", "img/2_dog": "a", "reg/1_cat": "abc"}.items():
        for name in names:
            draw(tmp_path / folder / f"{name}.jpg")
    (tmp_path / "img" / "notes").mkdir()
    (tmp_path / "img" / "10_sks cat" / "a.txt").write_text("sitting")
    for folder in (tmp_path, tmp_path / "img"):
        assert FORMAT.matches(folder)
    imported = FORMAT.read(tmp_path)
    cat, dog, reg = imported.data
    assert (cat["clips"], cat["caption"]) == (str(tmp_path / "img" / "10_sks cat"), "sks cat")
    assert [each.get("repeats", 1) for each in imported.data] == [10, 2, 7]  # 22 / 3 reg pictures
    assert (dog["caption"], reg["caption"]) == ("dog", "cat")
    found = found_by(config_of(imported).data[0], tmp_path)
    assert [one.caption for one in found] == ["sitting", "sks cat"]


TRAINING = """
pretrained_model_name_or_path = "runwayml/sd"
[somewhere]
dataset_config = "set.toml"
masked_loss = true
prior_loss_weight = 0.5
learning_rate = 1e-4
unet_lr = 5e-5
text_encoder_lr = 1e-5
optimizer_type = "AdamW8bit"
optimizer_args = ["weight_decay=0.1", "betas=0.9,0.99"]
lr_scheduler = "cosine"
lr_warmup_steps = 0.1
max_train_epochs = 10
gradient_accumulation_steps = 2
mixed_precision = "bf16"
gradient_checkpointing = true
network_module = "networks.lora"
network_dim = 32
network_alpha = 16
network_train_unet_only = true
min_snr_gamma = 5
max_timestep = 900
loss_type = "l1"
noise_offset = 0.05
seed = 42
save_every_n_steps = 100
save_last_n_steps = 300
output_dir = "out"
output_name = "cats"
log_with = "all"
sample_prompts = "prompts.txt"
sample_every_n_steps = 50
huggingface_token = ""
lerning_rate = 1
"""


def test_a_training_file_brings_the_sections(photos, write):
    write('[[datasets]]\nresolution = 1024\n[[datasets.subsets]]\nimage_dir = "cats"\n'
          'conditioning_data_dir = "masks"\nnum_repeats = 4\nalpha_mask = false\n')  # fmt: skip
    write("a cat --n bad --w 512\n# no\n\na dog\n", "prompts.txt")
    imported = FORMAT.read(write(TRAINING, "train.toml"))
    assert imported.sections == {
        "model": {"family": "stable_diffusion", "variant": "sdxl", "source": "runwayml/sd",
                  "dtype": "bfloat16"},
        "losses": {"compat": "kohya", "denoise": {"strength": 1.0, "kind": "l1"}},
        "timesteps": {"high": 0.9, "min_snr": 5.0},
        "lora": {"rank": 32, "alpha": 16.0},
        "memory": {"checkpointing": True},
        "noise": {"offset": 0.05},
        "optimizer": {"name": "adamw8bit", "lr": 5e-5, "weight_decay": 0.1, "warmup": 0.1,
                      "options": {"betas": [0.9, 0.99]}, "accumulate": 2, "schedule": "cosine"},
        "preview": {"every": 50, "prompts": ["a cat", "a dog"]},
        "run": {"batch": 1, "epochs": 10, "seed": 42, "precision": "bfloat16", "save_every": 100,
                "keep": 4, "output": "out/cats", "trackers": ["tensorboard", "wandb"]},
    }  # fmt: skip
    config_of(imported)
    unknown = notes_of(imported, "no equivalent")["somewhere.lerning_rate"]
    assert "documents no such option, did you mean 'learning_rate'?" in unknown.message
    assert "set.toml: datasets[0].subsets[0].num_repeats" in notes_of(imported, "mapped")


def test_defaults_that_differ_are_written_out(photos, write):
    draw(photos / "train" / "1_x" / "a.png")
    text = (
        'network_module = "networks.lora_flux"\ntrain_data_dir = "train"\nresolution = "512,768"\n'
    )
    imported = FORMAT.read(write(text))
    assert imported.data[0]["resolution"] == [512, 768]
    assert imported.data[0]["buckets"] is False
    assert imported.sections["optimizer"] == {
        "name": "adamw", "lr": 2e-6, "weight_decay": 0.01, "schedule": "constant",
    }  # fmt: skip
    assert imported.sections["lora"] == {"rank": 4, "alpha": 1.0}
    assert imported.sections["run"] == {"batch": 1, "steps": 1600, "save_every": 0}
    assert imported.sections["timesteps"] == {"density": "uniform", "shift": 3.0}
    config_of(imported)


def test_it_is_told_apart_from_others(photos, write, everything):
    assert FORMAT.matches(everything)
    assert FORMAT.matches(write(TRAINING, "train.toml"))
    assert FORMAT.matches(write('{"datasets": [{"subsets": []}]}', "a.json"))
    assert not FORMAT.matches(write("[[datasets]]\nimage_directory = 'x'\n", "musubi.toml"))
    assert not FORMAT.matches(write("[[data]]\nclips = 'x'\n", "frisket.toml"))
    assert not FORMAT.matches(photos)
    assert "kohya" in IMPORT_FORMATS.names()
