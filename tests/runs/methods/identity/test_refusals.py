"""What a user may get wrong: said with the value and the way out, before any model is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.runs.methods.identity.toy import Album, refuse

from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.faces.base import EMBEDDERS, EmbeddingMixup, FaceModelNotFound, FaceModelUnusable
from frisket.faces.choose import FaceNotUsable
from frisket.faces.detect import DETECTORS
from frisket.faces.embedders.iresnet import build_tiny
from frisket.families.base import FAMILIES
from frisket.inference.methods.plugin import METHODS, MethodUnusable
from frisket.media.paths import BadMedia
from frisket.recipes.generate import generate
from frisket.runs.methods.identity.combining import MethodAsk, check_combination
from frisket.runs.methods.identity.portrait import find_free

Keys = dict[str, Any]


def run(tmp_path: Path, *tables: Keys, model: Keys | None = None, **options: Any) -> None:
    """Of a model that is not there: what gets as far as loading it fails with its name."""
    tree = {"model": model or {"source": str(tmp_path / "no-model")}, "identity": tables}
    options = {"steps": 2, "height": 32, "width": 32, **options}
    generate(Config.model_validate(tree), ["a ring"], tmp_path / "out", **options)


def draw_mask(folder: Path, height: int, width: int, value: int = 255) -> Path:
    path = folder / f"mask-{height}-{width}.png"
    Image.fromarray(np.full((height, width), value, np.uint8)).save(path)
    return path


def write_text(album: Album) -> Path:
    album.draw("wall")
    path = album.folder / "letter.png"
    path.write_text("dear Ada")
    return path


CASES: dict[str, tuple[Callable[[Album], Keys], type[Exception], str]] = {
    "no face": (
        lambda album: album.table(album.draw("wall")),
        FaceNotUsable,
        r"wall\.png shows no face .* give a picture in which the face is larger",
    ),
    "a face of 20 pixels": (
        lambda album: album.table(album.draw("far", 1, side=32)),
        FaceNotUsable,
        r"far\.png: its face is 1\d x \d+ pixels, and below 20 .* give a larger picture",
    ),
    "a picture that is none": (
        lambda album: album.table(write_text(album)),
        BadMedia,
        r"letter\.png",
    ),
    "a face picture that is not there": (
        lambda album: album.table(album.folder / "ida.png"),
        ConfigError,
        r"toy: there is no picture .*ida\.png \(--face\)",
    ),
    "a pose of a method without key points": (
        lambda album: album.table(album.draw("ada", 1), pose=album.draw("bob", 2)),
        ConfigError,
        r"toy reads no key points, so --pose .*bob\.png says nothing: leave it out",
    ),
    "an image encoder that it has not": (
        lambda album: album.table(album.draw("ada", 1), encoder=album.folder),
        ConfigError,
        r"toy has no image encoder: leave .*album \(--encoder\) out",
    ),
    "missing weights": (
        lambda album: album.table(album.draw("ada", 1), source=album.folder / "gone"),
        FileNotFoundError,
        r"there is no .*gone \(--method-source\); it must be a folder with tokens\.safetensors,"
        r" published at example\.org/toy",
    ),
    "a missing pack": (
        lambda album: album.table(
            album.draw("ada", 1), embedder="iresnet", embedder_source=album.folder / "pack"
        ),
        FaceModelNotFound,
        r"pack does not exist: give arcface_torch's model zoo",
    ),
    "a wrong pack": (
        lambda album: album.table(
            album.draw("ada", 1), embedder="iresnet", embedder_source=album.folder
        ),
        FaceModelNotFound,
        r"album holds none of backbone\.safetensors",
    ),
    "an embedder with files it does not take": (
        lambda album: album.table(album.draw("ada", 1), embedder_source=album.folder),
        FaceModelUnusable,
        r"the tiny embedder brings its own weights .* leave the source out",
    ),
    "an empty mask": (
        lambda album: album.table(
            album.draw("ada", 1), mask=draw_mask(album.folder, 32, 32, value=0)
        ),
        ConfigError,
        r"mask-32-32\.png is empty: its method would act nowhere",
    ),
    "a mask of another aspect": (
        lambda album: album.table(album.draw("ada", 1), mask=draw_mask(album.folder, 32, 64)),
        ConfigError,
        r"mask-32-64\.png \(--method-mask\): the mask is 64 x 32 .*aspect ratios differ",
    ),
    "a mask that is not there": (
        lambda album: album.table(album.draw("ada", 1), mask=album.folder / "m.png"),
        ConfigError,
        r"there is no mask .*m\.png \(--method-mask\)",
    ),
    "like of a method that reads no faces": (
        lambda album: album.table(
            album.draw("ada", 1), method="toy_pixels", embedder="", like=album.folder / "faces.json"
        ),
        ConfigError,
        r"toy_pixels looks for no face, so --like .*faces\.json says nothing",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_with_one_method(album: Album, tmp_path: Path, case: str) -> None:
    build, error, words = CASES[case]
    with pytest.raises(error, match=words):
        run(tmp_path, build(album))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guidance": 1.2}, r"fastface, 'a ring': guidance 1\.2 leaves next to nothing"),
        ({"guidance": 3.0, "steps": 5}, "strengths for 4 steps, but 5 are sampled"),
    ],
)
def test_samples_that_fastface_cannot_act_on(
    album: Album, tmp_path: Path, options: Keys, words: str
) -> None:
    """Before its files are looked for, and so before any network; of a scale of 0 nothing is."""
    table = album.table(album.draw("ada", 1), method="fastface", source=album.folder / "gone")
    with pytest.raises(MethodUnusable, match=words):
        run(tmp_path, table, **options)
    with pytest.raises(FileNotFoundError, match="gone"):
        run(tmp_path, table | {"scale": 0.0}, **options)
    with pytest.raises(FileNotFoundError, match="gone"):
        run(tmp_path, table | {"options": {"guidance": "none"}}, **options)


def test_an_embedder_of_another_width(album: Album, tmp_path: Path) -> None:
    pack = build_tiny(album.folder / "pack")
    table = album.table(album.draw("ada", 1), embedder="iresnet", embedder_source=pack)
    with pytest.raises(
        EmbeddingMixup, match=r"ada\.png: its embedding has 16 numbers, .* reads 64"
    ):
        run(tmp_path, table)


def test_a_network_that_is_not_free_is_never_taken_unnamed(album: Album, tmp_path: Path) -> None:
    table = album.table(album.draw("ada", 1), embedder="", detector="")
    with pytest.raises(FaceModelNotFound, match="face_detection_yunet"):
        run(tmp_path, table)
    for shelf, kind in ((EMBEDDERS, "embedder"), (DETECTORS, "detector")):
        assert shelf.load(find_free(shelf, kind)).commercial


def test_a_family_that_cannot(album: Album, tmp_path: Path) -> None:
    table = album.table(album.draw("ada", 1))
    family = FAMILIES.names()[0]
    assert refuse(FAMILIES.load(family), FAMILIES.load(family).default)
    model = {"family": family, "source": str(tmp_path / "no-model")}
    with pytest.raises(MethodUnusable, match=rf"toy does not run on {family} .*pocket alone"):
        run(tmp_path, table, model=model, height=256, width=256)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"method": "toi"}, r"no method is named 'toi', did you mean `toy`"),
        ({"embedder": "iresnett"}, r"no face embedder is named 'iresnett', did you mean `iresnet`"),
        (
            {"detector": "toy_face"},
            r"no face detector is named 'toy_face', did you mean `toy_faces`",
        ),
        ({"options": {"tnit": 1}}, r"toy has no option 'tnit', did you mean `tint`"),
        ({"options": {"tint": "red"}}, r"`identity\.0\.options\.tint` should be a number"),
        (
            {"options": {"where": "al"}},
            r"should be 'all' or 'middle', got 'al', did you mean `all`",
        ),
        ({"strict": True}, r"`strict` keeps what is outside a mask, and toy has none"),
    ],
)
def test_names_and_options_are_looked_at_first(
    album: Album, tmp_path: Path, keys: Keys, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, album.table(tmp_path / "not-read.png", **keys))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([{"method": "toy_guiding"}] * 2, r"toy_guiding and toy_guiding-2 each make the guided"),
        ([{"method": "toy_words"}] * 2, r"toy_words and toy_words-2 each put tokens into the pro"),
    ],
)
def test_methods_that_cannot_stand_together(
    album: Album, tmp_path: Path, keys: list[Keys], words: str
) -> None:
    mask = draw_mask(album.folder, 32, 32)
    tables = [album.table(album.draw("ada", 1), mask=mask, **table) for table in keys]
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, *tables)


def test_tokens_in_the_prompt_are_no_place_for_words(album: Album, tmp_path: Path) -> None:
    table = album.table(album.draw("ada", 1), method="toy_words")
    config = Config.model_validate({"identity": [table]})
    ask = MethodAsk("toy_words", config.identity[0], METHODS.load("toy_words"))
    with pytest.raises(ConfigError, match=r"no longer where --fuse freefuse looks for them"):
        check_combination([ask], fuse="freefuse")
    with pytest.raises(ConfigError, match=r"where a LoRA that acts on 'sks' alone \(lora.focus\)"):
        check_combination([ask], focus=["sks"])
    check_combination([ask])
