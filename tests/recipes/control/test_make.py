"""`frisket control make` from the command line: what is drawn, kept, made again, refused."""

import json
from pathlib import Path

import cv2
import pytest
import torch
from typer.testing import CliRunner

from frisket.cli.app import app
from frisket.config.calls import ControlMakeRequest
from frisket.control.base import KINDS, ControlModelNotFound, KindUnusable
from frisket.media.files import find
from frisket.media.frames import decode, probe, write_image, write_video
from frisket.recipes.control.make import ControlStopped, make_controls


def draw(frames: int = 1, height: int = 32, width: int = 48, seed: int = 0) -> torch.Tensor:
    dice = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (frames, 3, 4, 6), generator=dice, dtype=torch.uint8)
    large = torch.nn.functional.interpolate(coarse, (height, width), mode="nearest")
    return large.permute(0, 2, 3, 1).contiguous()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, one in a folder, and a video."""
    (tmp_path / "clips" / "sub").mkdir(parents=True)
    write_image(tmp_path / "clips" / "a.png", draw(seed=1)[0])
    write_image(tmp_path / "clips" / "sub" / "b.png", draw(seed=2)[0])
    write_video(tmp_path / "clips" / "v.mkv", draw(5, seed=3), 12.5, lossless=True)
    return tmp_path


def make(folder: Path, kind: str = "canny", **more: object) -> dict[str, int]:
    request = ControlMakeRequest(
        folder=folder / "clips", kind=kind, output=folder / "control", **more
    )
    return dict(make_controls(request).counts)


def test_every_clip_gets_its_picture_under_its_name(folder: Path) -> None:
    assert make(folder) == {"made": 3}
    for name, suffix in (("a", ".png"), ("sub/b", ".png"), ("v", ".mkv")):
        clip = decode(folder / "clips" / f"{name}{suffix}")
        picture = decode(folder / "control" / f"{name}{suffix}")
        edges = [cv2.Canny(frame.numpy(), 100, 200) for frame in clip]
        wanted = torch.stack([torch.from_numpy(frame) for frame in edges])
        assert torch.equal(picture, wanted[..., None].expand_as(picture))
    video = probe(folder / "control" / "v.mkv")
    assert (video.frames, video.fps) == (5, 12.5)
    clips = find(folder / "clips", masks="none", folders={}, control=folder / "control").clips
    assert all(clip.control is not None for clip in clips)


def test_a_second_run_makes_nothing_and_a_change_just_what_it_changes(folder: Path) -> None:
    make(folder)
    before = {path: path.stat().st_mtime_ns for path in (folder / "control").rglob("*.*")}
    assert make(folder) == {"done already": 3}
    assert before == {path: path.stat().st_mtime_ns for path in before}
    write_image(folder / "clips" / "a.png", draw(seed=9)[0])
    assert make(folder) == {"made": 1, "done already": 2}
    assert make(folder, options={"low": 50.0}) == {"made": 3}
    assert make(folder, "lineart") == {"made": 3}
    (folder / "control" / "v.mkv").unlink()
    assert make(folder, "lineart") == {"made": 1, "done already": 2}


def test_hand_work_is_left_alone(folder: Path) -> None:
    make(folder)
    hand = draw(seed=7)[0]
    write_image(folder / "control" / "a.png", hand)
    (folder / "control" / "sub" / "b.json").unlink()
    assert make(folder, "lineart") == {"made": 1, "by hand": 2}
    assert torch.equal(decode(folder / "control" / "a.png")[0], hand)
    assert make(folder, "lineart", overwrite=True) == {"made": 2, "done already": 1}
    assert not torch.equal(decode(folder / "control" / "a.png")[0], hand)


def test_another_suffix_of_the_name_is_hand_work_too(folder: Path) -> None:
    (folder / "control").mkdir()
    write_image(folder / "control" / "a.webp", draw(seed=7)[0])
    assert make(folder) == {"made": 2, "by hand": 1}
    assert make(folder, overwrite=True) == {"made": 1, "done already": 2}
    assert sorted(path.name for path in (folder / "control").glob("a.*")) == ["a.json", "a.png"]


def test_a_picture_that_became_a_video_leaves_no_twin(folder: Path) -> None:
    make(folder)
    (folder / "clips" / "a.png").unlink()
    write_video(folder / "clips" / "a.mkv", draw(5, seed=3), 12.0, lossless=True)
    assert make(folder) == {"made": 1, "done already": 2}
    assert sorted(path.name for path in (folder / "control").glob("a.*")) == ["a.json", "a.mkv"]


def test_one_bad_clip_stops_no_other(folder: Path) -> None:
    whole = (folder / "clips" / "a.png").read_bytes()
    (folder / "clips" / "a.png").write_bytes(whole[: len(whole) // 2])
    out = CliRunner().invoke(
        app,
        ["control", "make", str(folder / "clips"), "--kind", "luma", "-o", str(folder / "c")],
    )
    assert out.exit_code == 1
    assert "2 made, 1 failed" in out.output or "1 failed, 2 made" in out.output
    assert "failed: a: " in out.output
    assert not (folder / "c" / "a.png").exists()


def test_a_stopped_run_goes_on(folder: Path) -> None:
    request = ControlMakeRequest(folder=folder / "clips", kind="canny", output=folder / "control")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(ControlStopped, match="1 of 3 control pictures made"):
        make_controls(request, progress=stop)
    assert make(folder) == {"made": 2, "done already": 1}


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    assert make(folder, dry_run=True) == {"to make": 3}
    assert not (folder / "control").exists()


@pytest.mark.parametrize("kind", ["depth", "pose"])
def test_kinds_with_models_take_a_folder_and_say_their_licence(
    kind: str, folder: Path, tmp_path: Path, caplog
) -> None:
    with pytest.raises(KindUnusable, match=rf"--kind {kind} draws by a model: give --source"):
        make(folder, kind)
    source = KINDS.load(kind).tiny(tmp_path / "model")
    with caplog.at_level("INFO"):
        assert make(folder, kind, source=str(source)) == {"made": 3}
    assert [line for line in caplog.messages if line.startswith("Licence: code Apache-2.0")]
    assert make(folder, kind, source=str(source)) == {"done already": 3}
    record = json.loads((folder / "control" / "a.json").read_text())
    assert (record["kind"], bool(record["fingerprint"])) == (kind, True)
    with pytest.raises(ControlModelNotFound):
        make(folder, kind, source=str(tmp_path / "nowhere"))


def test_what_would_destroy_clips_is_refused(folder: Path) -> None:
    with pytest.raises(KindUnusable, match="is the clip folder itself"):
        make_controls(
            ControlMakeRequest(folder=folder / "clips", kind="luma", output=folder / "clips")
        )
    inside = ControlMakeRequest(
        folder=folder / "clips", kind="luma", output=folder / "clips" / "control"
    )
    assert make_controls(inside).counts == {"made": 3}
    assert make_controls(inside).counts == {"done already": 3}


def test_a_damaged_record_is_one_finding(folder: Path) -> None:
    make(folder)
    (folder / "control" / "a.json").write_text("{")
    assert make(folder) == {"failed": 1, "done already": 2}
    assert make(folder, overwrite=True) == {"made": 1, "done already": 2}
    for tree in ("[]", '{"version": 1}', '{"version": 1, "clip": {}, "control": {}}'):
        (folder / "control" / "a.json").write_text(tree)
        assert make(folder) == {"failed": 1, "done already": 2}


def test_the_command_line_names_kinds_options_and_the_config() -> None:
    listing = CliRunner().invoke(app, ["control", "list"])
    assert listing.exit_code == 0
    for name in KINDS.names():
        assert name in listing.output


def test_options_are_typed_as_names_and_numbers(folder: Path) -> None:
    words = ["control", "make", str(folder), "--kind", "canny", "-o", str(folder / "c")]
    out = CliRunner().invoke(app, [*words, "--option", "low=20", "--option", "high=40"])
    assert out.exit_code == 0, out.output
    assert f'control = "{(folder / "c").as_posix()}"' in out.output
    record = json.loads((folder / "c" / "a.json").read_text())
    assert record["options"] == {"low": 20.0, "high": 40.0}
    assert CliRunner().invoke(app, [*words, "--option", "low"]).exit_code != 0


def test_a_clip_beside_a_folder_of_its_name_is_drawn_again(folder: Path) -> None:
    clips = folder / "clips"
    (clips / "a").mkdir(exist_ok=True)
    write_image(clips / "a.png", draw()[0])
    write_image(clips / "a" / "b.png", draw(seed=1)[0])
    make(folder)
    counts = make(folder, "luma")
    assert "by hand" not in counts
    assert counts["made"] >= 2


def test_a_picture_whose_record_was_never_written_is_no_hand_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("frisket.recipes.control.make.save_record", stop)
        with pytest.raises(KeyboardInterrupt):
            make(folder)
    assert "by hand" not in make(folder)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"device": "toaster"}, "--device toaster: torch knows no such device"),
        ({"device": "cuda:7"}, "--device cuda:7: torch sees"),
        ({"kind": "lineart", "options": {"width": float("inf")}}, "width = inf is no number"),
    ],
)
def test_devices_and_numbers_that_are_none_are_refused(
    folder: Path, more: dict[str, object], words: str
) -> None:
    with pytest.raises(KindUnusable, match=words):
        make(folder, **more)  # type: ignore[arg-type]
