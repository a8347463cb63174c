"""A little project of sd-scripts, and how its tests read it."""

import json

import pytest
from PIL import Image

from frisket.config.tree import Config
from frisket.media.captions import Wording
from frisket.media.files import find


def draw(path, mode="RGB", size=(96, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 200).save(path)


@pytest.fixture
def write(tmp_path):
    def write(text, name="set.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def photos(tmp_path):
    """Three pictures with .caption files (one of two lines, one missing), and their masks."""
    for name in ("a", "b", "c"):
        draw(tmp_path / "cats" / f"{name}.png")
        draw(tmp_path / "masks" / f"{name}.png", "L")
    (tmp_path / "cats" / "a.caption").write_text("1girl, sks, hat\nnot this line\n")
    (tmp_path / "cats" / "b.caption").write_text("a dog")
    return tmp_path


def config_of(imported):
    """The imported tables as a configuration; refuses what Frisket does not know."""
    folder = imported.source.parent
    for name, lines in imported.manifests.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Config.model_validate({"data": list(imported.data), **imported.sections})


def found_by(data, folder):
    masks = data.masks
    return find(
        folder / data.clips,
        masks=masks.source,
        folders={"": masks.path} if masks.path else {},
        caption=data.caption,
        wording=Wording(data.caption_extension, data.caption_part),
    ).clips


def notes_of(imported, kind):
    return {note.option: note for note in imported.notes if note.kind == kind}


EVERYTHING = """
[general]
shuffle_caption = true
caption_extension = ".caption"
keep_tokens = 1
custom_attributes = { x = 1 }

[[datasets]]
resolution = 512
batch_size = 4
enable_bucket = true
min_bucket_reso = 128
max_bucket_reso = 1024
bucket_reso_steps = 64
bucket_no_upscale = true
validation_split = 0.34
validation_seed = 1
network_multiplier = 0.5
resize_interpolation = "area"

  [[datasets.subsets]]
  image_dir = 'C:\\data\\cats'
  conditioning_data_dir = "masks"
  class_tokens = "a cat"
  num_repeats = 2
  flip_aug = true
  caption_prefix = "photo,"
  caption_suffix = ", 4k"
  caption_dropout_rate = 0.1
  caption_dropout_every_n_epochs = 2
  caption_tag_dropout_rate = 0.2
  color_aug = true
  random_crop = true
  face_crop_aug_range = [1.0, 3.0]
  caption_separator = ";"
  secondary_separator = ";;;"
  enable_wildcard = true
  token_warmup_min = 1
  token_warmup_step = 100
  cache_info = true

  [[datasets.subsets]]
  image_dir = "dogs"
  alpha_mask = true
  keep_tokens_separator = "|||"
  num_repeats = 3

  [[datasets.subsets]]
  image_dir = "reg"
  is_reg = true
  class_tokens = "animal"
"""


@pytest.fixture
def everything(photos, write):
    for name in ("a", "b"):
        draw(photos / "dogs" / f"{name}.png", "RGBA")
    draw(photos / "reg" / "a.png")
    return write(EVERYTHING)
