"""`frisket masks eval`: numbers worked out by hand, every kind of mask folder, what is amiss."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from frisket.cli.masks import files as files_module
from frisket.cli.masks.compare import run
from frisket.evaluation.mask_metrics import compare_labels
from frisket.maskgen.files.store import LEGEND, open_label_video, write_labels
from frisket.masks.read import read
from frisket.media.files import TwoFiles
from frisket.media.frames import probe, write_video
from frisket.pocket.world import Background, Scene, draw, frames_of
from frisket.recipes.masks import compare
from frisket.recipes.masks.folder import BadMaskOption, cut

LEVELS = {"face": 255, "body": 128, "hair": 80}


def grey(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def band(left: int, right: int, level: int = 255, width: int = 40, height: int = 30):
    """A grey mask with one upright band of columns."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, left:right] = level
    return mask


def label_map(folder, name, legend, **bands):
    labels = torch.zeros(30, 40, dtype=torch.uint8)
    for region, (left, right) in bands.items():
        labels[:, left:right] = legend[region]
    write_labels(folder / f"{name}.png", labels, legend)


def numbers(tmp_path, *words, code=0, **options):
    lines, said = run(*map(str, words), output=tmp_path / "out.json", **options)
    assert said == code, lines
    return json.loads((tmp_path / "out.json").read_text()), lines


def test_grey_masks_are_one_region(tmp_path):
    grey(tmp_path / "pred/a.png", band(10, 30))
    grey(tmp_path / "gt/a.png", band(0, 20))
    told, lines = numbers(tmp_path, tmp_path / "pred", tmp_path / "gt")
    subject = told["whole"]["regions"]["subject"]
    assert subject["iou"] == pytest.approx(1 / 3)
    assert subject["dice"] == pytest.approx(1 / 2)
    assert (subject["predicted"], subject["true"]) == (0.5, 0.5)
    assert told["whole"]["confusion"]["subject"] == {"background": 0.25, "subject": 0.25}
    assert subject["temporal"] is None
    row = next(line for line in lines if line.startswith("subject"))
    assert row.split() == ["subject", "0.333", "0.000", "0.500", "50.0%", "50.0%"]
    assert any("half white" in line for line in lines)


def test_label_maps_meet_grey_levels_and_legends_differ(tmp_path):
    legend = {"hair": 1, "face": 2, "hands": 3}  # another order, and one more
    label_map(tmp_path / "pred", "a", legend, face=(0, 10), hair=(10, 20), hands=(20, 30))
    (tmp_path / "pred" / LEGEND).write_text(json.dumps(legend))
    truth = band(0, 10) + band(10, 20, 80) + band(20, 30, 128)
    grey(tmp_path / "gt/a.png", truth)
    told, lines = numbers(
        tmp_path, tmp_path / "pred", tmp_path / "gt", levels="face=255,body=128,hair=80"
    )
    assert told["regions"] == ["face", "hair"]
    assert [told["whole"]["regions"][name]["iou"] for name in ("face", "hair")] == [1, 1]
    assert "only the prediction has hands: left out, background in both" in lines
    assert "only the truth has body: left out, background in both" in lines


def test_a_png_brings_its_own_legend(tmp_path):
    label_map(tmp_path / "pred", "a", {"face": 7}, face=(0, 10))
    label_map(tmp_path / "gt", "a", {"face": 1}, face=(0, 10))
    told, _ = numbers(tmp_path, tmp_path / "pred", tmp_path / "gt")
    assert told["whole"]["regions"]["face"]["iou"] == 1


def test_unions_are_compared_with_what_is_one_there(tmp_path):
    legend = {"face": 1, "body": 2}
    label_map(tmp_path / "pred", "a", legend, face=(0, 10), body=(10, 20))
    grey(tmp_path / "gt/a.png", band(0, 20))
    folders = tmp_path / "pred", tmp_path / "gt"
    told, _ = numbers(tmp_path, *folders, merge=["subject=face,body"])
    assert told["regions"] == ["subject"]
    assert told["whole"]["regions"]["subject"]["iou"] == 1
    with pytest.raises(BadMaskOption, match=r"no region in common.*--merge subject=face,body"):
        run(*map(str, folders))
    with pytest.raises(BadMaskOption, match="named 'fase', did you mean 'face'"):
        run(*map(str, folders), merge=["subject=fase"])


@pytest.mark.parametrize("explicit", [True, False])
def test_a_folder_a_region(tmp_path, explicit):
    grey(tmp_path / "clips/a.png", np.zeros((30, 40, 3)))
    grey(tmp_path / "pred/face/a.png", band(0, 10))
    grey(tmp_path / "pred/hair/a.png", band(10, 20))
    label_map(tmp_path / "gt", "a", {"hair": 1, "face": 2}, face=(0, 10), hair=(10, 20))
    pred, clips = tmp_path / "pred", None
    if explicit:
        pred = f"face={pred}/face,hair={pred}/hair"
    else:
        clips = tmp_path / "clips"
    told, _ = numbers(tmp_path, pred, tmp_path / "gt", clips=clips)
    assert {name: each["iou"] for name, each in told["whole"]["regions"].items()} == {
        "hair": 1,
        "face": 1,
    }


def test_masks_beside_the_clips(tmp_path):
    grey(tmp_path / "clips/a.jpg", np.zeros((30, 40, 3)))
    grey(tmp_path / "clips/a.mask.png", band(0, 10))
    grey(tmp_path / "gt/a.png", band(0, 10))
    told, _ = numbers(tmp_path, tmp_path / "clips", tmp_path / "gt", clips=tmp_path / "clips")
    assert told["whole"]["mean_iou"] == 1


def test_what_does_not_fit_is_named_and_stops_nothing(tmp_path):
    for name in ("good", "lonely", "small"):
        grey(tmp_path / f"gt/{name}.png", band(0, 10))
    grey(tmp_path / "pred/good.png", band(0, 10))
    grey(tmp_path / "pred/small.png", band(0, 10, width=20))
    grey(tmp_path / "pred/stray.png", band(0, 10))
    grey(tmp_path / "pred/labels.png", band(0, 10, level=2))
    grey(tmp_path / "gt/labels.png", band(0, 10))
    (tmp_path / "pred/broken.png").write_bytes(b"no picture")
    grey(tmp_path / "gt/broken.png", band(0, 10))
    told, lines = numbers(tmp_path, tmp_path / "pred", tmp_path / "gt")
    assert list(told["clips"]) == ["good", "lonely"]
    assert told["clips"]["lonely"]["regions"]["subject"]["iou"] == 0  # nothing was found in it
    assert told["unpredicted"] == ["lonely"]
    assert told["unjudged"] == ["stray"]
    assert told["failed"].keys() == {"small", "labels", "broken"}
    assert "sizes differ" in told["failed"]["small"]
    assert "20 x 30" in told["failed"]["small"]
    assert "label numbers" in told["failed"]["labels"]
    assert "3 clips could not be compared:" in lines
    assert any(line.startswith("1 clip with a truth but no prediction") for line in lines)


def test_nothing_in_common_is_exit_code_1(tmp_path):
    grey(tmp_path / "pred/a.png", band(0, 10))
    grey(tmp_path / "gt/b.png", band(0, 10))
    lines, code = run(str(tmp_path / "pred"), str(tmp_path / "gt"))
    assert code == 1
    assert "'a' in" in lines[0]
    assert "'b' in" in lines[0]
    grey(tmp_path / "pred/b.png", band(0, 10, width=20))
    lines, code = run(str(tmp_path / "pred"), str(tmp_path / "gt"))
    assert code == 1
    assert lines[0] == "No clip could be compared."


def test_wrong_folders_and_options(tmp_path):
    grey(tmp_path / "pred/a.png", band(0, 10))
    grey(tmp_path / "gt/a.png", band(0, 10))
    folders = str(tmp_path / "pred"), str(tmp_path / "gt")
    with pytest.raises(BadMaskOption, match="no such folder of masks"):
        run(folders[0], str(tmp_path / "gone"))
    with pytest.raises(BadMaskOption, match="both prediction and truth"):
        run(folders[0], folders[0])
    with pytest.raises(BadMaskOption, match="--levels: 'face' is not region=number"):
        run(*folders, levels="face")
    with pytest.raises(BadMaskOption, match="from 0 to 255"):
        run(*folders, levels="face=300")
    with pytest.raises(BadMaskOption, match="--merge: 'person' should be like"):
        run(*folders, merge=["person"])
    grey(tmp_path / "pred/a.bmp", band(0, 10))
    with pytest.raises(TwoFiles, match=r"a\.bmp"):
        run(*folders)


def moving(frames: int):
    scene = Scene(Background("checks", "red", "white"), "circle", "blue", motion="rightward")
    drawn = [draw(each, 64) for each in frames_of(scene, frames, stride=0.25)]
    pictures = torch.stack([torch.from_numpy(picture) for picture, _ in drawn])
    return pictures, torch.stack([torch.from_numpy(m["subject"]) for _, m in drawn]) > 0.5


@pytest.fixture
def video(tmp_path):
    """A clip longer than two windows, its true masks, and masks that flicker between windows."""
    pictures, true = moving(2 * compare.WINDOW + 5)
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips/a.mkv", pictures, 8, lossless=True)
    told = true.clone()
    told[compare.WINDOW] = False
    for folder, masks in (("gt", true), ("pred", told)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / LEGEND).write_text('{"subject": 1}')
        with open_label_video(tmp_path / folder / "a.mkv", 8, {"subject": 1}) as add:
            for mask in masks:
                add(mask.to(torch.uint8))
    return pictures, told.to(torch.uint8), true.to(torch.uint8)


def test_windows_change_no_number(tmp_path, video):
    whole = compare_labels(video[1], video[2], ["subject"], video[0])
    told, lines = numbers(tmp_path, tmp_path / "pred", tmp_path / "gt", clips=tmp_path / "clips")
    score = told["clips"]["a"]["regions"]["subject"]
    for key in ("iou", "dice", "boundary", "temporal", "compensated", "truth_compensated"):
        assert score[key] == pytest.approx(getattr(whole.regions["subject"], key)), key
    assert score["temporal"] < 0.97
    assert np.allclose(
        [list(row.values()) for row in told["whole"]["confusion"].values()], whole.confusion
    )
    assert any("temporal IoU  compensated  truth's" in line for line in lines)


def test_a_video_without_its_pictures_has_only_the_plain_temporal_iou(tmp_path, video):
    told, lines = numbers(tmp_path, tmp_path / "pred", tmp_path / "gt")
    score = told["clips"]["a"]["regions"]["subject"]
    assert score["temporal"] < 1
    assert score["compensated"] is None
    assert not any("compensated" in line for line in lines)


def test_frame_counts_that_differ_are_told(tmp_path, video):
    with open_label_video(tmp_path / "pred/a.mkv", 8, {"subject": 1}) as add:
        add(video[1][0])
        add(video[1][1])
    told, _ = numbers(tmp_path, tmp_path / "pred", tmp_path / "gt", code=1)
    assert "frame counts differ" in told["failed"]["a"]
    assert "has 2, " in told["failed"]["a"]


def test_folders_of_frames_are_videos_where_the_clips_are_known(tmp_path, video):
    (tmp_path / "gt/a.mkv").unlink()
    for index, mask in enumerate(video[2]):
        grey(tmp_path / f"gt/a/{index:03}.png", mask.numpy())
    folders = tmp_path / "pred", tmp_path / "gt"
    told, _ = numbers(tmp_path, *folders, clips=tmp_path / "clips")
    assert told["clips"]["a"]["frames"] == len(video[2])
    lines, code = run(*map(str, folders))
    assert code == 1
    assert "--clips" in lines[0]


def test_levels_are_cut_as_for_training(tmp_path):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    grey(tmp_path / "clips/a.png", ramp)
    media = probe(tmp_path / "clips/a.png")
    trained = read(
        {"": media.path}, clip=media, alpha=False, picks=[0], regions=list(LEVELS), levels=LEVELS
    )
    here = cut(torch.from_numpy(ramp).float() / 255, LEVELS)
    assert here.keys() == trained.keys()
    assert all(torch.equal(here[name], trained[name][0]) for name in here)


def test_the_command_prints_and_says_by_its_exit_code(tmp_path):
    app = typer.Typer()
    files_module.add(app, lambda: nullcontext(lambda *_: None))
    grey(tmp_path / "pred/a.png", band(0, 10))
    grey(tmp_path / "gt/a.png", band(0, 10))
    words = ["eval", "--pred", tmp_path / "pred", "--gt", tmp_path / "gt"]
    ran = CliRunner().invoke(app, [*map(str, words), "--json", str(tmp_path / "o.json")])
    assert ran.exit_code == 0, ran.output
    assert "mean over clips" in ran.output
    assert json.loads((tmp_path / "o.json").read_text())["whole"]["mean_iou"] == 1
    (tmp_path / "gt/a.png").rename(tmp_path / "gt/b.png")
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 1
