"""Captions in every usual layout and encoding, none guessed."""

import codecs
import json
import logging

import pytest

from frisket.media.captions import (
    BadCaption,
    Wording,
    first_paragraph,
    read_captions,
    read_text,
)
from frisket.media.files import find


@pytest.fixture
def clips(tmp_path):
    root = tmp_path / "clips"
    (root / "sub").mkdir(parents=True)
    found = {"a.b": root / "a.b.png", "sub/c": root / "sub/c.mp4"}
    for path in found.values():
        path.touch()
    return found


def test_files_beside_the_clips(tmp_path, clips):
    (tmp_path / "clips/a.b.txt").write_text("one")
    (tmp_path / "clips/a.txt").write_text("of another clip")
    (tmp_path / "clips/sub/c.TXT").write_text("  \n ")
    assert read_captions(clips, tmp_path / "clips", None) == {"a.b": "one"}


def test_a_folder_of_texts(tmp_path, clips):
    (tmp_path / "texts/sub").mkdir(parents=True)
    (tmp_path / "texts/a.b.txt").write_text("one")
    (tmp_path / "texts/sub/c.txt").write_text("two")
    (tmp_path / "texts/c.txt").write_text("of another folder")
    assert read_captions(clips, tmp_path / "clips", tmp_path / "texts") == {
        "a.b": "one",
        "sub/c": "two",
    }


@pytest.mark.parametrize("key", ["file", "file_name", "image_path", "video_path"])
@pytest.mark.parametrize("text", ["caption", "text"])
def test_jsonl_with_the_keys_of_other_trainers(tmp_path, clips, key, text):
    lines = [{key: "a.b.png", text: "one\nline"}, {key: str(clips["sub/c"]), text: "two"}]
    path = tmp_path / "list.jsonl"
    path.write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    assert read_captions(clips, tmp_path / "clips", path) == {"a.b": "one line", "sub/c": "two"}


def test_jsonl_paths_relative_to_the_file_and_bare_names(tmp_path, clips, caplog):
    lines = [{"file": "clips/a.b.png", "text": "one"}, {"file": "sub/c", "text": "two"}]
    lines.append({"file": "gone.png", "text": "three"})
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    with caplog.at_level(logging.WARNING):
        assert read_captions(clips, tmp_path / "clips", path) == {"a.b": "one", "sub/c": "two"}
    assert "1 entries have no clip, the first is 'gone.png'" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", r":2: not JSON \(.*\); one object a line"),
        ("[1]", r":2: a JSON object is needed, this is \[1\]"),
        (
            '{"file": "a.b.png"}',
            r":2: needs a text under one of path, .* one of caption, text, prompt; it has 'file'",
        ),
        ('{"file": "a.b.png", "text": "other"}', "lines 1 and 2 caption 'a.b.png' differently"),
    ],
)
def test_broken_jsonl_names_the_line(tmp_path, clips, line, message):
    path = tmp_path / "list.jsonl"
    path.write_text('{"file": "a.b.png", "text": "one"}\n' + line)
    with pytest.raises(BadCaption, match=rf"list\.jsonl.*{message}"):
        read_captions(clips, tmp_path / "clips", path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_with_and_without_marks(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("Zoë, 日本".encode(encoding))
    assert read_text(tmp_path / "a.txt") == "Zoë, 日本"
    (tmp_path / "b.txt").write_bytes(codecs.BOM_UTF16_BE + "Zoë".encode("utf-16-be"))
    assert read_text(tmp_path / "b.txt") == "Zoë"


def test_latin_1_is_not_guessed(tmp_path):
    path = tmp_path / "caf\u00e9.txt"
    path.write_bytes("un café".encode("latin-1"))
    with pytest.raises(BadCaption) as error:
        read_text(path)
    assert str(error.value) == (
        f"{path}: byte 0xe9 at position 6 is not utf-8; if the file is Latin-1 (Windows), convert"
        " it with: iconv -f latin1 -t utf-8 'café.txt' > new.txt"
    )
    path.write_bytes("no mark".encode("utf-16-le"))
    with pytest.raises(BadCaption, match="zero byte at position 1, it may be UTF-16 without"):
        read_text(path)


def test_caption_sources_that_are_wrong(tmp_path, clips):
    root = tmp_path / "clips"
    with pytest.raises(BadCaption, match=r"captions .*none: there is no such folder or file"):
        read_captions(clips, root, tmp_path / "none")
    (tmp_path / "list.csv").touch()
    with pytest.raises(BadCaption, match=r"list\.csv: give a folder of \.txt files or one \.jsonl"):
        read_captions(clips, root, tmp_path / "list.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        BadCaption, match=r"captions none of the 2 clips; a clip is 'a\.b', so .* a\.b\.txt"
    ):
        read_captions(clips, root, tmp_path / "empty")


def test_the_first_paragraph_on_one_line():
    assert first_paragraph("\n a  cat \r\n on a mat\n \nsecond") == "a cat on a mat"
    assert first_paragraph(" \n") == ""


def test_another_suffix_and_another_part(tmp_path, clips):
    root = tmp_path / "clips"
    (root / "a.b.txt").write_text("the wrong one")
    (root / "a.b.CAPTION").write_text("one\ntwo\n\nthree\n")
    (root / "sub/c.caption").write_text("\nsecond line")  # its first line is blank
    lines, whole = Wording(".caption", "line"), Wording(".caption", "file")
    assert read_captions(clips, root, None, lines.tidy, ".caption") == {"a.b": "one"}
    assert read_captions(clips, root, root, whole.tidy, ".caption") == {
        "a.b": "one\ntwo\n\nthree",
        "sub/c": "second line",
    }
    found = find(root, masks="none", folders={}, wording=Wording(".caption"))
    assert [one.caption for one in found.clips] == ["one two", "second line"]


def test_another_suffix_beside_the_clips_of_a_manifest(tmp_path, clips):
    (tmp_path / "clips/a.b.tags.txt").write_text("tags")
    manifest = tmp_path / "set.jsonl"
    manifest.write_text('{"path": "clips/a.b.png"}\n')
    found = find(manifest, masks="listed", folders={}, wording=Wording(".tags.txt"))
    assert found.clips[0].caption == "tags"
