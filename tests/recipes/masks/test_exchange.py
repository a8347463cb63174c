"""`frisket masks export` and `import`: round trips, weights, hand work that stays, bad input."""

import json
import os
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from frisket.cli.masks import files as files_module
from frisket.cli.masks.exchange import list_layouts, run_export, run_import
from frisket.maskgen.files import record
from frisket.maskgen.files.record import MaskRecord, Stamp
from frisket.maskgen.files.store import (
    LEGEND,
    MaskStore,
    open_label_video,
    read_legend,
    write_labels,
)
from frisket.maskgen.format_base import BadExchange
from frisket.media.files import MasksNotFound, TwoFiles
from frisket.media.frames import decode_grey, decode_index, probe, write_video
from frisket.recipes.masks.exchange import export, import_masks
from frisket.recipes.masks.folder import BadMaskOption

TABLE = {"face": 1, "hair": 2}
HIGH, WIDE = 24, 32


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((WIDE, HIGH)).convert("RGB").save(path)


def painted():
    labels = torch.zeros(HIGH, WIDE, dtype=torch.uint8)
    labels[4:20, 6:18], labels[2:4, 6:18] = 1, 2
    return labels


@pytest.fixture
def data(tmp_path):
    """Two pictures and a video with label maps where `frisket masks` puts them; c.jpg has none."""
    for name in ("a", "sub/b", "c"):
        picture(tmp_path / f"clips/{name}.jpg")
    frames = torch.zeros(3, HIGH, WIDE, 3, dtype=torch.uint8)
    write_video(tmp_path / "clips/v.mkv", frames, 8, lossless=True)
    masks = tmp_path / "masks"
    for name in ("a", "sub/b"):
        write_labels(masks / f"{name}.png", painted(), TABLE)
    with open_label_video(masks / "v.mkv", 8, TABLE) as add:
        for shift in range(3):
            add(painted().roll(shift, 1))
    (masks / LEGEND).write_text(json.dumps(TABLE))
    return tmp_path


@pytest.fixture
def stills(data):
    (data / "clips/v.mkv").unlink()
    return data


def test_weights_are_baked_for_kohya_videos_too(data):
    lines, code = run_export(data, "kohya", data / "out", regions="person", weights="hair=0.5")
    assert code == 0
    assert {p.relative_to(data / "out").as_posix() for p in (data / "out").rglob("*.*")} == {
        *("a.png", "sub/b.png", "v.mkv")
    }
    (grey,) = decode_grey(data / "out/a.png")
    assert torch.equal((grey * 255).round().long().unique(), torch.tensor([0, 128, 255]))
    assert len(decode_grey(data / "out/v.mkv")) == 3
    assert lines[0] == f"{data / 'out'}: 3 masks of face, hair"
    assert lines[1].startswith("1 clip (c) without a mask are left out. sd-scripts stops")
    assert "weight table is baked in" in lines[-1]


def test_a_clip_without_a_mask_can_be_white(data):
    lines, _ = run_export(data, "kohya", data / "out", weights="face=0.5,hair=0", missing="white")
    assert (decode_grey(data / "out/c.png") == 1).all()
    assert decode_grey(data / "out/a.png").max() == pytest.approx(0.5, abs=0.01)
    assert "written as all white" in lines[1]
    # Weights above 1 shrink all alike: what has no mask still teaches as weight 1 does.
    export(data, "kohya", data / "high", weights={"face": 2.0, "hair": 0.0}, missing="white")
    assert decode_grey(data / "high/c.png").max() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(BadMaskOption, match="coco holds regions"):
        export(data, "coco", data / "coco", missing="white")


def test_the_weights_of_a_config(data):
    (data / "frisket.toml").write_text(
        '[regions]\nface = 0.25\nhair = 0.0\n[[data]]\nclips = "c"\n'
    )
    run_export(data, "kohya", data / "out", config=data / "frisket.toml")
    assert decode_grey(data / "out/a.png").max() == pytest.approx(0.25, abs=0.01)


def test_weights_that_lack_a_region_or_a_name(data):
    with pytest.raises(BadMaskOption, match=r"face, hair has none: give .*--weights face=1,hair=1"):
        run_export(data, "kohya", data / "out")
    with pytest.raises(BadMaskOption, match="hair has none"):
        run_export(data, "kohya", data / "out", weights="face=1")
    with pytest.raises(BadMaskOption, match="did you mean 'person'"):
        run_export(data, "kohya", data / "out", regions="persn")
    with pytest.raises(BadMaskOption, match="not both"):
        run_export(data, "kohya", data / "out", regions="person", config=data / "frisket.toml")
    with pytest.raises(BadMaskOption, match="did you mean 'white'"):
        run_export(data, "kohya", data / "out", missing="whit")
    assert not (data / "out").exists()


def test_an_unknown_layout_tells_the_nearest(data):
    with pytest.raises(
        BadMaskOption, match="--to: no layout is named 'koya', did you mean 'kohya'"
    ):
        export(data, "koya", data / "out")
    with pytest.raises(BadMaskOption, match=r"--from: .* did you mean 'labelme'"):
        import_masks(data, "label-me", data / "clips")


def test_videos_fail_alone_where_a_layout_takes_none(data):
    lines, code = run_export(data, "coco", data / "out")
    assert code == 1
    assert any("v.mkv: this layout takes no masks of videos" in line for line in lines)
    told = json.loads((data / "out/annotations.json").read_text())
    assert [each["file_name"] for each in told["images"]] == ["a.jpg", "sub/b.jpg"]
    assert [each["name"] for each in told["categories"]] == ["face", "hair"]


@pytest.mark.parametrize("layout", ["kohya", "coco"])
def test_a_mask_that_does_not_fit_fails_alone(stills, layout):
    write_labels(stills / "masks/a.png", painted()[:, :8], TABLE)
    (stills / "clips/sub/d.jpg").write_bytes(b"no picture")
    write_labels(stills / "masks/sub/d.png", painted(), TABLE)
    carried = export(stills, layout, stills / "out", weights={"face": 1.0, "hair": 0.5})
    assert carried.done == ["sub/b"]
    assert carried.failed.keys() == {"a", "sub/d"}
    assert "8 x 24" in carried.failed["a"]


def test_a_video_that_breaks_while_it_is_written_fails_alone(data):
    with open_label_video(data / "masks/v.mkv", 8, TABLE) as add:
        add(painted())
        add(painted())
    picture(data / "clips/w.jpg")
    write_labels(data / "masks/w.png", painted(), TABLE)
    carried = export(data, "kohya", data / "out", weights={"face": 1.0, "hair": 0.5})
    assert carried.done == ["a", "sub/b", "w"]
    assert "has 2 frames" in carried.failed["v"]
    assert not (data / "out/v.mkv").exists()


def test_what_is_there_is_kept_unless_asked(stills):
    weights = {"face": 1.0, "hair": 0.5}
    (stills / "out").mkdir()
    (stills / "out/a.png").write_bytes(b"by hand")
    carried = export(stills, "kohya", stills / "out", weights=weights)
    assert "perhaps painted by hand" in carried.failed["a"]
    assert (stills / "out/a.png").read_bytes() == b"by hand"
    assert carried.done == ["sub/b"]
    assert not export(stills, "kohya", stills / "out", weights=weights, overwrite=True).failed
    export(stills, "coco", stills / "out")
    with pytest.raises(BadExchange, match=r"annotations\.json: is there already"):
        export(stills, "coco", stills / "out")


def test_unsure_masks_are_exported_and_named(stills):
    clip = stills / "clips/a.jpg"
    doubt = MaskRecord(Stamp.of(clip), 1, HIGH, WIDE, "unsure", {}, "")
    record.save(doubt, MaskStore(stills / "masks").record("a"))
    lines, code = run_export(stills, "labelme", stills / "out")
    assert code == 0
    assert "1 clip (a) with a mask that is unsure, look at it first" in lines


def test_grey_masks_by_hand_are_one_region_or_cut_by_levels(stills):
    (stills / "masks" / LEGEND).unlink()
    for name in ("a", "sub/b"):
        grey = (painted() == 1).numpy() * 255 + (painted() == 2).numpy() * 80
        Image.fromarray(grey.astype(np.uint8)).save(stills / f"masks/{name}.png")
    assert export(stills, "kohya", stills / "one").regions == ("subject",)
    export(stills, "coco", stills / "cut", levels={"face": 255, "hair": 80})
    told = json.loads((stills / "cut/annotations.json").read_text())
    assert sorted(each["area"] for each in told["annotations"]) == [24, 24, 192, 192]


def test_two_clips_of_one_name_and_folders_that_are_none(stills):
    with pytest.raises(MasksNotFound, match="no mask matches"):
        export(stills, "kohya", stills / "out", masks=str(stills / "clips/sub"))
    with pytest.raises(BadMaskOption, match="no such folder of masks"):
        export(stills, "kohya", stills / "out", masks=str(stills / "gone"))
    picture(stills / "clips/a.png")
    with pytest.raises(TwoFiles, match=r"a\.jpg and .*a\.png"):
        export(stills, "kohya", stills / "out")


@contextmanager
def nobody():
    """As a user who may not write everywhere, for root too."""
    me = os.geteuid()
    try:
        if me == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(me)


def test_a_folder_that_may_not_be_written_is_named(stills):
    (stills / "out").mkdir(mode=0o555)
    for folder in (stills, *stills.parents):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o555)
    with nobody(), pytest.raises(PermissionError, match=r"annotations\.json: cannot be written"):
        export(stills, "coco", stills / "out")


# Import


def test_a_round_trip_through_layouts_that_know_regions(stills):
    for layout in ("coco", "labelme", "cvat"):
        export(stills, layout, stills / layout)
        lines, code = run_import(
            stills / layout, layout, stills / "clips", stills / f"from-{layout}"
        )
        assert code == 0, lines
        back = stills / f"from-{layout}"
        legend = read_legend(back / LEGEND)
        assert legend.keys() == TABLE.keys()
        for name in ("a", "sub/b"):
            (labels,) = decode_index(back / f"{name}.png")
            for region, index in TABLE.items():
                assert torch.equal(labels == legend[region], painted() == index), (layout, name)
        known = record.load(back / "a.json")
        assert known.status == "done"
        assert known.settings == {"imported": layout}
        assert known.regions["face"].share == pytest.approx(16 * 12 / (HIGH * WIDE))


def test_imported_masks_count_as_hand_work(stills):
    export(stills, "coco", stills / "coco")
    place = MaskStore(stills / "again")
    import_masks(stills / "coco", "coco", stills / "clips", place.folder)
    clip = stills / "clips/a.jpg"
    known = record.load(place.record("a"))
    there = place.present("a", clip, known.legend)
    assert record.state(known, clip=clip, masks=there, key=known.key) == "hand"


def test_hand_work_stays_unless_asked_and_leaves_no_twin(stills):
    export(stills, "coco", stills / "coco")
    hand = stills / "there/a.bmp"
    hand.parent.mkdir()
    Image.new("L", (WIDE, HIGH)).save(hand)
    carried = import_masks(stills / "coco", "coco", stills / "clips", stills / "there")
    assert carried.kept == ["a"]
    assert carried.done == ["sub/b"]
    assert not (stills / "there/a.png").exists()
    carried = import_masks(
        stills / "coco", "coco", stills / "clips", stills / "there", overwrite=True
    )
    assert carried.done == ["a", "sub/b"]
    assert not hand.exists()  # two masks of one name are refused in training


def test_a_legend_that_is_there_stays_true(stills):
    export(stills, "coco", stills / "coco")
    (stills / "there").mkdir()
    (stills / "there" / LEGEND).write_text('{"hands": 1, "hair": 5}')
    import_masks(stills / "coco", "coco", stills / "clips", stills / "there")
    assert read_legend(stills / "there" / LEGEND) == {"hands": 1, "hair": 5, "face": 6}
    (labels,) = decode_index(stills / "there/a.png")
    assert torch.equal(labels == 6, painted() == 1)


def test_grey_layouts_tell_what_is_lost_and_how_to_keep_it(data):
    run_export(data, "kohya", data / "out", weights="face=1,hair=0.3")
    lines, code = run_import(data / "out", "kohya", data / "clips", data / "back")
    assert code == 0
    assert read_legend(data / "back" / LEGEND) == {"subject": 1}
    assert torch.equal(decode_index(data / "back/a.png")[0] == 1, painted() == 1)
    assert len(decode_index(data / "back/v.mkv")) == 3
    said = next(line for line in lines if "levels are lost" in line)
    assert f'masks = "{(data / "out").as_posix()}"' in said
    run_import(data / "out", "kohya", data / "clips", data / "cut", levels="face=255,hair=76")
    (labels,) = decode_index(data / "cut/a.png")
    assert torch.equal(labels == read_legend(data / "cut" / LEGEND)["hair"], painted() == 2)


def test_masks_in_other_ways_grey(stills):
    weights = {"face": 1.0, "hair": 0.3}
    export(stills, "onetrainer", stills / "clips", weights=weights)
    lines, _ = run_import(stills / "clips", "onetrainer", stills / "clips", stills / "back")
    assert any('masks = "sidecar"' in line for line in lines)
    export(stills, "alpha", stills / "rgba", weights=weights)
    lines, _ = run_import(stills / "rgba", "alpha", stills / "clips", stills / "back2")
    assert any('masks = "alpha"' in line for line in lines)


def test_a_source_that_is_none_or_matches_nothing(stills):
    with pytest.raises(BadMaskOption, match="no such file or folder"):
        import_masks(stills / "gone", "coco", stills / "clips")
    with pytest.raises(BadMaskOption, match="--levels: coco holds regions"):
        import_masks(stills, "coco", stills / "clips", levels={"face": 1})
    export(stills, "coco", stills / "coco")
    picture(stills / "others/z.jpg")
    with pytest.raises(BadExchange, match="none of its 2 pictures is in"):
        import_masks(stills / "coco", "coco", stills / "others")
    assert not (stills / "others_masks").exists()


def test_what_came_before_a_fault_in_the_source_is_kept(stills):
    export(stills, "coco", stills / "coco")
    file = stills / "coco/annotations.json"
    told = json.loads(file.read_text())
    told["images"][1]["width"] = 999
    file.write_text(json.dumps(told))
    lines, code = run_import(file, "coco", stills / "clips", stills / "back")
    assert code == 1
    assert (stills / "back/a.png").is_file()
    assert any(line.startswith("  the rest: ") and "999 x 24" in line for line in lines)


def test_a_picture_without_annotations_is_empty_and_told(stills):
    export(stills, "coco", stills / "coco")
    file = stills / "coco/annotations.json"
    told = json.loads(file.read_text())
    told["annotations"] = [each for each in told["annotations"] if each["image_id"] == 1]
    file.write_text(json.dumps(told))
    lines, _ = run_import(file, "coco", stills / "clips", stills / "back")
    assert "1 clip (sub/b) with an empty mask: it teaches nothing" in lines
    assert probe(stills / "back/sub/b.png").height == HIGH


def test_the_commands(stills):
    app = typer.Typer()
    files_module.add(app, lambda: nullcontext(lambda *_: None))

    def frisket(*words):
        return CliRunner().invoke(app, list(map(str, words)))

    ran = frisket("export", stills, "--to", "coco", "-o", stills / "coco")
    assert ran.exit_code == 0, ran.output
    assert "2 masks of face, hair" in ran.output
    ran = frisket("import", stills / "coco", "--from", "coco", "--clips", stills / "clips")
    assert ran.exit_code == 0
    assert "kept it; --overwrite replaces it" in ran.output  # label maps without a record
    assert frisket("layouts").output == "\n".join(list_layouts()) + "\n"


def test_every_layout_is_listed_with_what_it_loses():
    lines = list_layouts()
    for name in ("kohya", "onetrainer", "ai_toolkit", "alpha", "coco", "labelme", "cvat"):
        at = next(index for index, line in enumerate(lines) if line.startswith(name))
        assert lines[at + 1].strip()
