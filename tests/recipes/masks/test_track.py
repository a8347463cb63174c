"""The command carries a painted frame through the mask file of a clip."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tests.studio.video.pocket_clips import LEGEND, draw_clip, write_clip, write_masks
from typer.testing import CliRunner

from frisket.cli.app import app
from frisket.maskgen.files import record
from frisket.maskgen.files.label_maps import save_labels
from frisket.maskgen.tracking.flow import measure_overlap
from frisket.media.frames import decode_index, probe

REGIONS = (1, 2, 3)


def run(*args):
    return CliRunner().invoke(app, ["masks", "track", *map(str, args)])


def lay_clip(root, labels, pictures):
    write_clip(root / "clips" / "a.mkv", pictures)
    write_masks(root / "masks" / "a.mkv", labels)
    return root / "clips" / "a.mkv", root / "masks" / "a.mkv"


def test_a_frame_is_carried_and_all_else_stays(tmp_path):
    pictures, labels = draw_clip(12, 64)
    wrong = labels.copy()
    wrong[4:] = 0
    clip, mask = lay_clip(tmp_path, wrong, pictures)
    result = run(clip, "--from", 3, "--to", 9)
    assert result.exit_code == 0, result.output
    assert "6 of 6 frames carried" in result.output
    read = decode_index(mask).numpy()
    assert np.array_equal(read[:4], labels[:4])
    assert not read[10:].any()
    for at in range(4, 10):
        assert measure_overlap(read[at].astype(np.uint8), labels[at], REGIONS) > 0.85
    noted = record.load(tmp_path / "masks" / "a.json")
    assert noted.painted == (3,)
    assert [frame for frame, _ in noted.tracked] == [4, 5, 6, 7, 8, 9]
    masks = {"a.mkv": mask}
    assert record.state(noted, clip=clip, masks=masks, key="") == "hand"


def test_backward_between_keyframes_and_again_the_same_bytes(tmp_path):
    pictures, labels = draw_clip(10, 48)
    clip, mask = lay_clip(tmp_path, labels, pictures)
    assert run(clip, "--from", 9, "--to", 0, "--key", 4).exit_code == 0
    read = decode_index(mask).numpy()
    assert np.array_equal(read[4], labels[4])
    assert np.array_equal(read[9], labels[9])
    first = mask.read_bytes()
    assert run(clip, "--from", 9, "--to", 0).exit_code == 0  # the record knows frame 4
    assert mask.read_bytes() == first


def test_a_still_mask_becomes_one_of_frames(tmp_path):
    pictures, labels = draw_clip(5, 48)
    write_clip(tmp_path / "clips" / "a.mkv", pictures)
    still = tmp_path / "masks" / "a.png"
    still.parent.mkdir()
    save_labels(still, labels[0], LEGEND)
    (still.parent / "legend.json").write_text(json.dumps(LEGEND))
    result = run(tmp_path / "clips" / "a.mkv", "--from", 0, "--to", 3)
    assert result.exit_code == 0, result.output
    assert "in the place of" in result.output
    assert not still.exists()
    read = decode_index(tmp_path / "masks" / "a.mkv").numpy()
    assert np.array_equal(read[0], labels[0])
    assert np.array_equal(read[4], labels[0])  # outside of the range the still goes on


def test_a_grey_mask_and_a_folder_of_frames(tmp_path):
    pictures, labels = draw_clip(4, 48)
    write_clip(tmp_path / "clips" / "a.mkv", pictures)
    folder = tmp_path / "masks" / "a"
    folder.mkdir(parents=True)
    for at, frame in enumerate(labels):
        grey = np.where(frame > 0, 255 if at == 0 else 0, 0).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{at}.png")
    result = run(tmp_path / "clips" / "a.mkv", "--from", 0, "--to", 3)
    assert result.exit_code == 0, result.output
    last = np.asarray(Image.open(folder / "3.png"))
    assert set(np.unique(last)) == {0, 255}
    overlap = measure_overlap((last > 0).astype(np.uint8), (labels[3] > 0).astype(np.uint8), [1])
    assert overlap > 0.8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from", 0, "--to", 99), "--to 99"),
        (("--from", -1, "--to", 2), "--from -1"),
        (("--from", 2, "--to", 2), "give another"),
        (("--from", 0, "--to", 2, "--masks", "nowhere"), "no mask"),
        (("--from", 0, "--to", 2, "--tracker", "sam2"), "follows no painted mask"),
        (("--from", 0, "--to", 2, "--tracker", "nobody"), "nobody"),
    ],
)
def test_what_cannot_be_done_is_said_before(tmp_path, options, words):
    pictures, labels = draw_clip(4, 32)
    clip, mask = lay_clip(tmp_path, labels, pictures)
    before = mask.read_bytes()
    result = run(clip, *options)
    assert result.exit_code != 0
    assert words in (result.output + str(result.exception))
    assert mask.read_bytes() == before
    assert not (tmp_path / "masks" / "a.json").exists()


def test_the_model_tracker_is_the_shelf_s(tmp_path):
    from tests.maskgen.tiny.sam import sam2_video

    pictures, labels = draw_clip(4, 32)
    clip, mask = lay_clip(tmp_path, labels, pictures)
    folder = sam2_video(tmp_path / "model")
    result = run(
        clip, "--from", 0, "--to", 3, "--tracker", "sam2_video", "--source", folder,
        "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert probe(mask).frames == 4
    assert torch.equal(decode_index(mask)[0], torch.from_numpy(labels[0]).int())
