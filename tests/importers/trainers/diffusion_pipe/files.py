"""A little project of diffusion-pipe, and how its tests read it."""

import pytest

from frisket.importers.base import IMPORT_FORMATS

LAYOUT = IMPORT_FORMATS.load("diffusion_pipe")

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

HELD = """
resolutions = [256]
[[directory]]
path = 'held'
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
eval_datasets = [{name = 'x', config = 'held.toml'}]
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
    drawn("held", "h.png", caption="x")
    (tmp_path / "dataset.toml").write_text(DATASET)
    (tmp_path / "held.toml").write_text(HELD)
    (tmp_path / "main.toml").write_text(MAIN)
    return tmp_path


def dataset(tmp_path, text):
    (tmp_path / "set.toml").write_text(text)
    return LAYOUT.read(tmp_path / "set.toml")
