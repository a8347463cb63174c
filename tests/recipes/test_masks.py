"""`frisket masks` on real files: what it writes, what it leaves alone, how it goes on."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.maskgen import record, tiny_ground, tiny_people, tiny_sam
from frisket.maskgen.backends.florence2 import Florence2
from frisket.maskgen.base import BackendUnusable, WeightsNotFound
from frisket.maskgen.clean import Cleaning
from frisket.maskgen.job import Motion
from frisket.maskgen.store import legend_in, read_legend
from frisket.maskgen.track import Tracking
from frisket.media.files import find
from frisket.media.frames import decode_grey, decode_index, probe, write_video
from frisket.pocket.world import Background, Scene, draw, frames_of
from frisket.recipes.load import read
from frisket.recipes.masks import clips_of, masks, place_of
from frisket.recipes.masks_asked import Asked
from frisket.registry import UnknownPlugin

PHOTOS = Path(__file__).parents[2] / "examples" / "photos" / "clips"
# Five keypoints in the 64 x 64 that the tiny detector reads, of the face in either half of a pair.
LEFT = ((12.0, 6.0), (16.0, 6.0), (14.0, 8.0), (12.5, 10.0), (15.5, 10.0))
RIGHT = tuple((x + 32, y) for x, y in LEFT)
WALL = Background("wall", "white", "white")


@pytest.fixture
def clips(tmp_path):
    """A photograph, a picture of nobody and a broken file, in `set/clips`."""
    folder = tmp_path / "set" / "clips"
    folder.mkdir(parents=True)
    shutil.copy(PHOTOS / "astronaut.jpg", folder / "ada.jpg")
    sky = np.linspace(60, 220, 96)[:, None, None].repeat(128, 1).repeat(3, 2)
    Image.fromarray(sky.astype(np.uint8)).save(folder / "sky.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    for name in ("ada", "sky", "broken"):
        (folder / f"{name}.txt").write_text("sks woman in a red jacket on a beach")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Tiny random builds of the models that compositions use."""
    folder = tmp_path_factory.mktemp("weights")
    return {
        "clipseg": str(tiny_ground.clipseg(folder / "clipseg")),
        "florence2": str(tiny_ground.florence2(folder / "florence2")),
        "grounding_dino": str(tiny_ground.grounding_dino(folder / "dino")),
        "sam2": str(tiny_sam.sam2(folder / "sam2")),
        "sam2_video": str(tiny_sam.sam2_video(folder / "sam2_video")),
    }


def video(folder: Path, frames: int = 9) -> Path:
    scene = Scene(WALL, "circle", "red", 14.0, 16.0, 8.0, "rightward")
    pictures = np.stack([draw(one, 96)[0] for one in frames_of(scene, frames, 0.5)])
    write_video(folder / "roll.mkv", torch.from_numpy(pictures), 8.0, lossless=True)
    return folder / "roll.mkv"


def run(folder: Path, **options):
    return masks(Asked(folder, workers=1, **options))


def test_a_draft_is_written_beside_the_clips_with_legend_and_record(clips):
    made = run(clips.parent)
    assert made.counts == {"done": 1, "unsure": 1, "failed": 1}
    assert made.failed[0].name == "broken"
    assert "broken.png" in made.failed[0].said
    out = clips.parent / "masks"
    assert read_legend(out / "legend.json") == {"face": 1, "hair": 2, "body": 3}
    assert legend_in(out / "ada.png") == {"face": 1, "hair": 2, "body": 3}
    labels = decode_index(out / "ada.png")[0]
    assert labels.shape == (512, 512)
    assert set(labels.unique().tolist()) == {0, 1, 2, 3}
    told = record.load(out / "ada.json")
    assert told.status == "done"
    assert told.models[0].weights_licence
    assert sum(one.share for one in told.regions.values()) == pytest.approx(
        float((labels > 0).float().mean())
    )
    assert not (out / "sky.png").exists()
    assert "no face" in record.load(out / "sky.json").notes[0]
    assert record.load(out / "broken.json").status == "failed"


def test_a_config_reads_it_by_the_preset_and_the_legend(clips):
    (clips / "broken.png").unlink()
    run(clips.parent)
    config = clips.parent / "frisket.toml"
    config.write_text('regions = "person"\n[[data]]\nclips = "clips"\nmasks = "masks"\n')
    (data,) = read(config)[0].data
    assert data.masks.legend == {"face": 1, "hair": 2, "body": 3}
    found = find(data.clips, masks="folder", folders={"": data.masks.path})
    assert [one.name for one in found.found if one.masks] == ["ada"]
    assert not found.orphans


def test_a_second_run_does_what_is_left_alone(clips):
    run(clips.parent)
    before = (clips.parent / "masks" / "ada.png").stat().st_mtime_ns
    (clips / "broken.png").unlink()
    again = run(clips.parent)
    assert again.counts == {"done before": 2}
    assert (clips.parent / "masks" / "ada.png").stat().st_mtime_ns == before
    assert run(clips.parent, again=True).counts["done"] == 1


@pytest.mark.parametrize("change", ["clip", "settings"])
def test_what_changed_is_made_again(clips, change):
    (clips / "broken.png").unlink()
    run(clips.parent)
    if change == "clip":
        picture = Image.open(clips / "ada.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        picture.save(clips / "ada.jpg")
        assert run(clips.parent).counts == {"done": 1, "done before": 1}
    else:
        assert run(clips.parent, cleaning=Cleaning(grow=3.0)).counts == {"done": 1, "unsure": 1}


@pytest.mark.parametrize("how", ["painted over", "no record"])
def test_hand_work_is_left_alone_unless_asked(clips, how):
    (clips / "broken.png").unlink()
    run(clips.parent)
    mask = clips.parent / "masks" / "ada.png"
    if how == "no record":
        mask.with_suffix(".json").unlink()
    else:
        labels = np.array(Image.open(mask))
        labels[:50] = 2
        Image.fromarray(labels).save(mask)
    before = mask.read_bytes()
    kept = run(clips.parent, again=True)
    assert kept.counts["by hand, kept"] == 1
    assert mask.read_bytes() == before
    asked = run(clips.parent, overwrite=True)
    assert asked.counts["done"] == 1
    assert mask.read_bytes() != before or how == "no record"


def test_a_dry_run_writes_nothing(clips):
    made = masks(Asked(clips.parent), dry=True)
    assert made.counts == {"to make": 3}
    assert not (clips.parent / "masks").exists()


def test_a_limit_leaves_the_rest_for_later(clips):
    assert run(clips.parent, limit=1).counts["left for later"] == 2
    assert run(clips.parent).counts["done"] + run(clips.parent).counts["done before"] >= 1


def test_masks_beside_the_clips_are_no_clips(clips):
    (clips / "broken.png").unlink()
    run(clips.parent, beside=True)
    assert (clips / "ada.mask.png").is_file()
    assert run(clips.parent, beside=True).counts == {"done before": 2}
    assert len(clips_of(*place_of(clips.parent, None, beside=True))) == 2


def test_soft_planes_share_each_pixel_and_are_no_orphans(clips):
    (clips / "broken.png").unlink()
    run(clips.parent, soft=True, cleaning=Cleaning(feather=6.0))
    out = clips.parent / "masks"
    planes = {n: decode_grey(out / "soft" / n / "ada.png")[0] for n in ("face", "hair", "body")}
    total = torch.stack(list(planes.values())).sum(0)
    assert float(total.max()) <= 1 + 3 / 255
    assert ((planes["face"] > 0.1) & (planes["face"] < 0.9)).any()
    assert not find(clips, masks="folder", folders={"": out}).orphans
    assert run(clips.parent, soft=True, cleaning=Cleaning(feather=6.0)).counts == {"done before": 2}


def test_the_brush_has_the_last_word(clips):
    (clips / "broken.png").unlink()
    brush = clips.parent / "brush"
    brush.mkdir()
    layer = np.full((512, 512), 255, np.uint8)
    layer[:100, :100] = 1
    layer[400:, 200:300] = 0
    Image.fromarray(layer).save(brush / "ada.png")
    run(clips.parent, brush=brush)
    labels = decode_index(clips.parent / "masks" / "ada.png")[0]
    assert (labels[:100, :100] == 1).all()
    assert (labels[400:, 200:300] == 0).all()
    layer[:100, :100] = 2
    Image.fromarray(layer).save(brush / "ada.png")
    assert run(clips.parent, brush=brush).counts["done"] == 1
    Image.fromarray(layer[:10]).save(brush / "ada.png")
    bad = run(clips.parent, brush=brush)
    assert "paint it on the clip's own size" in bad.failed[0].said


def test_worker_processes_give_the_same_masks(clips, tmp_path):
    (clips / "broken.png").unlink()
    run(clips.parent)
    one = (clips.parent / "masks" / "ada.png").read_bytes()
    shutil.copy(clips / "ada.jpg", clips / "bob.jpg")
    made = masks(Asked(clips.parent, tmp_path / "two", workers=2))
    assert made.counts == {"done": 2, "unsure": 1}
    assert (tmp_path / "two" / "ada.png").read_bytes() == one


def test_phrases_and_captions_become_regions(clips, weights):
    (clips / "broken.png").unlink()
    sources = {"clipseg": weights["clipseg"]}
    cuts = {"clipseg.threshold": 0.01}  # random weights pass it everywhere
    made = run(
        clips.parent, backends=("clipseg",), sources=sources, cuts=cuts, phrases="face; red jacket"
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
        cuts=cuts,
        from_captions=True,
        trigger="sks",
    )
    assert made.regions == ("clothes", "body")
    assert made.told == ["Background, not looked for: beach."]


def test_everything_but_what_is_found(clips, weights):
    (clips / "broken.png").unlink()
    made = run(
        clips.parent,
        backends=("grounding_dino",),
        segmenter="none",
        sources={"grounding_dino": weights["grounding_dino"]},
        cuts={"grounding_dino.box": 0.0, "grounding_dino.text": 0.0},
        phrases="face; hair",
        everything_but=True,
        tracker="none",
    )
    assert made.regions == ("subject",)
    told = record.load(clips.parent / "masks" / "ada.json")
    assert told.status in ("done", "nothing")


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
        cuts={"grounding_dino.box": 0.0, "grounding_dino.text": 0.0} if dino else {},
        phrases="subject = face",
        motion=Motion(Tracking(every=4, window=5, gap=2)),
    )
    assert not made.failed
    for clip in ("ada", "roll"):
        told = record.load(clips.parent / "masks" / f"{clip}.json")
        assert {model.name for model in told.models} >= {name, "sam2"}
        if told.masks:
            mask = probe(clips.parent / "masks" / told.masks[0].name)
            assert mask.frames == told.frames


def test_a_video_of_a_drafted_person_keeps_every_frame(clips, tmp_path):
    photo = np.asarray(Image.open(PHOTOS / "astronaut.jpg").resize((256, 256)))
    frames = np.stack([np.roll(photo, 2 * at, 1) for at in range(5)])
    folder = tmp_path / "walks"
    folder.mkdir()
    write_video(folder / "walk.mkv", torch.from_numpy(frames), 8.0, lossless=True)
    made = run(folder, soft=True)
    assert made.counts == {"done": 1}
    out = tmp_path / "walks_masks"
    labels = decode_index(out / "walk.mkv")
    assert labels.shape == (5, 256, 256)
    assert all((frame == 1).any() for frame in labels)
    assert probe(out / "soft" / "face" / "walk.mkv").frames == 5
    told = record.load(out / "walk.json")
    assert told.worst is not None
    assert "motion" in told.settings


def test_two_sources_are_combined_and_their_agreement_is_evidence(clips, weights):
    (clips / "broken.png").unlink()
    alone = run(clips.parent)
    both = run(
        clips.parent,
        output=clips.parent / "both",
        backends=("draft", "clipseg"),
        how="intersect",
        sources={"clipseg": weights["clipseg"]},
        cuts={"clipseg.threshold": 0.01},
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
            {"cuts": {"draft.votes": 1.0}},
        ),
        (BackendUnusable, "takes no segmenter", {"segmenter": "sam2"}),
        (BackendUnusable, "name a picture of it", {"keep": "face"}),
        (BackendUnusable, "add --soft", {"cleaning": Cleaning(feather=2.0)}),
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
    with pytest.raises(WeightsNotFound, match="lacks config"):
        run(folder, backends=("clipseg",), phrases="face", sources={"clipseg": str(folder)})
    assert not list((folder / "masks").glob("*.png")) if (folder / "masks").exists() else True


def test_a_phrase_that_cannot_be_read_fails_its_clip_alone(clips, weights):
    (clips / "broken.png").unlink()
    (clips / "sky.txt").write_text("a " + "very " * 200 + "long red jacket")
    made = run(
        clips.parent,
        backends=("clipseg",),
        sources={"clipseg": weights["clipseg"]},
        cuts={"clipseg.threshold": 0.01},
        from_captions=True,
    )
    assert made.counts["done"] >= 1
    assert len(made.failed) + made.counts["done"] == 2


def test_a_damaged_record_is_named_and_the_others_go_on(clips):
    (clips / "broken.png").unlink()
    run(clips.parent)
    path = clips.parent / "masks" / "ada.json"
    path.write_text("{ half")
    made = run(clips.parent)
    assert made.counts == {"failed": 1, "done before": 1}
    assert "ada.json" in made.failed[0].said
    assert run(clips.parent, overwrite=True).counts["done"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_mask_folder_is_named(clips):
    (clips.parent / "masks").mkdir(mode=0o500)
    with pytest.raises(OSError, match="legend"):
        run(clips.parent)


def test_stability_finds_the_mask_that_a_mirror_undoes(clips):
    (clips / "broken.png").unlink()
    run(clips.parent, stability=True)
    told = json.loads((clips.parent / "masks" / "ada.json").read_text())
    assert told["confidence"] > 0.5
    notes = [note for one in told["regions"].values() for note in one["notes"]]
    assert any("mirrored" in note or "three quarters" in note for note in notes)


def test_a_smaller_look_gives_masks_of_full_size(clips):
    (clips / "broken.png").unlink()
    run(clips.parent, longest=256)
    assert decode_index(clips.parent / "masks" / "ada.png")[0].shape == (512, 512)


def test_asked_is_frozen_and_copied_whole(clips):
    asked = Asked(clips)
    assert replace(asked, limit=3).limit == 3


def test_only_the_person_of_a_reference_picture_is_kept(clips, tmp_path, monkeypatch):
    """Two people side by side; the tiny recogniser tells them apart by what they look like."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    pack = tiny_people.faces(tmp_path / "pack", found=((0.9, LEFT), (0.8, RIGHT)))
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
    kept = decode_index(clips.parent / "one" / "pair.png")[0]
    sides = [(kept[:, :256] == 1).any(), (kept[:, 256:] == 1).any()]
    assert sorted(map(bool, sides)) == [False, True]


def test_a_video_with_a_broken_tail_fails_alone_and_leaves_no_half_mask(clips, tmp_path):
    (clips / "broken.png").unlink()
    whole = video(clips, 24).read_bytes()
    (clips / "roll.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    made = run(clips.parent)
    (failed,) = made.failed
    assert failed.name == "roll"
    assert "cut short" in failed.said
    assert made.counts["done"] == 1
    assert not list((clips.parent / "masks").glob("roll.mkv"))
    assert not list((clips.parent / "masks").glob(".*"))


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
        "cuts": {"clipseg.threshold": 0.01},
    }
    made = run(clips.parent, **options)
    assert made.told[0] == "ada: captioned 'A woman with long hair.'"
    told = record.load(clips.parent / "masks" / "ada.json")
    assert told.settings["wanted"] == {"hair": ["long hair"], "body": ["woman"]}
    assert record.load(clips.parent / "masks" / "sky.json").settings["wanted"] == {
        "clothes": ["red jacket"]
    }
    with pytest.raises(BackendUnusable, match=r"no captioner 'sam2'.*florence2"):
        run(clips.parent, **options | {"captioner": "sam2"})


def test_the_clips_of_a_manifest_get_masks_beside_it(clips):
    (clips / "broken.png").unlink()
    listed = clips.parent / "few.jsonl"
    listed.write_text('{"path": "clips/ada.jpg", "caption": "sks woman"}\n')
    made = run(listed)
    assert made.counts == {"done": 1}
    assert (clips.parent / "few_masks" / "clips" / "ada.png").is_file()
