"""Masks of videos: painted over the server, carried on, written whole, read by the trainer."""

import json
import time
import zlib

import numpy as np
import torch
from tests.studio.video.pocket_clips import LEGEND, draw_clip, write_clip, write_masks

from frisket.maskgen.files import record
from frisket.maskgen.files.label_maps import save_labels
from frisket.maskgen.tracking.flow import measure_overlap
from frisket.masks.read import read as read_masks
from frisket.media.frames import decode_index, probe
from frisket.studio.documents.base import MaskPatch, Tile
from frisket.studio.documents.wire import pack_patch
from frisket.studio.workspace import Workspace

REGIONS = (1, 2, 3)


def find_clip(client):
    workspace: Workspace = client.app.state.studio.workspace
    (clip,) = workspace.list_clips(workspace.list_sets()[0])
    return clip.id


def read_mask(client, clip, frame):
    answer = client.get(f"/api/clips/{clip}/mask?frame={frame}")
    assert answer.status_code == 200, answer.text
    info = json.loads(answer.headers["X-Frisket-Mask"])
    ids = np.frombuffer(zlib.decompress(answer.content), np.uint8)
    return ids.reshape(info["height"], info["width"]), info


def paint(client, clip, frame, ids, revision):
    high, wide = ids.shape
    patch = MaskPatch(wide, high, (Tile(-1, 0, 0, ids),))
    return client.put(
        f"/api/clips/{clip}/mask",
        content=pack_patch(patch, frame),
        headers={"If-Match": revision, "Content-Type": "application/octet-stream"},
    )


def paint_frame(client, clip, frame, ids):
    answer = paint(client, clip, frame, ids, read_mask(client, clip, frame)[1]["revision"])
    assert answer.status_code == 200, answer.text
    return answer.json()["revision"]


def wait_for_tracking(client, clip):
    for _ in range(600):
        told = client.get(f"/api/clips/{clip}/timeline").json()
        if not told["tracking"]["running"]:
            assert not told["tracking"]["fault"], told
            return told
        time.sleep(0.05)
    raise AssertionError("the tracking does not end")


def test_frames_are_painted_carried_and_written_whole(folder, client):
    pictures, labels = draw_clip(14, 64)
    write_clip(folder / "clips" / "a.mkv", pictures)
    masks = folder / "masks"
    masks.mkdir()
    (masks / "legend.json").write_text(json.dumps(LEGEND))
    clip = find_clip(client)
    blank, info = read_mask(client, clip, 0)
    assert not blank.any()
    assert info["frame_count"] == 14
    revision = paint_frame(client, clip, 0, labels[0])
    assert np.array_equal(read_mask(client, clip, 0)[0], labels[0])
    late = paint(client, clip, 0, blank, info["revision"])
    assert late.status_code == 412
    assert late.json()["revision"] == revision

    body = {"first": 0, "last": 13, "direction": "both"}
    assert client.post(f"/api/clips/{clip}/mask/track", json=body).status_code == 200
    told = wait_for_tracking(client, clip)
    assert told["painted"] == [0]
    assert [*map(int, told["tracked"])] == list(range(1, 14))
    paint_frame(client, clip, 9, labels[9])  # a correction, carried both ways
    assert client.post(f"/api/clips/{clip}/mask/track", json=body).status_code == 200
    told = wait_for_tracking(client, clip)
    assert told["painted"] == [0, 9]
    assert np.array_equal(read_mask(client, clip, 9)[0], labels[9])
    assert not (masks / "a.mkv").exists()  # all of it is kept as drafts

    kept = read_mask(client, clip, 5)[1]["revision"]
    written = client.post(f"/api/clips/{clip}/mask/whole")
    assert written.json()["written"] == 14, written.text
    assert read_mask(client, clip, 5)[1]["revision"] == kept  # the page's word still holds
    mask = masks / "a.mkv"
    assert probe(mask).frames == 14
    read = decode_index(mask).numpy()
    assert np.array_equal(read[0], labels[0])
    assert np.array_equal(read[9], labels[9])
    overlaps = [measure_overlap(read[at].astype(np.uint8), labels[at], REGIONS) for at in range(14)]
    assert min(overlaps) > 0.85
    planes = read_masks(
        {"": mask},
        clip=probe(folder / "clips" / "a.mkv"),
        alpha=False,
        picks=(0, 9),
        regions=tuple(LEGEND),
        legend=LEGEND,
    )
    assert torch.equal(planes["body"][1], torch.from_numpy(labels[9] == 1).float())
    noted = record.load(masks / "a.json")
    assert noted.painted == (0, 9)
    assert len(noted.tracked) == 12
    told = client.get(f"/api/clips/{clip}/timeline").json()
    assert told["painted"] == [0, 9]
    assert told["waiting"] == []
    assert len(told["shares"]["1"]) == 14
    again = paint(client, clip, 5, labels[5], kept)
    assert again.status_code == 200


def test_the_file_is_what_frisket_masks_writes(folder, client):
    pictures, labels = draw_clip(6, 48)
    write_clip(folder / "clips" / "a.mkv", pictures)
    write_masks(folder / "masks" / "a.mkv", np.zeros_like(labels))
    clip = find_clip(client)
    for frame, ids in enumerate(labels):
        paint_frame(client, clip, frame, ids)
    client.post(f"/api/clips/{clip}/mask/whole")
    written = (folder / "masks" / "a.mkv").read_bytes()
    write_masks(folder / "twin" / "a.mkv", labels)
    assert written == (folder / "twin" / "a.mkv").read_bytes()


def test_a_still_mask_says_that_it_stands_for_all(folder, client):
    pictures, labels = draw_clip(5, 32)
    write_clip(folder / "clips" / "a.mkv", pictures)
    still = folder / "masks" / "a.png"
    still.parent.mkdir()
    save_labels(still, labels[0], LEGEND)
    (still.parent / "legend.json").write_text(json.dumps(LEGEND))
    clip = find_clip(client)
    ids, info = read_mask(client, clip, 4)
    assert np.array_equal(ids, labels[0])
    assert "all 5 frames" in info["notes"][0]
    paint_frame(client, clip, 4, labels[4])
    client.post(f"/api/clips/{clip}/mask/whole")
    assert not still.exists()
    read = decode_index(folder / "masks" / "a.mkv").numpy()
    assert np.array_equal(read[3], labels[0])
    assert np.array_equal(read[4], labels[4])
    kept = list((folder / ".frisket-studio" / "history" / clip / "files").iterdir())
    assert [path.name.partition("-")[2] for path in kept] == ["a.png"]


def test_frames_are_copied_blended_forgotten_and_a_tracking_is_undone(folder, client):
    pictures, labels = draw_clip(8, 48)
    write_clip(folder / "clips" / "a.mkv", pictures)
    write_masks(folder / "masks" / "a.mkv", labels)
    clip = find_clip(client)
    url = f"/api/clips/{clip}/mask"
    assert client.post(f"{url}/frames/0/copy", json={"first": 6, "last": 7}).status_code == 200
    assert np.array_equal(read_mask(client, clip, 7)[0], labels[0])
    assert client.delete(f"{url}/frames/7").status_code == 200
    assert np.array_equal(read_mask(client, clip, 7)[0], labels[7])
    drawn = client.post(f"{url}/blend", json={"first": 0, "last": 6}).json()
    assert drawn["frames"] == [1, 2, 3, 4, 5]
    assert np.array_equal(read_mask(client, clip, 3)[0], labels[0])  # both ends are that mask
    told = client.get(f"/api/clips/{clip}/timeline").json()
    assert told["blended"] == [1, 2, 3, 4, 5]
    body = {"first": 0, "last": 5, "direction": "backward"}
    client.post(f"{url}/track", json=body)
    assert [*wait_for_tracking(client, clip)["tracked"]] == ["0", "1", "2", "3", "4", "5"]
    client.post(f"{url}/track/undo")
    told = client.get(f"/api/clips/{clip}/timeline").json()
    assert told["blended"] == [1, 2, 3, 4, 5]
    assert told["tracked"] == {}
    assert not told["undo"]


REFUSED = (
    ("track", {"first": 0, "last": 99}, "99"),
    ("track", {"first": 0, "last": 3}, "paint one"),
    ("track", {"first": 0, "last": 3, "tracker": "sam2_video"}, "--sam"),
    ("track", {"first": 0, "last": 3, "direction": "up"}, "pattern"),
    ("track", {"first": -1, "last": 3}, "greater"),
    ("blend", {"first": 2, "last": 3}, "none to draw"),
    ("frames/0/copy", {"first": 3, "last": 90000}, "range"),
    ("frames/0/copy", {"first": 3, "last": 70}, "none is 70"),
)


def test_what_cannot_be_is_refused(folder, client):
    pictures, labels = draw_clip(4, 32)
    write_clip(folder / "clips" / "a.mkv", pictures)
    write_masks(folder / "masks" / "a.mkv", labels)
    clip = find_clip(client)
    for path, body, words in REFUSED:
        answer = client.post(f"/api/clips/{clip}/mask/{path}", json=body)
        assert answer.status_code == 422
        assert words in answer.json()["error"], answer.text


def test_a_file_that_a_crash_left_beside_its_place_is_put_there(folder, client):
    pictures, labels = draw_clip(4, 32)
    write_clip(folder / "clips" / "a.mkv", pictures)
    still = folder / "masks" / "a.png"
    still.parent.mkdir()
    save_labels(still, labels[0], LEGEND)
    (still.parent / "legend.json").write_text(json.dumps(LEGEND))
    clip = find_clip(client)
    reel = folder / ".frisket-studio" / "frames" / clip
    write_masks(reel / "new-0.mkv", labels)
    (reel / "saved.json").write_text(json.dumps({"installing": 1}))
    ids, info = read_mask(client, clip, 3)
    assert np.array_equal(ids, labels[3])
    assert info["notes"] == []
    assert not still.exists()
    assert not (reel / "new-0.mkv").exists()
