"""musubi-tuner's and blissful-tuner's data sets and training files, read as they were meant."""

import json
import tomllib

import pytest
from tests.importers.trainers.musubi import files
from tests.importers.trainers.musubi.files import config_of, draw, found_by, notes_of

from frisket.importers.trainers.musubi.read import FORMAT
from frisket.media.folders.references import find_references

write, media = files.write, files.media

EVERYTHING = """
[general]
caption_extension = ".txt"
resolution = [1000, 544]
batch_size = 2
enable_bucket = true
bucket_no_upscale = true

[[datasets]]
image_directory = "cats"
cache_directory = "/nowhere/cache"
control_directory = "control"
mask_directory = "masks"
require_mask = true
num_repeats = 3
multiple_target = false
no_resize_control = true
control_resolution = [512, 512]
flux_kontext_no_resize_control = true
qwen_image_edit_no_resize_control = true
qwen_image_edit_control_resolution = 1024
fp_latent_window_size = 9
fp_1f_clean_indices = [0]
fp_1f_target_index = 1
fp_1f_no_post = true
batch_size = 4
debug_dataset = false

[[datasets]]
video_directory = "films"
caption_extension = ".cap"
mask_directory = "filmmasks"
resolution = 512
target_frames = [1, 9, 5]
frame_extraction = "uniform"
frame_sample = 4
frame_stride = 10
max_frames = 81
source_fps = 30.0
control_directory = "control"

[[datasets]]
video_directory = "films"
caption_extension = ".cap"
frame_extraction = "full"
max_frames = 45
"""


def test_every_option_of_a_dataset_file(media, write):
    imported = FORMAT.read(write(EVERYTHING))
    cats, *films, full = imported.data
    assert cats == {
        "clips": "cats.jsonl",  # c.png has no caption, so it was not trained
        "masks": {"source": "listed", "require": True},
        "caption_part": "file",
        "resolution": [992, 544],  # whole steps of 16
        "buckets": True,
        "enlarge": False,
        "repeats": 3,
    }
    shared = {
        "clips": str(media / "films"),
        "masks": {"source": "folder", "path": str(media / "filmmasks")},
        "caption_extension": ".cap",
        "caption_part": "file",
        "resolution": [512, 512],
        "buckets": True,
        "enlarge": False,
        "extract": "uniform",
        "samples": 4,
    }
    assert films == [shared | {"frames": frames} for frames in (1, 5, 9)]
    assert (full["extract"], full["max_frames"], full["fps"]) == ("full", 45, "own")
    assert imported.sections == {"losses": {"compat": "blissful"}, "run": {"batch": 4}}
    config_of(imported)


def test_clips_masks_captions_and_references_are_found_as_it_found_them(media, write):
    config = config_of(FORMAT.read(write(EVERYTHING)))
    cats, film, *_ = config.data
    found = found_by(cats, media)
    assert [one.name for one in found] == ["a", "b"]
    assert found[0].caption == "a\n\nsecond paragraph"
    assert [one.masks[""] for one in found] == [media / "masks" / f"{name}.png" for name in "ab"]
    (one,) = found_by(film, media)
    assert (one.caption, one.masks) == ("a film", {"": media / "filmmasks" / "v.png"})


def test_references_by_folder_where_its_names_are_ours(media, write):
    (media / "cats" / "c.txt").write_text("c")
    text = '[[datasets]]\nimage_directory = "cats"\ncontrol_directory = "control"\n'
    imported = FORMAT.read(write(text + 'caption_extension = ".txt"\n'))
    assert imported.data[0]["references"] == str(media / "control")
    config = config_of(imported)
    names = [one.name for one in found_by(config.data[0], media)]
    assert len(find_references(config.data[0].references, names)) == 3
    draw(media / "control" / "a_0.png")  # beside a.png: one kind only for Frisket, both for musubi
    (listed,) = found_references(FORMAT.read(write(text + 'caption_extension = ".txt"\n')), media)
    assert [path.name for path in listed] == ["a.png", "a_0.png"]


def found_references(imported, folder):
    config = config_of(imported)
    found = found_by(config.data[0], folder)
    return [one.references for one in found if one.name == "a"]


def test_every_written_option_has_one_note_with_its_line(media, write):
    imported = FORMAT.read(write(EVERYTHING))
    told = [note for note in imported.notes if note.kind != "defect"]
    tree = tomllib.loads(EVERYTHING)
    written = len(tree["general"]) + sum(map(len, tree["datasets"]))
    assert len(told) == len({note.option for note in told}) == written
    lines = EVERYTHING.split("\n")
    assert all(note.option.rpartition(".")[2] in lines[note.line - 1] for note in told)
    lost = {each.rpartition(".")[2] for each in notes_of(imported, "no equivalent")}
    assert lost == {
        "batch_size", "no_resize_control", "control_resolution", "control_directory",
        "flux_kontext_no_resize_control", "qwen_image_edit_no_resize_control",
        "qwen_image_edit_control_resolution", "fp_1f_clean_indices", "fp_1f_target_index",
        "fp_1f_no_post",
    }  # fmt: skip


def test_defaults_that_differ_are_written_out(media, write):
    imported = FORMAT.read(write('[[datasets]]\nvideo_directory = "films"\n'))
    assert imported.data == (
        {
            "clips": str(media / "films"),
            "caption_part": "file",
            "resolution": [960, 544],
            "buckets": False,
            "frames": 1,
            "extract": "head",
            "fps": "own",
        },
    )
    assert imported.sections == {"run": {"batch": 1}}


def test_lists_of_pictures_and_videos(media, write):
    lines = [
        {"image_path": "cats/a.png", "caption": "one\ntwo", "control_path": "control/a.png"},
        {"image_path": "cats/c.png", "caption": "three", "control_path_1": "control/b.png",
         "control_path_0": "control/c.png"},
    ]  # fmt: skip
    write("\n".join(map(json.dumps, lines)), "cats.jsonl")
    write(json.dumps({"video_path": "films/v.mp4", "caption": "a film"}) + "\n", "films.jsonl")
    draw(media / "frames" / "000.png")
    write(json.dumps({"video_path": str(media / "frames"), "caption": "still"}), "frames.jsonl")
    imported = FORMAT.read(
        write(
            '[[datasets]]\nimage_jsonl_file = "cats.jsonl"\nmask_directory = "masks"\n'
            '[[datasets]]\nvideo_jsonl_file = "films.jsonl"\ntarget_frames = [5]\n'
            '[[datasets]]\nvideo_jsonl_file = "frames.jsonl"\ntarget_frames = [1]\n'
        )
    )
    (media / "out").mkdir()
    config = config_of(imported)
    cats, films, frames = (found_by(data, media) for data in config.data)
    assert [(one.name, one.caption) for one in cats] == [("a", "one\ntwo"), ("c", "three")]
    assert [path.name for path in cats[1].references] == ["c.png", "b.png"]
    assert cats[1].masks[""] == media / "masks" / "c.png"
    assert [(one.clip, one.caption) for one in films] == [(media / "films" / "v.mp4", "a film")]
    assert frames[0].clip == media / "frames"


def test_alpha_alone_and_beside_a_folder(media, write):
    draw(media / "clear" / "a.png", "RGBA")
    (media / "clear" / "a.txt").write_text("a")
    text = '[[datasets]]\nimage_directory = "clear"\nalpha_mask = true\n'
    imported = FORMAT.read(write(text))
    assert imported.data[0]["masks"] == "alpha"
    assert found_by(config_of(imported).data[0], media)[0].alpha
    both = FORMAT.read(write(text + 'mask_directory = "masks"\n'))
    assert both.data[0]["masks"]["source"] == "folder"
    said = notes_of(both, "no equivalent")["datasets[0].alpha_mask"].message
    assert "the alpha goes before the mask folder there" in said
    opaque = FORMAT.read(write(text.replace("clear", "cats")))
    assert "masks" not in opaque.data[0] or opaque.data[0]["masks"] == "none"
    assert "losses" not in opaque.sections


def test_captions_in_a_folder_of_their_own(media, write):
    (media / "texts").mkdir()
    for name in ("a", "b", "c"):
        (media / "texts" / f"{name}.txt").write_text(f"other {name}")
    text = '[[datasets]]\nimage_directory = "cats"\ncaption_directory = "texts"\n'
    imported = FORMAT.read(write(text + 'caption_extension = ".txt"\n'))
    found = found_by(config_of(imported).data[0], media)
    assert [one.caption for one in found] == ["other a", "other b", "other c"]


TRAINING = """
[model]
task = "t2v-A14B"
dit = "low.safetensors"
dit_high_noise = "high.safetensors"
vae = "vae.safetensors"
[dataset]
dataset_config = "set.toml"
[network]
network_module = "networks.lora_wan"
network_dim = 32
network_alpha = 32
[training]
use_mask_loss = true
mask_gamma = 0.7
mask_min_weight = 0.05
mask_blur_kernel_size = 3
mask_area_scale_beta = 0.5
normalize_per_sample = true
prior_preservation_weight = 1.0
prior_mask_threshold = 0.1
prior_preservation_timestep_threshold = 300
prior_decay_warmup_ratio = 0.1
prior_decay_schedule = "cosine"
prior_teacher_mode = "ema"
prior_teacher_ema_decay = 0.99
prior_teacher_eval = true
timestep_sampling = "shift"
discrete_flow_shift = 3.0
timestep_boundary = 875
learning_rate = 1e-4
max_train_steps = 500
fp8_base = true
fp8_scaled = true
sdpa = true
blocks_to_swap = 10
"""


def test_a_training_file_brings_model_loss_and_prior(media, write):
    write('[[datasets]]\nimage_directory = "cats"\nmask_directory = "masks"\n')
    imported = FORMAT.read(write(TRAINING, "train.toml"))
    assert imported.sections == {
        "model": {"family": "wan", "variant": "2.2-t2v-a14b"},
        "losses": {
            "compat": "blissful",
            "normalise": "sample",
            "beta": 0.5,
            "prior": {"strength": 1.0, "threshold": 0.1, "t_min": 0.3, "warmup": 0.1,
                      "teacher": "ema"},
        },
        "curve": {"gamma": 0.7, "floor": 0.05},
        "optimizer": {"name": "adamw", "lr": 1e-4, "weight_decay": 0.01, "schedule": "constant",
                      "ema": 0.99},
        "run": {"steps": 500, "save_every": 0, "batch": 1},
        "lora": {"rank": 32, "alpha": 32.0},
        "memory": {"quantise": "fp8", "swap_blocks": 10},
        "timesteps": {"density": "logit_normal", "std": 1.0, "shift": 3.0},
    }  # fmt: skip
    config_of(imported)
    lost = notes_of(imported, "no equivalent")
    assert {"training.mask_blur_kernel_size", "training.prior_decay_schedule"} <= set(lost)
    assert "masks.feather" in lost["training.mask_blur_kernel_size"].message


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("network_module = 'networks.lora_wan'\ntask = 't2v-A14B'\nmin_timestep = 875\n",
         {"family": "wan", "variant": "2.2-t2v-a14b", "experts": "high"}),
        ("network_module = 'networks.lora_wan'\ntask = 'i2v-A14B'\nmax_timestep = 900\n",
         {"family": "wan", "variant": "2.2-i2v-a14b", "experts": "low"}),
        ("network_module = 'networks.lora_qwen_image'\nedit_plus = true\n",
         {"family": "qwen_image", "variant": "edit-2509"}),
        ("network_module = 'networks.lora_flux_2'\nmodel_version = 'klein-4b'\n",
         {"family": "flux2", "variant": "klein-4b"}),
        ("network_module = 'networks.lora_zimage'\nmixed_precision = 'bf16'\n",
         {"family": "z_image", "variant": "base", "dtype": "bfloat16"}),
        ("network_module = 'networks.lokr'\ntask = 't2v-14B'\n",
         {"family": "wan", "variant": "2.1-t2v-14b"}),
        ("network_module = 'networks.lora_kandinsky'\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_which_model_is_trained(media, write, text, model):
    write('[[datasets]]\nimage_directory = "cats"\n')
    text = "dit = 'x'\ndataset_config = 'set.toml'\n" + text
    assert FORMAT.read(write(text, "train.toml")).sections.get("model") == model


def test_it_is_told_apart_from_others(media, write):
    assert FORMAT.matches(write(EVERYTHING))
    assert FORMAT.matches(write(TRAINING, "train.toml"))
    assert not FORMAT.matches(
        write("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'x'\n", "k.toml")
    )
    assert not FORMAT.matches(write("[[data]]\nclips = 'x'\n", "frisket.toml"))
    assert not FORMAT.matches(media)


def test_what_bends_the_cached_pixels_is_not_what_bends_the_cells_later(media, write):
    write(
        '[[datasets]]\nimage_directory = "cats"\nmask_directory = "masks"\n'
        '[[datasets]]\nvideo_directory = "films"\ntarget_frames = [1]\n'
    )
    lines = (
        'dataset_config = "set.toml"\nnetwork_module = "networks.lora_wan"\ntask = "t2v-1.3B"\n'
        "use_mask_loss = true\nmask_gamma = 0.7\nmask_min_weight = 0.05\n"
        "cache_mask_gamma = 0.5\ncache_mask_min_weight = 0.1\nmask_area_scale_beta = 1.5\n"
    )
    imported = FORMAT.read(write(lines, "train.toml"))
    masked, plain = imported.data
    assert {"pixel_gamma": 0.5, "pixel_floor": 0.1}.items() <= masked["masks"].items()
    assert "pixel" not in str(plain)
    assert imported.sections["curve"] == {"gamma": 0.7, "floor": 0.05}
    assert imported.sections["losses"]["beta"] == 1.5
    config = config_of(imported)
    assert config.data[0].masks.pixel_gamma == 0.5
    assert "pixel_floor" in notes_of(imported, "mapped")["cache_mask_min_weight"].message
