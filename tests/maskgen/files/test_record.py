"""Records: round trips, damage that is named, and what a run makes of what is there."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frisket.maskgen.files.record import (
    BadMaskRecord,
    DetectionRecord,
    MaskRecord,
    ModelRecord,
    Stamp,
    key_of,
    load,
    save,
    state,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False).filter(lambda number: abs(number) != float("inf")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def clip(tmp_path) -> Path:
    path = tmp_path / "clips" / "é 1.b.jpg"
    path.parent.mkdir()
    path.write_bytes(b"a picture")
    return path


@pytest.fixture
def mask(tmp_path) -> Path:
    path = tmp_path / "masks" / "é 1.b.png"
    path.parent.mkdir()
    path.write_bytes(b"a mask")
    return path


@pytest.fixture
def record(clip, mask) -> MaskRecord:
    settings = {"backend": "draft", "priority": ["face", "hair"], "feather": 0.5}
    return MaskRecord(
        clip=Stamp.of(clip),
        frames=1,
        height=24,
        width=36,
        status="unsure",
        settings=settings,
        key=key_of(settings),
        masks=(Stamp.of(mask),),
        legend={"face": 1, "hair": 2},
        regions={
            "face": DetectionRecord(0.1, 0.9, None, ("touches the border",)),
            "hair": DetectionRecord(0.0),
        },
        models=(ModelRecord("sam2", "facebook/sam2", "abc", "Apache-2.0", "Apache-2.0"),),
        thresholds={"box": 0.35},
        confidence=0.4,
        notes=("two frames are empty",),
        seconds=1.25,
    )


def test_a_record_comes_back_as_it_was(tmp_path, record):
    path = tmp_path / "deep" / "a.json"
    save(record, path)
    assert load(path) == record
    told = json.loads(path.read_text(encoding="utf-8"))
    assert told["clip"]["name"] == "é 1.b.jpg"
    assert told["models"][0]["weights_licence"] == "Apache-2.0"
    assert load(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda text: text[: len(text) // 2], r"a\.json: a record that is not JSON \(.* at line"),
        (lambda _: "[]", r"a\.json: no mask record of version 1 \(found 'list'\)"),
        (lambda text: text.replace('"version": 1', '"version": 9'), r"a\.json: .* \(found 9\)"),
        (lambda text: text.replace('"frames": 1', '"frames": "one"'), r"a\.json: frames: .*int"),
        (lambda text: text.replace('"unsure"', '"maybe"'), r"a\.json: status: .*'done'"),
        (lambda text: text.replace('"share"', '"part"'), r"a\.json: regions\.face\.share: .*requ"),
    ],
)
def test_a_damaged_record_is_named_with_the_fix(tmp_path, record, change, fault):
    path = tmp_path / "a.json"
    save(record, path)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(BadMaskRecord, match=fault + r".*remove it"):
        load(path)


@pytest.mark.parametrize(
    "name", ["../b.png", "/etc/passwd", "a/../../b.png", "C:\\b.png", "", "a\\..\\b"]
)
def test_a_record_may_not_name_what_lies_outside(tmp_path, record, name):
    path = tmp_path / "a.json"
    save(replace(record, masks=(replace(record.masks[0], name=name),)), path)
    with pytest.raises(BadMaskRecord, match="outside its folder"):
        load(path)


def test_a_record_in_another_encoding_is_named(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(BadMaskRecord, match=r"a\.json: a record that is UTF-16; save it as UTF-8"):
        load(tmp_path / "a.json")


def test_a_number_that_is_none_is_not_written(tmp_path, record):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="finite numbers only"):
        save(replace(record, confidence=float("nan")), path)
    assert not path.exists()


@pytest.mark.parametrize("number", ["NaN", "1e999"])
def test_a_number_that_is_none_is_not_read(tmp_path, record, number):
    path = tmp_path / "a.json"
    save(replace(record, seconds=4321.0), path)
    path.write_text(path.read_text(encoding="utf-8").replace("4321.0", number), encoding="utf-8")
    with pytest.raises(BadMaskRecord, match=r"seconds: input should be a finite number"):
        load(path)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_the_key_forgets_order_and_nothing_else(settings):
    backwards = dict(reversed(settings.items()))
    assert key_of(settings) == key_of(backwards) == key_of(json.loads(json.dumps(settings)))
    assert key_of(settings) != key_of({**settings, "one more": 1})


def test_settings_that_are_no_json_are_refused():
    with pytest.raises(ValueError, match="must be JSON"):
        key_of({"path": Path()})
    with pytest.raises(ValueError, match="must be JSON"):
        key_of({"weight": float("inf")})


def look(record, clip, mask, key=None):
    present = {mask.name: mask} if mask.exists() else {}
    return state(record, clip=clip, masks=present, key=key or record.key)


def test_done_until_clip_settings_or_mask_change(record, clip, mask):
    assert look(record, clip, mask) == "done"
    assert look(record, clip, mask, key="other") == "stale"
    clip.write_bytes(b"another one")
    assert look(record, clip, mask) == "stale"


def test_the_same_content_under_another_date_is_done(record, clip, mask):
    for path in (clip, mask):
        os.utime(path, ns=(1, 1))
    assert look(record, clip, mask) == "done"


def test_only_a_changed_date_costs_reading(record, clip, mask, monkeypatch):
    monkeypatch.setattr("frisket.maskgen.files.record.hash_file", lambda _: pytest.fail("was read"))
    assert look(record, clip, mask) == "done"


def test_painted_masks_are_left_alone(record, clip, mask):
    mask.write_bytes(b"A MASK")  # as long as before: only its content tells
    os.utime(mask, ns=(1, 1))
    assert look(record, clip, mask) == "hand"
    assert look(record, clip, mask, key="other") == "hand"
    assert state(None, clip=clip, masks={mask.name: mask}, key="any") == "hand"


def test_a_second_mask_beside_ours_is_hand_work(record, clip, mask):
    other = mask.with_suffix(".webp")
    other.write_bytes(b"painted")
    present = {mask.name: mask, other.name: other}
    assert state(record, clip=clip, masks=present, key=record.key) == "hand"


def test_nothing_there_is_fresh_and_a_lost_mask_is_stale(record, clip, mask):
    assert state(None, clip=clip, masks={}, key="any") == "fresh"
    mask.unlink()
    assert look(record, clip, mask) == "stale"


def test_a_failed_clip_is_tried_again_and_an_empty_one_is_not(record, clip, mask):
    mask.unlink()
    assert look(replace(record, status="failed", masks=()), clip, mask) == "stale"
    assert look(replace(record, status="nothing", masks=()), clip, mask) == "done"
