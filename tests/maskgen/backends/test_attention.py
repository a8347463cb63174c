"""Masks from a diffusion model's own attention: the packaged base on its world, and refusals."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from tests.maskgen.tiny import grounding
from tests.recipes.mask_runs import run

from frisket.config.maskgen import MaskAttention
from frisket.evaluation.mask_metrics import iou
from frisket.maskgen.backends.attention import BACKEND, PACKAGED, UNSURE_SCORE, AttentionGrounder
from frisket.maskgen.base import BackendUnusable, MaskWeightsNotFound, ModelSource
from frisket.maskgen.files import record
from frisket.media.frames import decode_index, write_image
from frisket.pocket.world import Background, Scene, draw

SCENES = (
    Scene(Background("stripes", "white", "blue"), "circle", "red", 12.0, 13.0, 8.0),
    Scene(Background("checks", "green", "black"), "square", "yellow", 20.0, 19.0, 8.0),
    Scene(Background("wall", "blue", "blue"), "triangle", "white", 16.0, 17.0, 9.0),
)


@pytest.fixture(scope="module")
def packaged() -> AttentionGrounder:
    backend: AttentionGrounder = BACKEND.load(ModelSource(options={"draws": 1}))
    return backend


def test_the_packaged_base_finds_what_its_words_name(packaged: AttentionGrounder) -> None:
    for scene in SCENES:
        picture, planes = draw(scene)
        phrase = f"{scene.colour} {scene.shape}"
        (segments,) = packaged.ground([torch.from_numpy(picture)], [[phrase]])
        (segment,) = segments
        assert segment.phrase == phrase
        assert segment.score == UNSURE_SCORE
        truth = torch.from_numpy(planes["subject"]) >= 0.5
        assert iou(segment.mask >= 0.5, truth) > 0.5, phrase
        assert bool(truth.flatten()[segment.mask.argmax()])


def test_a_map_that_hardly_divides_the_picture_gives_no_mask(packaged: AttentionGrounder) -> None:
    picture, _ = draw(SCENES[0])
    least = packaged.separation
    try:
        packaged.separation = 1.01
        assert packaged.ground([torch.from_numpy(picture)], [["red circle"]]) == [[]]
    finally:
        packaged.separation = least


@pytest.mark.parametrize("size", [(32, 32), (61, 83), (200, 40)])
def test_pictures_of_any_shape_are_read_at_the_models_own_size(
    packaged: AttentionGrounder, size: tuple[int, int]
) -> None:
    picture = torch.randint(
        0, 255, (*size, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    maps = packaged.read_maps(picture, ["red circle", "blue wall"])
    assert maps.shape[:2] == (2, 1)
    height, width = maps.shape[2:]
    assert (height * 2) % 8 == (width * 2) % 8 == 0
    assert height * width == pytest.approx(16 * 16, rel=0.3)
    assert torch.equal(maps, packaged.read_maps(picture, ["red circle", "blue wall"]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"family": "pockte"}, "did you mean 'pocket'"),
        ({"variant": "large"}, "no variant 'large': image, video"),
        ({"layers": ["attn9"]}, "no attention layer is called 'attn9'"),
        ({"prompt": "a photo"}, "no place for the phrases"),
        ({"form": "output"}, "is cross-attention: take form attention"),
        ({"family": "flux", "variant": "kontext"}, "is shown pictures besides its prompt"),
    ],
)
def test_what_no_model_can_do_is_refused_when_it_is_loaded(
    options: dict[str, object], words: str
) -> None:
    with pytest.raises(BackendUnusable, match="attention: ") as stop:
        BACKEND.load(ModelSource(options=options))
    assert words in str(stop.value)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(MaskWeightsNotFound, match="nowhere"):
        BACKEND.load(ModelSource(path=str(tmp_path / "nowhere")))


def test_a_phrase_that_is_not_read_to_its_end_is_refused(packaged: AttentionGrounder) -> None:
    picture, _ = draw(SCENES[0])
    long = "very old small round shiny pretty red circle"
    with pytest.raises(BackendUnusable, match="the phrase 'very old"):
        packaged.ground([torch.from_numpy(picture)], [[long]])


def test_masks_are_made_recorded_and_made_anew_where_an_option_changes(tmp_path: Path) -> None:
    weights = grounding.pocket(tmp_path / "weights")
    clips = tmp_path / "clips"
    clips.mkdir()
    picture, _ = draw(SCENES[0], 64)
    write_image(clips / "one.png", torch.from_numpy(picture))

    def make(**attention: object) -> dict[str, int]:
        return dict(
            run(
                clips,
                backends=("attention",),
                sources={"attention": str(weights)},
                thresholds={"attention": {"separation": 0.0}},
                phrases="subject = red circle",
                attention={"draws": 1, "t": (0.5,), **attention},
            ).counts
        )

    assert sum(make().values()) == 1
    saved = record.load(tmp_path / "masks" / "one.json")
    assert saved is not None
    assert saved.settings["attention"]["t"] == [0.5]
    assert saved.confidence is not None
    assert saved.confidence <= UNSURE_SCORE  # it cannot be sure: to be looked at
    (model,) = saved.models
    assert (model.name, model.source) == ("attention", str(weights))
    assert make() == {"done before": 1}
    assert "done before" not in make(t=(0.25,))
    labels = decode_index(tmp_path / "masks" / "one.png", [0])
    assert labels.shape[1:3] == (64, 64)
    assert BACKEND.repo == PACKAGED


@pytest.mark.parametrize("level", [0.0, 1.5])
def test_noise_levels_that_are_none_are_refused_by_the_configuration(level: float) -> None:
    with pytest.raises(ValidationError, match=f"above 0 and up to 1 .* got {level:g}"):
        MaskAttention(t=(0.5, level))
