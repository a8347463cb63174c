"""A diffusion-pipe configuration becomes the same training here, and every option is answered."""

import pytest
from tests.importers.trainers.diffusion_pipe import files
from tests.importers.trainers.diffusion_pipe.files import DATASET, LAYOUT, MAIN, dataset

from frisket.importers.options import read_rules

project = files.project


def test_one_table_a_directory_and_resolution(project, loaded):
    imported = LAYOUT.read(project / "dataset.toml")
    grey = {
        "clips": str(project / "grey"),
        "masks": {
            "source": "folder",
            "path": str(project / "grey/masks"),
            "unmasked": "train",
        },
        "caption_part": "file",
        "template": "sks man, {caption}",
        "shuffle_tags": True,
        "buckets": True,
        "frames": [33, 65],
        "extract": "head",
        # Two repeats of ten orders of a caption.
        "repeats": 20,
    }
    edit = {
        "clips": "clips-0.jsonl",
        "masks": {"source": "listed"},
        "references": str(project / "edit/control"),
        "caption_part": "file",
        "shuffle_tags": True,
        "resolution": [512, 768],
        "buckets": False,
        "frames": 1,
        "extract": "head",
        "repeats": 5,
    }
    assert imported.data == (
        grey | {"resolution": 512},
        grey | {"resolution": [1280, 720]},
        edit,
    )
    ((line,),) = imported.manifests.values()
    assert line["mask"] == str(project / "white.png")
    assert imported.sections == {"losses": {"compat": "diffusion-pipe"}}
    assert loaded(imported).losses.compat == "diffusion-pipe"


def test_clips_masks_and_captions_are_found_as_it_finds_them(project, loaded, found):
    seen = found(loaded(LAYOUT.read(project / "dataset.toml"))).clips
    assert [(one.name, one.caption) for one in seen] == [
        ("a", "tag one, tag two"),
        ("b", "tag one, tag two"),
    ]
    assert [dict(one.masks) for one in seen] == [{"": project / "grey/masks/a.webp"}, {}]


def test_the_main_file_brings_loss_optimizer_and_adapter(project, loaded, notes):
    imported = LAYOUT.read(project / "main.toml")
    assert imported.sections == {
        "model": {"family": "wan", "dtype": "bfloat16"},
        "losses": {"compat": "diffusion-pipe", "denoise": {"kind": "huber", "delta": 0.5}},
        "timesteps": {
            "density": "logit_normal",
            "std": 1.5,
            "shift": 3.0,
            "low": 0.1,
            "high": 0.9,
            "bounds": "cut",
        },
        "lora": {
            "kind": "lora",
            "rank": 32,
            "alpha": 32,
            "dropout": 0.1,
            "source": "/runs/epoch50/adapter_model.safetensors",
            "exclude": ["x"],
            "preset": "blocks",
        },
        "optimizer": {
            "name": "adamw",
            "lr": 2e-5,
            "weight_decay": 0.02,
            "options": {"betas": [0.9, 0.99], "eps": 1e-8},
            "schedule": "linear",
            "warmup": 100,
            "final": 1.0,  # its warm-up is longer than its 70 steps
            "clip": 0.0,
            "accumulate": 3,
        },
        "memory": {
            "checkpointing": True,
            "compile": True,
            "swap_blocks": 20,
            "storage": "float8",
        },
        "validation": {
            "every": 0,
            "every_epochs": 1,
            "data": [
                {
                    "clips": str(project / "held"), "caption_part": "file", "extract": "middle",
                    "resolution": [256, 256], "buckets": False, "frames": 1,
                }
            ],
        },
        # Half of the clips an epoch: ours is two of its own, and ten of them end before 500 steps.
        "run": {
            "batch": 2, "epochs": 5, "save_every": 50, "save_every_epochs": 1, "keep": 1000,
            "precision": "bfloat16",
        },
    }  # fmt: skip
    loaded(imported)
    told = notes(imported)
    assert told["video_clip_mode"][0].kind == "mapped"
    assert {table["extract"] for table in imported.data} == {"middle"}
    assert {table["caption_dropout"] for table in imported.data} == {0.1}


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("type = 'sdxl'\nv_pred = true", {"family": "stable_diffusion", "variant": "sdxl-v"}),
        ("type = 'flux'\ndiffusers_path = 'x/FLUX.1-dev'", {"family": "flux", "variant": "dev"}),
        (
            "type = 'flux'\ntransformer_path = 'm/flux1-kontext-dev.safetensors'"
            "\ndiffusers_path = 'FLUX.1-dev'",
            {"family": "flux", "variant": "kontext", "source": "m/flux1-kontext-dev.safetensors"},
        ),
        (
            "type = 'wan'\nckpt_path = 'm/Wan2.2-T2V-A14B'"
            "\ntransformer_path = 'm/Wan2.2-T2V-A14B/low_noise_model'",
            {"family": "wan", "variant": "2.2-t2v-a14b", "experts": "low"},
        ),
        (
            "type = 'wan'\ntransformer_path = 'm/wan2.1_t2v_1.3B_bf16.safetensors'",
            {"family": "wan", "variant": "2.1-t2v-1.3b"},
        ),
        (
            "type = 'hunyuan_video_15'\ndiffusion_model = 'hunyuanvideo1.5_480p_i2v.safetensors'",
            {"family": "hunyuan_video", "variant": "1.5-480p-i2v"},
        ),
        (
            "type = 'qwen_image'\ndiffusers_path = 'own'",
            {"family": "qwen_image", "variant": "image", "source": "own"},
        ),
        ("type = 'hunyuan-video'", {"family": "hunyuan_video", "variant": "t2v"}),
    ],
)
def test_which_model_is_trained(project, loaded, model, named):
    (project / "own/transformer").mkdir(parents=True)
    (project / "m").mkdir()
    (project / "m/flux1-kontext-dev.safetensors").touch()
    if "source" in named:
        named = named | {"source": str(project / named["source"])}
    (project / "main.toml").write_text(f"dataset = 'dataset.toml'\n[model]\n{model}\n")
    imported = LAYOUT.read(project / "main.toml")
    assert imported.sections["model"] == named
    loaded(imported)


def test_weights_that_cannot_be_read_say_so(project, notes):
    (project / "Wan2.1-T2V-1.3B").mkdir()
    (project / "main.toml").write_text(
        "dataset = 'dataset.toml'\n[model]\ntype = 'wan'\nckpt_path = 'Wan2.1-T2V-1.3B'\n"
    )
    imported = LAYOUT.read(project / "main.toml")
    assert imported.sections["model"] == {"family": "wan", "variant": "2.1-t2v-1.3b"}
    (note,) = notes(imported)["model.ckpt_path"]
    assert note.kind == "no equivalent"
    assert "not in the layout of diffusers" in note.message


def test_a_model_that_is_not_here_names_the_nearest(project, notes):
    text = "dataset = 'dataset.toml'\n[model]\ntype = 'cosmos'\ndtype = 'bfloat16'\n"
    (project / "main.toml").write_text(text)
    imported = LAYOUT.read(project / "main.toml")
    assert "model" not in imported.sections
    assert imported.model == "cosmos"
    assert "there are flux, flux2, hunyuan_video" in notes(imported)["model.type"][0].message


def test_steps_end_a_run_before_its_epochs(project):
    (project / "main.toml").write_text(MAIN.replace("max_steps = 500", "max_steps = 50"))
    assert LAYOUT.read(project / "main.toml").sections["run"]["steps"] == 50


def test_every_option_is_answered(project, complete, documented):
    imported = LAYOUT.read(project / "main.toml")
    complete(imported, project / "main.toml", ("model", "adapter", "optimizer"))
    complete(imported, project / "dataset.toml", ("directory",), "dataset.toml: ")
    rules = read_rules("diffusion_pipe")
    for name in documented(rules, "directory"):
        assert name in DATASET, name


def test_unknown_options_name_the_nearest(tmp_path, drawn, notes):
    drawn("a", "a.png", caption="x")
    imported = dataset(tmp_path, "resolutions = [64]\n[[directory]]\npath = 'a'\nmask_pth = 'x'\n")
    (note,) = notes(imported)["directory[0].mask_pth"]
    assert (note.kind, note.line) == ("no equivalent", 4)
    assert "did you mean 'mask_path'" in note.message


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("resolutions = [512]", {"resolution": [512, 512], "buckets": False, "frames": 1}),
        (
            "resolutions = [[448, 576]]\nar_buckets = [[448, 576]]\nenable_ar_bucket = true",
            {"resolution": [448, 576], "buckets": False, "frames": 1},
        ),
        (
            "resolutions = [512.0]\nenable_ar_bucket = true\nmin_ar = 0.5",
            {"resolution": 512, "buckets": True, "frames": 1},
        ),
        (
            "size_buckets = [[256, 256, 17], [512, 256, 33]]",
            {"resolution": [512, 256], "buckets": True, "frames": [17, 33]},
        ),
    ],
)
def test_buckets(tmp_path, drawn, options, shape):
    drawn("a", "a.png", caption="x")
    (table,) = dataset(tmp_path, f"{options}\n[[directory]]\npath = 'a'\n").data
    assert {name: table[name] for name in shape} == shape


def test_without_masks_the_loss_is_our_own(tmp_path, drawn):
    drawn("a", "a.png", caption="x")
    assert dataset(tmp_path, "resolutions = [64]\n[[directory]]\npath = 'a'\n").sections == {}


def test_clips_it_did_not_see_are_told(tmp_path, drawn, notes):
    drawn("a", "a.png", "deep/b.png", caption="x")
    (tmp_path / "a/old.mp4").touch()
    imported = dataset(tmp_path, "resolutions = [64]\n[[directory]]\npath = 'a'\n")
    ((line,),) = imported.manifests.values()
    assert line["name"] == "a"
    told = notes(imported)
    assert "1 clips lie in sub-folders" in told["directory[0].path"][0].message
    assert "drops the 1" in told["frame_buckets"][0].message


def test_it_knows_its_own_files(project, tmp_path):
    assert LAYOUT.matches(project / "dataset.toml")
    assert LAYOUT.matches(project / "main.toml")
    (tmp_path / "other.toml").write_text("[[datasets]]\nresolution = 512\n")
    assert not LAYOUT.matches(tmp_path / "other.toml")
    assert not LAYOUT.matches(tmp_path)
