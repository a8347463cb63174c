"""Sets that other programs stored are read as they meant, and what is not safe is not read."""

import gzip
import io
import json
import os
import pickle
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.data.format_base import (
    FORMATS,
    BadSet,
    Columns,
    SetContents,
    SetEntry,
    bytes_of,
    look,
    split_shards,
)
from frisket.data.formats import parquet, webdataset
from frisket.disk.file_signatures import suffix_of
from frisket.media.files import TwoFiles
from frisket.media.manifest import is_name
from frisket.media.paths import plain

PNG, JPEG = b"\x89PNG\r\n\x1a\n picture", b"\xff\xd8\xff picture"


def raw(content):
    return content.encode() if isinstance(content, str) else content


def tar_of(path, *members):
    """A tar file of (name, content or header)."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member.size = len(raw(content))
            tar.addfile(member, io.BytesIO(raw(content)))
    return path


def read(name, path, columns=None):
    """Every entry with its bytes."""
    packed = FORMATS.load(name).read(path, columns or Columns())
    told = []
    for entry in packed.entries():
        masks = {region: content(mask) for region, mask in entry.masks.items()}
        told.append((entry.name, entry.clip.suffix, content(entry.clip), entry.caption, masks))
    return told, packed.notes


def content(file):
    with file.open() as stream:
        return stream.read()


class Deadly:
    """Ends whatever unpickles it."""

    def __reduce__(self):
        return os._exit, (13,)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_shards_of_other_programs(tmp_path, name):
    path = tar_of(
        tmp_path / name,
        ("./train/0001.jpg", JPEG),
        ("./train/0001.txt", "from txt"),
        ("./train/0001.json", '{"caption": "from json", "width": 3}'),
        ("./train/0001.cls", "7"),
        ("./train/0001.pyd", pickle.dumps(Deadly())),
        ("./train/0001.seg.pickle", pickle.dumps(Deadly())),
        ("./train/._0001.jpg", "a note of macOS"),
        ("./train/0002.PNG", PNG),
        ("./train/0002.json", '{"text": "from json"}'),
        ("./train/0002.face.mask.png", b"face"),
        ("./train/0002.mask.png", b"whole"),
    )
    entries, notes = read("webdataset", path)
    assert entries == [
        ("train/0001", ".jpg", JPEG, "from txt", {}),
        ("train/0002", ".PNG", PNG, "from json", {"": b"whole", "face": b"face"}),
    ]
    assert notes == tuple(
        f"1 members {end} are not read" for end in (".cls", ".pyd", ".seg.pickle")
    )


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "x/../../a.png", "x/.git/a.png"])
def test_members_that_lead_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(BadSet, match=r"t\.tar: member .* leads out of its folder"):
        read("webdataset", tar_of(tmp_path / "t.tar", (name, PNG)))


def test_links_and_devices_in_a_tar_are_not_followed(tmp_path):
    link, device = tarfile.TarInfo("a.png"), tarfile.TarInfo("a.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device.type = tarfile.CHRTYPE
    path = tar_of(tmp_path / "t.tar", ("", link), ("", device), ("b.png", PNG))
    assert [name for name, *_ in read("webdataset", path)[0]] == ["b"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a.txt", "alone")], "should have one picture or video, it has none"),
        ([("a.png", PNG), ("a.jpg", PNG)], r"it has \.jpg, \.png"),
        ([("a.png", PNG), ("a.txt", b"\xff\xfe\x00")], "is not UTF-8"),
        ([("a.png", PNG), ("a.json", "[1]")], r"\.json is no object"),
        ([("a.png", PNG), ("a.json", "{")], r"\.json is not JSON"),
        ([("a.png", PNG), ("a.txt", b"x" * (2**20 + 1))], "more than a caption can have"),
        ([("a.png", PNG), ("a.json", '{"name": "../b"}')], r"'\.\./b' is no name for a clip"),
    ],
)
def test_faults_of_a_sample_name_shard_and_key(tmp_path, members, said):
    path = tar_of(tmp_path / "t.tar", *members)
    with pytest.raises(BadSet, match=said):
        look(FORMATS.load("webdataset").read(path, Columns()))


def test_a_key_that_comes_again_is_two_clips_of_one_name(tmp_path):
    path = tar_of(tmp_path / "t.tar", ("a.png", PNG), ("b.png", PNG), ("a.png", PNG))
    with pytest.raises(TwoFiles, match="two clips have the name 'a'"):
        look(FORMATS.load("webdataset").read(path, Columns()))


@pytest.mark.parametrize("broken", [b"", b"no tar file" * 100, None])
def test_a_broken_tar_is_named(tmp_path, broken):
    whole = tar_of(tmp_path / "t.tar", ("a.png", PNG * 1000), ("b.png", PNG * 1000))
    whole.write_bytes(whole.read_bytes()[:12_000] if broken is None else broken)
    with pytest.raises(BadSet, match=r"t\.tar: is no whole tar file"):
        read("webdataset", whole)
    packed = tmp_path / "t.tar.gz"
    packed.write_bytes(gzip.compress(b"x" * 10_000)[:-9])
    with pytest.raises(BadSet, match=r"t\.tar\.gz: is no whole tar file"):
        read("webdataset", packed)


def test_shards_end_after_their_size_and_lose_nothing():
    entries = [SetEntry(str(n), bytes_of(b"x" * 10, ".png")) for n in range(7)]
    runs = [[entry.name for entry in run] for run in split_shards(iter(entries), 25)]
    assert runs == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert list(split_shards(iter([]), 25)) == []


@pytest.mark.parametrize(
    ("start", "suffix"),
    [
        (PNG, ".png"),
        (JPEG, ".jpg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", ".webp"),
        (b"RIFF\0\0\0\0AVI LIST", ".avi"),
        (b"\0\0\0\x20ftypisom", ".mp4"),
        (b"\0\0\0\x20ftypavif", ".avif"),
        (b"\x1aE\xdf\xa3\x01\x42\x82\x84webm", ".webm"),
        (b"\x1aE\xdf\xa3\x01\x42\x82\x88matroska", ".mkv"),
        (b"\x80\x04\x95 a pickle", None),
        (b"", None),
    ],
)
def test_first_bytes_tell_a_file(start, suffix):
    assert suffix_of(start) == suffix


# Tables


@pytest.fixture
def arrow():
    return pytest.importorskip("pyarrow")


@pytest.fixture
def table(arrow, tmp_path):
    """Write a table of these columns, as parquet or as `save_to_disk` does."""

    def write(columns, name="t.parquet"):
        made = arrow.table(columns)
        path = tmp_path / name
        if path.suffix == ".parquet":
            from pyarrow.parquet import write_table

            write_table(made, path)
        elif "stream" in name:
            with arrow.ipc.new_stream(path, made.schema) as stream:
                stream.write_table(made)
        else:
            with arrow.ipc.new_file(path, made.schema) as file:
                file.write_table(made)
        return path

    return write


def files(*contents, paths=None):
    paths = paths or [None] * len(contents)
    return [{"bytes": each, "path": path} for each, path in zip(contents, paths, strict=True)]


@pytest.mark.parametrize("name", ["t.parquet", "stream.arrow", "file.arrow"])
def test_the_layout_of_an_image_feature(table, name):
    path = table(
        {
            "image": files(PNG, JPEG, paths=["x/a.png", "/home/me/b.jpeg"]),
            "text": ["one\nline", None],
            "mask": files(b"grey", None, paths=["a.png", None]),
            "mask_hair": files(None, PNG),
            "label": [1, 2],
        },
        name,
    )
    entries, notes = read("parquet", path)
    assert entries == [
        ("x/a", ".png", PNG, "one\nline", {"": b"grey"}),
        ("b", ".jpeg", JPEG, "", {"hair": PNG}),
    ]
    assert notes == ("columns that are not read: label",)


def test_plain_bytes_are_told_by_their_first_and_named_by_row(table):
    entries, notes = read("parquet", table({"jpg": [JPEG, PNG], "caption": ["a", "b"]}))
    assert entries == [("00000000", ".jpg", JPEG, "a", {}), ("00000001", ".png", PNG, "b", {})]
    assert "clips are named by their row" in notes[0]


def test_columns_are_taken_as_they_are_asked_for(table):
    path = table(
        {"photo": [PNG], "seg": [PNG], "alt": ["said"], "id": ["x/y"], "image": [JPEG], "w": [1]}
    )
    columns = Columns(image="photo", caption="alt", name="id", masks={"face": "seg"})
    (entry,), notes = read("parquet", path, columns)
    assert entry == ("x/y", ".png", PNG, "said", {"face": PNG})
    assert notes == ("columns that are not read: image, w",)
    with pytest.raises(BadSet, match=r"has no column 'foto', did you mean 'photo'"):
        read("parquet", path, Columns(image="foto"))
    with pytest.raises(BadSet, match="column 'w' holds int; name one of texts"):
        read("parquet", path, Columns(caption="w"))


def test_paths_in_a_table_stay_below_it(table, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    inside = table({"image_path": ["a.png"], "caption": ["x"]}, "set/t.parquet")
    assert read("parquet", inside)[0] == [("a", ".png", PNG, "x", {})]
    for path in ("../secret.png", str(tmp_path / "secret.png")):
        with pytest.raises(BadSet, match=r"row 0: .* leads out of the folder of the table"):
            read("parquet", table({"image": files(None, paths=[path])}, "set/t.parquet"))
    with pytest.raises(BadSet, match=r"row 0: 'gone\.png' is no picture or video that is there"):
        read("parquet", table({"image_path": ["gone.png"]}, "set/t.parquet"))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"label": [1]}, r"no column of pictures .*--image \(there are: label\)"),
        ({"image": [pickle.dumps(Deadly())]}, "row 0: begins like no picture or video"),
        ({"image": files(PNG), "video": files(PNG)}, "row 0: has 2 clips in image, video"),
        ({"image": [None, PNG]}, "row 0: has 0 clips"),
    ],
)
def test_faults_of_a_table_name_the_row(table, columns, said):
    with pytest.raises(BadSet, match=said):
        read("parquet", table(columns))


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_a_broken_table_is_named(arrow, tmp_path, name):
    (tmp_path / name).write_bytes(b"PAR1 no table")
    with pytest.raises(BadSet, match=rf"{name}: cannot be read as a table"):
        read("parquet", tmp_path / name)


def test_splits_of_a_folder_are_read_together(table, tmp_path):
    (tmp_path / "data").mkdir()
    table({"image": files(PNG, paths=["a.png"])}, "data/train-00000-of-00001.parquet")
    table({"image": files(JPEG, paths=["b.jpg"])}, "data/test-00000-of-00001.parquet")
    assert [name for name, *_ in read("parquet", tmp_path)[0]] == ["b", "a"]


def test_what_is_written_tells_datasets_which_columns_are_pictures(arrow, tmp_path):
    from pyarrow.parquet import read_schema

    entry = SetEntry("a", bytes_of(PNG, ".png"), "x", {"face": bytes_of(b"v", ".mkv")})
    contents = SetContents({"a": b""}, ("face",), True, False, frozenset({"face"}), False, 10)
    FORMATS.load("parquet").write(tmp_path, [entry], contents, 100)
    told = json.loads(read_schema(tmp_path / "train-00000.parquet").metadata[b"huggingface"])
    features = told["info"]["features"]
    assert list(features) == ["name", "image", "caption", "mask_face"]
    assert features["image"] == {"_type": "Image"}
    assert features["mask_face"]["bytes"] == {"dtype": "binary", "_type": "Value"}


def test_a_file_too_large_for_a_cell_is_refused(arrow, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "CELL", 5)
    contents = SetContents({"a": b""}, (), True, False, frozenset(), False, 10)
    with pytest.raises(BadSet, match=r"clip 'a': a file of .* use --to webdataset"):
        FORMATS.load("parquet").write(
            tmp_path, [SetEntry("a", bytes_of(PNG, ".png"))], contents, 100
        )
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_the_fix_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(parquet.NoArrow, match=r"pip install 'frisket\[parquet\]'"):
        read("parquet", tmp_path / "t.parquet")


def test_names_with_dots_and_percents_have_different_keys():
    names = ["a.b", "a%2Eb", "a%b", "x.y/a.b"]
    laid = [
        next(webdataset._lay_members(SetEntry(name, bytes_of(b"", ".png"))))[0] for name in names
    ]
    assert laid == ["a%2Eb.png", "a%252Eb.png", "a%25b.png", "x.y/a%2Eb.png"]


letters = st.text(st.characters(exclude_categories=["C"]) | st.sampled_from(".%/ "), max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(letters.map(plain).filter(is_name), min_size=1, max_size=5, unique=True))
def test_every_name_comes_back_from_a_tar(names):
    entries = [SetEntry(name, bytes_of(PNG, ".png"), name) for name in names]
    contents = SetContents(dict.fromkeys(names, b""), (), True, False, frozenset(), False, 0)
    with tempfile.TemporaryDirectory() as folder:
        FORMATS.load("webdataset").write(Path(folder), entries, contents, 20)
        told, _ = read("webdataset", Path(folder))
    assert [(name, caption) for name, _, _, caption, _ in told] == [(name, name) for name in names]
