"""`frisket masks` with models: tiny random builds through the whole run, and what is refused."""

import numpy as np
import pytest
from PIL import Image
from tests.maskgen.tiny import grounding, people, sam
from tests.recipes.mask_runs import PHOTOS, run, video

from frisket.maskgen.backends.florence2 import Florence2
from frisket.maskgen.base import BackendUnusable, MaskWeightsNotFound
from frisket.maskgen.files import record
from frisket.media.frames import decode_index, probe
from frisket.registry import UnknownPlugin

# Five keypoints in the 64 x 64 that the tiny detector reads, of the face in either half of a pair.
LEFT = ((12.0, 6.0), (16.0, 6.0), (14.0, 8.0), (12.5, 10.0), (15.5, 10.0))
RIGHT = tuple((x + 32, y) for x, y in LEFT)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Tiny random builds of the models that compositions use."""
    folder = tmp_path_factory.mktemp("weights")
    return {
        "clipseg": str(grounding.clipseg(folder / "clipseg")),
        "florence2": str(grounding.florence2(folder / "florence2")),
        "grounding_dino": str(grounding.grounding_dino(folder / "dino")),
        "sam2": str(sam.sam2(folder / "sam2")),
        "sam2_video": str(sam.sam2_video(folder / "sam2_video")),
    }


def test_phrases_and_captions_become_regions(clips, weights):
    (clips / "broken.png").unlink()
    sources = {"clipseg": weights["clipseg"]}
    thresholds = {"clipseg": {"threshold": 0.01}}  # random weights pass it everywhere
    made = run(
        clips.parent,
        backends=("clipseg",),
        sources=sources,
        thresholds=thresholds,
        phrases="face; red jacket",
    )
    assert made.regions == ("face", "clothes")
    assert made.counts == {"done": 2}
    told = record.load(clips.parent / "masks" / "ada.json")
    assert told.settings["wanted"] == {"face": ["face"], "clothes": ["red jacket"]}
    made = run(
        clips.parent,
        output=clips.parent / "captioned",
        backends=("clipseg",),
        sources=sources,
        thresholds=thresholds,
        from_captions=True,
        trigger="sks",
    )
    assert made.regions == ("clothes", "body")
    assert made.messages == ["Background, not looked for: beach."]


@pytest.mark.parametrize("front", ["grounded-sam2", "florence2-sam2"])
def test_grounded_sam_2_on_a_photograph_and_a_video(clips, weights, front):
    (clips / "broken.png").unlink()
    video(clips)
    sources = {n: weights[n] for n in ("sam2", "sam2_video")}
    dino = front == "grounded-sam2"
    name = "grounding_dino" if dino else "florence2"
    made = run(
        clips.parent,
        backends=(front,),
        sources={**sources, name: weights[name]},
        thresholds={"grounding_dino": {"box": 0.0, "text": 0.0}} if dino else {},
        phrases="subject = face",
        tracking={"every": 4, "window": 5},
    )
    assert not made.failed
    for clip in ("ada", "roll"):
        told = record.load(clips.parent / "masks" / f"{clip}.json")
        assert {model.name for model in told.models} >= {name, "sam2"}
        if told.masks:
            mask = probe(clips.parent / "masks" / told.masks[0].name)
            assert mask.frames == told.frames


def test_two_sources_are_combined_and_their_agreement_is_evidence(clips, weights):
    (clips / "broken.png").unlink()
    alone = run(clips.parent)
    both = run(
        clips.parent,
        output=clips.parent / "both",
        backends=("draft", "clipseg"),
        combine="intersect",
        sources={"clipseg": weights["clipseg"]},
        thresholds={"clipseg": {"threshold": 0.01}},
        phrases="face; hair; body",
    )
    assert alone.counts["done"] == both.counts["done"] == 1
    first = decode_index(clips.parent / "masks" / "ada.png")[0]
    second = decode_index(clips.parent / "both" / "ada.png")[0]
    assert not ((second > 0) & (first == 0)).any()
    told = record.load(clips.parent / "both" / "ada.json")
    assert any("two sources" in note for one in told.regions.values() for note in one.notes)


def test_what_cannot_be_done_is_refused_before_any_clip(clips, weights):
    folder = clips.parent
    refused = [
        (UnknownPlugin, "did you mean 'clipseg'", {"backends": ("clipsge",)}),
        (BackendUnusable, "must be told what to look for", {"backends": ("clipseg",)}),
        (BackendUnusable, "takes no phrases", {"phrases": "face"}),
        (BackendUnusable, "grounded-sam2", {"backends": ("sam2",)}),
        (BackendUnusable, "takes no part", {"sources": {"sam2": "x"}}),
        (
            BackendUnusable,
            "no threshold 'votes', did you mean 'vote'",
            {"thresholds": {"draft": {"votes": 1.0}}},
        ),
        (BackendUnusable, "takes no segmenter", {"segmenter": "sam2"}),
        (BackendUnusable, "name a picture of it", {"keep": "face"}),
        (BackendUnusable, "add --soft", {"cleanup": {"feather": 2.0}}),
        (BackendUnusable, "leave out --beside", {"soft": True, "beside": True}),
        (BackendUnusable, "give that too", {"captioner": "florence2"}),
        (
            BackendUnusable,
            "none of the phrases belongs to a region",
            {"backends": ("clipseg",), "phrases": "zzyzx"},
        ),
    ]
    for error, said, options in refused:
        with pytest.raises(error, match=said):
            run(folder, **options)
    with pytest.raises(MaskWeightsNotFound, match="lacks config"):
        run(folder, backends=("clipseg",), phrases="face", sources={"clipseg": str(folder)})
    assert not list((folder / "masks").rglob("*.png"))


def test_a_phrase_that_cannot_be_read_fails_its_clip_alone(clips, weights):
    (clips / "broken.png").unlink()
    (clips / "sky.txt").write_text("a " + "crimson" * 20 + " jacket")
    made = run(
        clips.parent,
        backends=("clipseg",),
        sources={"clipseg": weights["clipseg"]},
        thresholds={"clipseg": {"threshold": 0.01}},
        from_captions=True,
    )
    assert made.counts == {"done": 1, "failed": 1}
    assert made.failed[0].name == "sky"
    assert "shorten it" in made.failed[0].message


def test_only_the_person_of_a_reference_picture_is_kept(clips, tmp_path, caplog):
    """Two people side by side; the tiny recogniser tells them apart by what they look like."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    pack = people.faces(tmp_path / "pack", found=((0.9, LEFT), (0.8, RIGHT)))
    photo = np.asarray(Image.open(PHOTOS / "astronaut.jpg").resize((256, 256)))
    pair = np.concatenate([photo, photo[:, :, ::-1] // 2 + 60], 1)  # other colours, half as strong
    (clips / "broken.png").unlink()
    (clips / "sky.png").unlink()
    (clips / "ada.jpg").unlink()
    Image.fromarray(pair).save(clips / "pair.png")
    like = tmp_path / "like.png"
    both = run(clips.parent)
    assert both.counts == {"done": 1}
    labels = decode_index(clips.parent / "masks" / "pair.png")[0]
    assert (labels[:, :256] == 1).any()
    assert (labels[:, 256:] == 1).any()
    caplog.set_level("INFO", logger="frisket")
    # The reference is the picture itself, so its largest (first) face is the left one's.
    Image.fromarray(pair).save(like)
    made = run(
        clips.parent,
        output=clips.parent / "one",
        keep="face",
        like=(like,),
        alike=0.9,
        sources={"insightface": str(pack)},
    )
    assert made.counts["done"] + made.counts["unsure"] == 1
    assert caplog.text.count("insightface: code") == 1
    assert "non-commercial research only" in caplog.text
    told = record.load(clips.parent / "one" / "pair.json")
    assert {model.name for model in told.models} == {"draft", "insightface"}
    kept = decode_index(clips.parent / "one" / "pair.png")[0]
    sides = [(kept[:, :256] == 1).any(), (kept[:, 256:] == 1).any()]
    assert sorted(map(bool, sides)) == [False, True]


def test_clips_without_a_caption_are_captioned_first(clips, weights, monkeypatch):
    for name in ("broken.png", "ada.txt"):
        (clips / name).unlink()
    (clips / "sky.txt").write_text("a red jacket")
    monkeypatch.setattr(Florence2, "caption", lambda *_: ["A woman with long hair."])
    options = {
        "backends": ("clipseg",),
        "from_captions": True,
        "captioner": "florence2",
        "sources": {name: weights[name] for name in ("clipseg", "florence2")},
        "thresholds": {"clipseg": {"threshold": 0.01}},
    }
    made = run(clips.parent, **options)
    assert made.messages[0] == "ada: captioned 'A woman with long hair.'"
    told = record.load(clips.parent / "masks" / "ada.json")
    assert told.settings["wanted"] == {"hair": ["long hair"], "body": ["woman"]}
    assert record.load(clips.parent / "masks" / "sky.json").settings["wanted"] == {
        "clothes": ["red jacket"]
    }
    with pytest.raises(BackendUnusable, match=r"no captioner 'sam2'.*florence2"):
        run(clips.parent, **options | {"captioner": "sam2"})
