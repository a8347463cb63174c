"""Masks made on pictures as they are stored are told by `inspect` and turned by `--fix`."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frisket.config.tree import Config
from frisket.data.prepare import BadClips
from frisket.inspection.fix import fix
from frisket.media.frames import decode_grey
from frisket.media.stills.orientation import METHODS
from frisket.recipes.inspect import inspect
from frisket.runs.prepare import prepare

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
STORE = {2: 2, 3: 3, 4: 4, 6: 8, 8: 6}  # how to turn an upright picture, so that EXIF turns it back


def config_of(folder: Path, **more: object) -> Config:
    masks = {"source": "folder", "path": folder / "masks"}
    data = {"clips": folder / "clips", "masks": masks, "resolution": 64, "caption": "a person"}
    model = {"family": "pocket", "variant": "image"}
    run = {"output": str(folder / "run"), "cache": str(folder / "cache")}
    return Config.model_validate({"data": [data], "model": model, "run": run, **more})


def stored_photo(folder: Path, name: str, orientation: int) -> np.ndarray:
    """A photograph with an EXIF turn and a mask made on its stored pixels; the upright mask."""
    for kind in ("clips", "masks"):
        (folder / kind).mkdir(exist_ok=True, parents=True)
    tags = Image.Exif()
    tags[274] = orientation
    back = METHODS[STORE[orientation]]
    with Image.open(PHOTOS / "clips" / f"{name}.jpg") as picture:
        picture.transpose(back).save(folder / "clips" / f"{name}.jpg", quality=92, exif=tags)
    with Image.open(PHOTOS / "masks" / f"{name}.png") as mask:
        plain = Image.fromarray(((np.asarray(mask) > 0) * 255).astype(np.uint8))
        plain.transpose(back).save(folder / "masks" / f"{name}.png")
        return np.asarray(plain)


def kinds(folder: Path) -> set[str]:
    return {one.kind for one in inspect(config_of(folder), folder / "inspect")}


@pytest.mark.parametrize(
    ("name", "orientation"),
    [
        *(("astronaut", 3), ("astronaut", 6), ("grace-hopper", 6)),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (("astronaut", 2), ("astronaut", 4), ("astronaut", 8), ("grace-hopper", 3))
        ),
    ],
)
def test_a_mask_of_the_stored_pixels_is_told_and_turned(tmp_path, name, orientation):
    upright = stored_photo(tmp_path, name, orientation)
    found = inspect(config_of(tmp_path), tmp_path / "inspect")
    (told,) = (one for one in found if one.kind == "turned")
    assert f"EXIF orientation {orientation}" in told.sentence
    before = (tmp_path / "masks" / f"{name}.png").read_bytes()
    (done,) = fix(config_of(tmp_path), tmp_path / "inspect")
    assert done.kept.read_bytes() == before
    assert (decode_grey(done.now)[0].numpy() * 255 == upright).all()
    assert "turned" not in kinds(tmp_path)
    assert fix(config_of(tmp_path), tmp_path / "inspect") == []


def test_prepare_names_exif_where_a_mask_lies_on_its_side(tmp_path):
    stored_photo(tmp_path, "grace-hopper", 6)
    with pytest.raises(BadClips, match=r"EXIF \(orientation 6\) turns this clip"):
        prepare(config_of(tmp_path))


def test_a_mask_turned_without_exif_is_turned_back_by_what_is_seen(tmp_path):
    for kind in ("clips", "masks"):
        (tmp_path / kind).mkdir()
    shutil.copy(PHOTOS / "clips" / "grace-hopper.jpg", tmp_path / "clips")
    with Image.open(PHOTOS / "masks" / "grace-hopper.png") as mask:
        mask.transpose(METHODS[6]).save(tmp_path / "masks" / "grace-hopper.png")
        wanted = np.asarray(mask)
    assert "turned" in kinds(tmp_path)
    (done,) = fix(config_of(tmp_path), tmp_path / "inspect")
    assert (decode_grey(done.now)[0].numpy() * 255).round().astype(int).tolist() == wanted.tolist()


def ones(folder: Path, suffix: str, dtype: type, **options: object) -> Path:
    for kind in ("clips", "masks"):
        (folder / kind).mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    Image.fromarray(noise).save(folder / "clips" / "a.png")
    mask = np.zeros((64, 96), dtype)
    mask[16:48, 24:72] = 1
    path = folder / "masks" / f"a{suffix}"
    Image.fromarray(mask).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("suffix", "dtype", "options"),
    [
        (".png", np.uint8, {}),
        (".png", np.uint16, {}),
        (".tif", np.int32, {}),
        (".tif", np.uint8, {}),
        (".webp", np.uint8, {"lossless": True}),
        (".jpg", np.uint8, {"quality": 100}),
    ],
)
def test_masks_of_0_and_1_are_stretched_whatever_their_depth(tmp_path, suffix, dtype, options):
    ones(tmp_path, suffix, dtype, **options)
    (done,) = fix(config_of(tmp_path), tmp_path / "inspect")
    grey = decode_grey(done.now)[0].numpy()
    assert set(np.unique(grey).tolist()) == {0.0, 1.0}
    assert grey.sum() == 32 * 48
    assert done.now.suffix == ".png"


def test_a_mask_too_faint_to_be_read_is_not_saved_as_black(tmp_path):
    path = ones(tmp_path, ".jpg", np.uint8, quality=100)
    Image.fromarray(np.full((64, 96), 3, np.uint8)).save(path, quality=100)
    assert fix(config_of(tmp_path), tmp_path / "inspect") == []
    assert path.is_file()


def test_a_mask_rounded_down_fits_its_clip(tmp_path):
    path = ones(tmp_path, ".png", np.uint8)
    mask = np.zeros((21, 32), np.uint8)
    mask[6:15, 8:24] = 255
    Image.fromarray(mask).save(path)
    assert "aspect" not in kinds(tmp_path)
    prepare(config_of(tmp_path))
