"""`frisket masks` on real files: what it writes, what it leaves alone, how it goes on."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tests.recipes.mask_runs import PHOTOS, run, video

from frisket.config.load import read
from frisket.maskgen.files import record
from frisket.maskgen.files.store import read_legend, read_png_legend
from frisket.media.files import find
from frisket.media.frames import decode_grey, decode_index, probe, write_video
from frisket.recipes.masks.make import clips_of, place_of


def test_a_draft_is_written_beside_the_clips_with_legend_and_record(clips):
    made = run(clips.parent)
    assert made.counts == {"done": 1, "unsure": 1, "failed": 1}
    assert made.failed[0].name == "broken"
    assert "broken.png" in made.failed[0].message
    out = clips.parent / "masks"
    assert read_legend(out / "legend.json") == {"face": 1, "hair": 2, "body": 3}
    assert read_png_legend(out / "ada.png") == {"face": 1, "hair": 2, "body": 3}
    labels = decode_index(out / "ada.png")[0]
    assert labels.shape == (256, 256)
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
    assert [one.name for one in found.clips if one.masks] == ["ada"]
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
        assert run(clips.parent, cleanup={"grow": 3.0}).counts == {"done": 1, "unsure": 1}


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
    made = run(clips.parent, dry_run=True)
    assert made.counts == {"to make": 3}
    assert not (clips.parent / "masks").exists()


def test_a_limit_leaves_the_rest_for_later(clips):
    assert run(clips.parent, limit=1).counts == {"left for later": 2, "done": 1}
    assert run(clips.parent).counts == {"done before": 1, "failed": 1, "unsure": 1}


def test_masks_beside_the_clips_are_no_clips(clips):
    (clips / "broken.png").unlink()
    run(clips.parent, beside=True)
    assert (clips / "ada.mask.png").is_file()
    assert run(clips.parent, beside=True).counts == {"done before": 2}
    assert len(clips_of(*place_of(clips.parent, None, beside=True))) == 2


def test_soft_planes_share_each_pixel_and_are_no_orphans(clips):
    (clips / "broken.png").unlink()
    run(clips.parent, soft=True, cleanup={"feather": 6.0})
    out = clips.parent / "masks"
    planes = {n: decode_grey(out / "soft" / n / "ada.png")[0] for n in ("face", "hair", "body")}
    total = torch.stack(list(planes.values())).sum(0)
    assert float(total.max()) <= 1 + 3 / 255
    assert ((planes["face"] > 0.1) & (planes["face"] < 0.9)).any()
    assert not find(clips, masks="folder", folders={"": out}).orphans
    assert run(clips.parent, soft=True, cleanup={"feather": 6.0}).counts == {"done before": 2}


def test_the_brush_has_the_last_word(clips):
    (clips / "broken.png").unlink()
    brush = clips.parent / "brush"
    brush.mkdir()
    layer = np.full((256, 256), 255, np.uint8)
    layer[:50, :50] = 1
    layer[200:, 100:150] = 0
    Image.fromarray(layer).save(brush / "ada.png")
    run(clips.parent, brush=brush)
    labels = decode_index(clips.parent / "masks" / "ada.png")[0]
    assert (labels[:50, :50] == 1).all()
    assert (labels[200:, 100:150] == 0).all()
    layer[:50, :50] = 2
    Image.fromarray(layer).save(brush / "ada.png")
    assert run(clips.parent, brush=brush).counts["done"] == 1
    Image.fromarray(layer[:10]).save(brush / "ada.png")
    bad = run(clips.parent, brush=brush)
    assert "paint it on the clip's own size" in bad.failed[0].message


def test_worker_processes_give_the_same_masks(clips, tmp_path):
    (clips / "broken.png").unlink()
    run(clips.parent)
    one = (clips.parent / "masks" / "ada.png").read_bytes()
    shutil.copy(clips / "ada.jpg", clips / "bob.jpg")
    made = run(clips.parent, output=tmp_path / "two", workers=2)
    assert made.counts == {"done": 2, "unsure": 1}
    assert (tmp_path / "two" / "ada.png").read_bytes() == one


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


def hidden_walk(folder, frames: int, hidden) -> None:
    """The astronaut moved about; in the frames `hidden` a hand's breadth covers the eyes."""
    photo = np.asarray(Image.open(PHOTOS / "astronaut.jpg").resize((160, 160)))
    moved = np.stack([np.roll(photo, at, 1) for at in range(frames)])
    for at in hidden:
        moved[at, 24:40, 50 + at : 90 + at] = (60, 50, 45)
    folder.mkdir()
    write_video(folder / "walk.mkv", torch.from_numpy(moved), 8.0, lossless=True)


def test_frames_of_a_video_without_a_find_get_the_person_of_the_others(tmp_path):
    hidden_walk(tmp_path / "walks", 6, hidden=(2, 3))
    still = {"smooth": "none", "gap": 0}  # what is filled, is filled by motion
    assert run(tmp_path / "walks", tracking=still).counts == {"done": 1}
    labels = decode_index(tmp_path / "walks_masks" / "walk.mkv")
    sizes = [int((frame > 0).sum()) for frame in labels]
    assert min(sizes) > 0.85 * max(sizes)


def test_a_video_that_is_mostly_empty_is_told_and_not_done(tmp_path):
    hidden_walk(tmp_path / "walks", 16, hidden=range(1, 16))
    made = run(tmp_path / "walks")
    assert made.counts == {"unsure": 1}
    told = record.load(tmp_path / "walks_masks" / "walk.json")
    assert told.confidence <= 0.25
    assert "3 of 16 frames have an empty mask" in told.notes[0]
    assert "frames 13 to 15" in told.notes[0]


def test_a_damaged_record_is_named_and_the_others_go_on(clips):
    (clips / "broken.png").unlink()
    run(clips.parent)
    path = clips.parent / "masks" / "ada.json"
    path.write_text("{ half")
    made = run(clips.parent)
    assert made.counts == {"failed": 1, "done before": 1}
    assert "ada.json" in made.failed[0].message
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
    run(clips.parent, longest=128)
    assert decode_index(clips.parent / "masks" / "ada.png")[0].shape == (256, 256)


def test_a_video_with_a_broken_tail_fails_alone_and_leaves_no_half_mask(clips, tmp_path):
    (clips / "broken.png").unlink()
    whole = video(clips, 24).read_bytes()
    (clips / "roll.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    made = run(clips.parent)
    (failed,) = made.failed
    assert failed.name == "roll"
    assert "cut short" in failed.message
    assert made.counts["done"] == 1
    assert not list((clips.parent / "masks").glob("roll.mkv"))
    assert not list((clips.parent / "masks").glob(".*"))


def test_the_clips_of_a_manifest_get_masks_beside_it(clips):
    (clips / "broken.png").unlink()
    listed = clips.parent / "few.jsonl"
    listed.write_text('{"path": "clips/ada.jpg", "caption": "sks woman"}\n')
    made = run(listed)
    assert made.counts == {"done": 1}
    assert (clips.parent / "few_masks" / "clips" / "ada.png").is_file()


def test_everything_but_the_person_is_the_rest(clips):
    (clips / "broken.png").unlink()
    run(clips.parent)
    made = run(clips.parent, output=clips.parent / "rest", everything_but=True)
    assert made.regions == ("subject",)
    person = decode_index(clips.parent / "masks" / "ada.png")[0] > 0
    assert torch.equal(decode_index(clips.parent / "rest" / "ada.png")[0] == 1, ~person)
    # Where nothing is to be left out, all of it is taken, and that is worth a look.
    assert (decode_index(clips.parent / "rest" / "sky.png") == 1).all()
    told = record.load(clips.parent / "rest" / "sky.json")
    assert told.status == "unsure"
    assert "nothing to leave out" in told.notes[0]
