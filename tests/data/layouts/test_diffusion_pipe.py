"""A diffusion-pipe configuration becomes the same training here, and every option is answered."""

import pytest

from frisket.data.layout_base import LAYOUTS, BadLayout
from frisket.data.layout_options import rules_of

LAYOUT = LAYOUTS.load("diffusion_pipe")

DATASET = """
resolutions = [512, [1280, 720]]
enable_ar_bucket = true
min_ar = 0.5
max_ar = 2.0
num_ar_buckets = 7
frame_buckets = [1, 33, 65]
cache_shuffle_num = 10
cache_shuffle_delimiter = ", "
shuffle_metadata = true
subsample_ratio = 0.5
online_captions = false

[[directory]]
path = 'grey'
mask_path = 'grey/masks'
num_repeats = 2
caption_prefix = 'sks man, '
skip_empty_caption = false

[[directory]]
path = 'edit/target'
control_path = 'edit/control'
num_repeats = 0.5
enable_ar_bucket = false
resolutions = [512]
frame_buckets = [1]
shuffle_tags = true
size_buckets = [[512, 768, 1]]
ar_buckets = [1.0, 1.5]
default_mask_file = 'white.png'
"""

MAIN = """
output_dir = '/data/runs'
dataset = 'dataset.toml'
epochs = 10
max_steps = 500
micro_batch_size_per_gpu = 2
image_micro_batch_size_per_gpu = 4
pipeline_stages = 1
gradient_accumulation_steps = 3
gradient_clipping = 0
warmup_steps = 100
lr_scheduler = 'linear'
blocks_to_swap = 20
huber_delta = 0.5
pseudo_huber_c = 0.5
eval_every_n_epochs = 1
eval_before_first_step = true
eval_micro_batch_size_per_gpu = 1
eval_gradient_accumulation_steps = 1
eval_datasets = [{name = 'x', config = 'y.toml'}]
disable_block_swap_for_eval = true
save_every_n_epochs = 2
save_every_n_steps = 50
checkpoint_every_n_minutes = 120
activation_checkpointing = 'unsloth'
reentrant_activation_checkpointing = true
partition_method = 'parameters'
partition_split = [10]
save_dtype = 'bfloat16'
caching_batch_size = 1
map_num_proc = 32
compile = true
steps_per_print = 1
video_clip_mode = 'single_middle'
x_axis_examples = true
uncond_fraction = 0.1
monitoring = {enable_wandb = false}

[model]
type = 'wan'
ckpt_path = '/models/wan'
dtype = 'bfloat16'
transformer_dtype = 'float8'
timestep_sample_method = 'logit_normal'
sigmoid_scale = 1.5
shift = 3
min_t = 0.1
max_t = 0.9
min_snr_gamma = 5
flux_shift = true
unet_lr = 1e-5
first_frame_conditioning_p = 1.0

[adapter]
type = 'lora'
rank = 32
dropout = 0.1
dtype = 'bfloat16'
init_from_existing = '/runs/epoch50'
fuse_adapters = [{path = 'a', weight = 1.0}]
exclude_modules = ['x']

[optimizer]
type = 'adamw_optimi'
lr = 2e-5
betas = [0.9, 0.99]
weight_decay = 0.02
eps = 1e-8
stabilize = false
"""


@pytest.fixture
def project(tmp_path, drawn):
    drawn("grey", "a.png", "b.jpg", caption="tag one, tag two")
    drawn("grey/masks", "a.webp", mode="L")
    drawn("edit/target", "a.png", caption="x")
    drawn("edit/control", "a.jpg")
    drawn(".", "white.png", mode="L")
    (tmp_path / "dataset.toml").write_text(DATASET)
    (tmp_path / "main.toml").write_text(MAIN)
    return tmp_path


def dataset(tmp_path, text):
    (tmp_path / "set.toml").write_text(text)
    return LAYOUT.read(tmp_path / "set.toml")


def test_one_table_a_directory_and_resolution(project, loaded):
    imported = LAYOUT.read(project / "dataset.toml")
    grey = {
        "clips": str(project / "grey"),
        "masks": {"source": "folder", "path": str(project / "grey/masks")},
        "caption_part": "file",
        "template": "sks man, {caption}",
        "shuffle_tags": True,
        "buckets": True,
        "frames": 65,
        "extract": "head",
        "repeats": 4,
    }
    edit = {
        "clips": str(project / "edit/target"),
        "references": str(project / "edit/control"),
        "caption_part": "file",
        "shuffle_tags": True,
        "resolution": [512, 768],
        "buckets": False,
        "frames": 1,
        "extract": "head",
        "repeats": 1,
    }
    assert imported.data == (
        grey | {"resolution": 512},
        grey | {"resolution": [1280, 720]},
        edit,
    )
    assert imported.sections == {"losses": {"compat": "diffusion-pipe"}}
    assert loaded(imported).losses.compat == "diffusion-pipe"


def test_clips_masks_and_captions_are_found_as_it_finds_them(project, loaded, found):
    seen = found(loaded(LAYOUT.read(project / "dataset.toml"))).found
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
            "min_snr": 5.0,
        },
        "lora": {
            "kind": "lora",
            "rank": 32,
            "alpha": 32,
            "dropout": 0.1,
            "source": "/runs/epoch50/adapter_model.safetensors",
        },
        "optimizer": {
            "name": "adamw",
            "lr": 2e-5,
            "weight_decay": 0.02,
            "options": {"betas": [0.9, 0.99], "eps": 1e-8},
            "schedule": "linear",
            "warmup": 100,
            "clip": 0.0,
            "accumulate": 3,
        },
        "memory": {
            "checkpointing": True,
            "compile": True,
            "swap_blocks": 20,
            "storage": "float8",
        },
        "run": {"batch": 2, "steps": 500, "save_every": 50, "precision": "bfloat16"},
    }
    loaded(imported)
    told = notes(imported)
    assert told["video_clip_mode"][0].kind == "mapped"
    (middle,) = told["dataset.toml: directory[0].video_clip_mode"]
    assert middle.kind == "no equivalent"
    assert "beginning" in middle.said


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
    assert "not in the layout of diffusers" in note.said


def test_a_model_that_is_not_here_names_the_nearest(project, notes):
    text = "dataset = 'dataset.toml'\n[model]\ntype = 'cosmos'\ndtype = 'bfloat16'\n"
    (project / "main.toml").write_text(text)
    imported = LAYOUT.read(project / "main.toml")
    assert "model" not in imported.sections
    assert imported.model == "cosmos"
    assert "there are flux, flux2, hunyuan_video" in notes(imported)["model.type"][0].said


def test_epochs_become_steps(project, notes):
    text = MAIN.replace("max_steps = 500", "")
    (project / "main.toml").write_text(text)
    imported = LAYOUT.read(project / "main.toml")
    # (2 clips x 2 repeats x 2 resolutions + 1 clip x 0.5) x 10 epochs / (2 a batch x 3 accumulated)
    assert imported.sections["run"]["steps"] == 14
    assert "run.steps = 14" in notes(imported)["epochs"][0].said


def test_every_option_is_answered(project, complete, documented):
    imported = LAYOUT.read(project / "main.toml")
    complete(imported, project / "main.toml", ("model", "adapter", "optimizer"))
    complete(imported, project / "dataset.toml", ("directory",), "dataset.toml: ")
    rules = rules_of("diffusion_pipe")
    for name in documented(rules, "directory"):
        assert name in DATASET, name


def test_unknown_options_name_the_nearest(tmp_path, drawn, notes):
    drawn("a", "a.png", caption="x")
    imported = dataset(tmp_path, "resolutions = [64]\n[[directory]]\npath = 'a'\nmask_pth = 'x'\n")
    (note,) = notes(imported)["directory[0].mask_pth"]
    assert (note.kind, note.line) == ("no equivalent", 4)
    assert "did you mean 'mask_path'" in note.said


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
            {"resolution": [512, 256], "buckets": True, "frames": 33},
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
    told = notes(dataset(tmp_path, "resolutions = [64]\n[[directory]]\npath = 'a'\n"))
    assert "1 clips lie in sub-folders" in told["directory[0].path"][0].said
    assert "dropped the 1" in told["frame_buckets"][0].said


# Defects, as the research pages name them.


def test_defect_missing_captions_are_left_out_though_promised(tmp_path, drawn, notes, loaded):
    drawn("a", "a.png", caption="x")
    drawn("a", "b.png")
    imported = dataset(tmp_path, "resolutions = [64]\n[[directory]]\npath = 'a'\n")
    (note,) = notes(imported)["skip_empty_caption"]
    assert (note.kind, note.value, note.line) == ("defect", True, None)
    assert "1 of" in note.said


def test_defect_masks_are_stale_and_still(tmp_path, drawn, notes):
    drawn("a", "a.png", caption="x")
    drawn("m", "a.png", mode="L")
    text = "resolutions = [64]\n[[directory]]\npath = 'a'\nmask_path = 'm'\n"
    mapped, defect = sorted(
        notes(dataset(tmp_path, text))["directory[0].mask_path"], key=lambda note: note.kind
    )[::-1]
    assert (mapped.kind, defect.kind) == ("mapped", "defect")
    assert "--regenerate_cache" in defect.said
    assert "frame by frame" in defect.said


def test_defect_the_documented_huber_option_is_never_read(project, notes):
    (note,) = notes(LAYOUT.read(project / "main.toml"))["pseudo_huber_c"]
    assert note.kind == "defect"


def test_defect_one_family_alone_divides_by_the_mask(project, notes):
    (project / "main.toml").write_text(MAIN.replace("'wan'", "'ltx-video'"))
    kinds = {note.kind for note in notes(LAYOUT.read(project / "main.toml"))["model.type"]}
    assert kinds == {"defect", "no equivalent"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resolutions = [64\n", "line 1, column 18"),
        ("[[directory]]\npath = 'nowhere'\n", "'nowhere' is not there; tried"),
        ("[[directory]]\npath = 'a'\n", "resolutions: is needed"),
        ("resolutions = ['x']\n[[directory]]\npath = 'a'\n", "line 1: resolutions = ['x']"),
        (
            "resolutions = [64]\n[[directory]]\npath = 'a'\nnum_repeats = 0\n",
            "line 4: directory[0].num_repeats = 0",
        ),
        ("directory = 3", "a list is needed"),
        ("[[directory]]\npath = 'empty'\nresolutions = [8]", "holds no image or video"),
    ],
)
def test_bad_files_are_refused_with_place_and_fix(tmp_path, drawn, text, said):
    drawn("a", "a.png", caption="x")
    drawn("empty")
    with pytest.raises(BadLayout, match=r"set\.toml") as error:
        dataset(tmp_path, text)
    assert said in str(error.value)


def test_it_knows_its_own_files(project, tmp_path):
    assert LAYOUT.suits(project / "dataset.toml")
    assert LAYOUT.suits(project / "main.toml")
    (tmp_path / "other.toml").write_text("[[datasets]]\nresolution = 512\n")
    assert not LAYOUT.suits(tmp_path / "other.toml")
    assert not LAYOUT.suits(tmp_path)
