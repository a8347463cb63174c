"""`frisket init`: what it finds in folders as people keep them, and that what it writes loads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.config.load import ConfigError, check, read
from frisket.families.base import FAMILIES
from frisket.families.listing import size_of
from frisket.media.files import ClipsNotFound
from frisket.media.frames import write_video
from frisket.recipes.init.write import init

SIZE = (32, 48)  # H, W
PHOTOS = Path(__file__).parents[2] / "examples" / "photos"


def picture(path: Path, *, alpha: bool = False, size=SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.randint(0, 255, (*size, 4 if alpha else 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path: Path, *levels: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = np.array(levels or (0, 255), np.uint8).repeat(8)[:, None].repeat(SIZE[1], axis=1)
    Image.fromarray(np.resize(bands, SIZE)).save(path)


def written(folder: Path, **options):
    """The config that `init` writes, understood and checked."""
    output = folder.parent / "frisket.toml"
    output.unlink(missing_ok=True)
    init(folder, output, **options)
    config, origin = read(output)
    check(config, origin)
    return config


@pytest.fixture
def folder(tmp_path):
    """Three clips with captions, in `my set/clips`."""
    place = tmp_path / "my set"
    for index in range(3):
        picture(place / "clips" / f"{index}.png")
        (place / "clips" / f"{index}.txt").write_text("sks on a table", encoding="utf-8")
    return place


def test_a_mask_folder_gets_the_full_recipe(folder):
    for index in range(3):
        mask(folder / "masks" / f"{index}.png")
    config = written(folder)
    (data,) = config.data
    assert data.clips == folder / "clips"
    assert data.masks.source == "folder"
    assert data.masks.path == folder / "masks"
    assert config.regions == {"subject": 1.0, "background": 0.0}
    assert config.losses.terms["prior"]["strength"] > 0
    assert config.swap.rate == 0.5
    assert config.swap.prompts
    assert config.preview.prompts[0] == ""
    assert config.preview.prompts[1].startswith("sks on a table")


def test_without_masks_nothing_is_masked_or_swapped(folder):
    config = written(folder)
    assert config.data[0].masks.source == "none"
    assert config.swap.rate == 0
    assert "prior" not in config.losses.terms


def test_masks_in_the_clip_folder_itself_are_no_clips(tmp_path):
    for index in range(2):
        picture(tmp_path / "set" / f"{index}.png")
        mask(tmp_path / "set" / "mask" / f"{index}.png")
    config = written(tmp_path / "set")
    assert config.data[0].clips == tmp_path / "set"
    assert config.data[0].masks.path == tmp_path / "set" / "mask"


def test_sub_folders_become_regions(folder):
    for index in range(3):
        for name in ("face", "hair", "background"):
            mask(folder / "masks" / name / f"{index}.png")
    mask(folder / "masks" / "notes" / "other.png")
    config = written(folder)
    assert set(config.data[0].masks.regions) == {"face", "hair", "background"}
    assert config.regions == {"face": 1.0, "hair": 1.0, "background": 0.0}


def test_label_maps_with_a_legend_need_none_in_the_config(folder):
    for index in range(3):
        path = folder / "masks" / f"{index}.png"
        mask(path)
        Image.fromarray(np.eye(32, dtype=np.uint8)).save(path)
    (folder / "masks" / "legend.json").write_text('{"face": 1, "shoe": 2}')
    config = written(folder)
    assert config.data[0].masks.legend == {"face": 1, "shoe": 2}
    assert "legend" not in (folder.parent / "frisket.toml").read_text()
    assert config.regions == {"face": 1.0, "shoe": 1.0, "background": 0.0}
    (folder / "masks" / "legend.json").write_text('{"hair": 2, "face": 1}')
    assert written(folder).regions == {"hair": 0.314, "face": 1.0, "background": 0.0}


@pytest.mark.parametrize("end", [".mask.png", "-masklabel.png"])
def test_sidecars(folder, end):
    for index in range(3):
        mask(folder / "clips" / f"{index}{end}")
    assert written(folder).data[0].masks.source == "sidecar"


def test_alpha(folder):
    for index in range(3):
        picture(folder / "clips" / f"{index}.png", alpha=True)
    assert written(folder).data[0].masks.source == "alpha"


def test_palette_masks_get_a_legend(folder):
    for index in range(3):
        path = folder / "masks" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        labels = Image.fromarray(np.resize(np.array([0, 1, 2], np.uint8), SIZE), mode="P")
        labels.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        labels.save(path)
    config = written(folder)
    assert config.data[0].masks.legend == {"label_1": 1, "label_2": 2}
    assert config.regions == {"label_1": 1.0, "label_2": 1.0, "background": 0.0}


def test_grey_levels_are_pointed_out(folder):
    for index in range(3):
        mask(folder / "masks" / f"{index}.png", 0, 128, 255)
    written(folder)
    assert "grey levels 0, 128, 255" in (folder.parent / "frisket.toml").read_text()


def test_a_caption_folder(folder):
    for index in range(3):
        caption = folder / "clips" / f"{index}.txt"
        (folder / "captions").mkdir(exist_ok=True)
        caption.rename(folder / "captions" / caption.name)
    config = written(folder)
    assert config.data[0].captions == folder / "captions"
    assert config.data[0].caption is None


def test_clips_without_a_caption_get_one_to_fill_in(folder):
    (folder / "clips" / "1.txt").unlink()
    assert written(folder).data[0].caption


def test_sizes_suit_clips_and_model(folder, monkeypatch):
    monkeypatch.setattr("frisket.recipes.init.write.measure_card", lambda: None)
    assert written(folder).model.family == "pocket"
    for index in range(3):
        picture(folder / "clips" / f"{index}.png", size=(720, 1280))
    config = written(folder)
    assert config.model.family == "stable_diffusion"  # pictures get no video model
    width, height = config.data[0].resolution
    assert width % 8 == height % 8 == 0
    assert width / height == pytest.approx(1280 / 720, rel=0.05)
    assert width * height <= 512 * 512 * 1.05


def test_videos(tmp_path):
    (tmp_path / "set").mkdir()
    frames = torch.randint(0, 255, (11, 64, 96, 3), dtype=torch.uint8)
    write_video(tmp_path / "set" / "walk.mp4", frames, 16)
    (data,) = written(tmp_path / "set").data
    assert data.frames == 9


def test_paths_start_at_the_file(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    init(Path("my set"), Path("frisket.toml"))
    assert 'clips = "my set/clips"' in Path("frisket.toml").read_text()
    assert read("frisket.toml")[0].data[0].clips == folder / "clips"


def test_what_was_found_is_said(folder, tmp_path):
    mask(folder / "masks" / "0.png")
    mask(folder / "masks" / "lost.png")
    said = "\n".join(init(folder, tmp_path / "out.toml"))
    assert "3 images, about 48 x 32 pixels" in said
    assert "masks (folder): 1 of 3" in said
    assert "1 masks have no clip" in said
    assert "captions (beside the clips): 3 of 3" in said


def test_nothing_is_overwritten(folder, tmp_path):
    (tmp_path / "mine.toml").write_text("precious", encoding="utf-8")
    with pytest.raises(ConfigError, match="exists and is not overwritten"):
        init(folder, tmp_path / "mine.toml")
    assert (tmp_path / "mine.toml").read_text() == "precious"


def test_an_unknown_family_is_named(folder, tmp_path):
    with pytest.raises(ConfigError, match="no family is named 'wam', did you mean 'wan'"):
        init(folder, tmp_path / "out.toml", family="wam")
    with pytest.raises(
        ConfigError, match=r"wan has no variant '2\.1-t2v', did you mean '2\.1-t2v-1"
    ):
        init(folder, tmp_path / "out.toml", family="wan", variant="2.1-t2v")
    assert not (tmp_path / "out.toml").exists()


def variants():
    """All of them; the first of those that a config is written alike for is quick."""
    known = set()
    for name in FAMILIES.names():
        for variant, card in FAMILIES.load(name).variants.items():
            kind = (card.sees, bool(card.experts), card.video)
            yield pytest.param(name, variant, marks=[pytest.mark.slow] * (kind in known))
            known.add(kind)


@pytest.mark.parametrize(("name", "variant"), list(variants()))
def test_every_variant_gets_a_config_that_suits_it(name, variant, tmp_path):
    family = FAMILIES.load(name)
    card = family.variants[variant]
    output = tmp_path / f"{variant}.toml"
    init(PHOTOS, output, family=name, variant=variant)
    config, origin = read(output)
    check(config, origin)
    (data,) = config.data
    text = output.read_text(encoding="utf-8")
    assert (config.model.family, config.model.variant) == (name, variant)
    assert (data.references is not None) == (card.sees == "pictures")
    assert ("mask_role" in text) == (card.sees == "first_frame")
    assert ("experts" in text) == bool(card.experts)
    learnt = not family.leaves_out_tokens  # else from nothing: there is no base to hold or to ask
    assert (config.model.train, config.swap.rate > 0) == (
        "lora" if learnt else "all",
        learnt and card.sees != "pictures",
    )
    assert (config.swap.rate > 0 and config.swap.source == "bank") == (
        learnt and card.sees == "nothing"
    )
    assert config.preview.every == 0 or card.sees == "nothing"
    assert all(side % card.grid.step == 0 for side in data.resolution)
    size = size_of(family, variant)
    assert config.memory.checkpointing == (size.count > 1.5e9)
    assert (config.memory.quantise == "nf4") == (size.count > 8e9)
    assert config.run.precision == config.model.dtype


def test_the_references_of_an_edit_model_are_found(folder):
    for index in range(3):
        picture(folder / "references" / f"{index}.png")
    config = written(folder, family="qwen_image", variant="edit")
    assert config.data[0].references == folder / "references"


def test_an_image_to_video_model_swaps_what_it_has(folder):
    for index in range(3):
        mask(folder / "masks" / f"{index}.png")
    options = {"family": "wan", "variant": "2.2-i2v-a14b"}
    assert written(folder, **options).swap.source == "clips"
    for index in (1, 2):
        (folder / "clips" / f"{index}.png").unlink()
    assert written(folder, **options).swap.source == "gradient"


def test_a_folder_without_clips_leaves_no_file(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipsNotFound, match="holds no clip"):
        init(tmp_path / "empty", tmp_path / "out.toml")
    with pytest.raises(ClipsNotFound, match="no such folder"):
        init(tmp_path / "none", tmp_path / "out.toml")
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]
