"""Text of strangers: read within limits, refused in a sentence, shown in brief."""

import math
from pathlib import Path

import pytest

from frisket.disk.untrusted import (
    BadText,
    cut,
    decode,
    parse_json,
    parse_toml,
    parse_xml,
    read_bytes,
    show,
)

BOMB = (
    b"""<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;">]><a>&y;</a>"""
)
OUTSIDE = b"""<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>"""


@pytest.mark.parametrize("depth", [64, 65, 500, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}")])
def test_depth_ends_at_64_whatever_a_parser_would_bear(
    depth: int, opening: str, closing: str
) -> None:
    text = opening * depth + "1" + closing * depth
    if depth == 64:
        assert parse_json(text)
        return
    with pytest.raises(BadText, match="nested too deeply"):
        parse_json(text)
    with pytest.raises(BadText, match="nested too deeply"):
        parse_toml("k = " + text.replace('"a": ', "a = "))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1" * 5000, "a number too large"),
        (str(2**64), "more than 64 bits"),
        (f"[1, {-(2**70)}]", "more than 64 bits"),
        (r'{"a": "\ud800"}', "half a letter"),
        (r'{"\udfff": 1}', "half a letter"),
        ("{", "line 1, column 2"),
        ("", "line 1, column 1"),
        ("[1]]", "Extra data"),
    ],
)
def test_json_that_is_none_or_holds_what_nobody_can_use(text: str, said: str) -> None:
    with pytest.raises(BadText, match=said):
        parse_json(text)


def test_json_as_it_may_be() -> None:
    assert parse_json(b'{"a": [1.5, null, "\xc3\xbc", true, 18446744073709551615]}') == {
        "a": [1.5, None, "ü", True, 2**64 - 1]
    }
    assert math.isinf(parse_json("1e999"))
    assert parse_json(r'"\ud83d\ude00"') == "😀"


@pytest.mark.parametrize("bomb", [BOMB, OUTSIDE])
def test_entities_are_refused_before_they_are_anything(bomb: bytes) -> None:
    with pytest.raises(BadText, match="declares a document type"):
        parse_xml(bomb)


def test_xml_is_read_in_its_own_encoding_and_faults_have_a_place() -> None:
    assert (
        parse_xml('<?xml version="1.0" encoding="latin-1"?><a b="ü"/>'.encode("latin-1")).get("b")
        == "ü"
    )
    with pytest.raises(BadText, match="mismatched tag: line 1, column 5"):
        parse_xml(b"<a></b>")
    with pytest.raises(BadText):
        parse_xml(b'<?xml version="1.0" encoding="no-such"?><a/>')


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    with pytest.raises(BadText, match="is a device"):
        read_bytes(Path("/dev/zero"))
    with pytest.raises(BadText, match="is a folder"):
        read_bytes(tmp_path)
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(BadText, match="at most"):
        read_bytes(tmp_path / "a", 4)


def test_a_place_is_given_with_every_bad_byte() -> None:
    with pytest.raises(BadText) as refused:
        decode("a\nbü".encode("latin-1"))
    assert (refused.value.line, refused.value.column) == (2, 2)
    with pytest.raises(BadText) as refused:
        decode(b"a\n\nb\0")
    assert (refused.value.line, refused.value.column) == (3, 2)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000_000,
        [["x" * 1000] * 1000] * 1000,
        {str(n): n for n in range(100_000)},
        16**9000,
        {"a": [{"b": [{"c": [{"d": [{}]}]}]}]},
    ],
    ids=["text", "lists", "table", "number", "deep"],
)
def test_a_value_is_shown_in_brief_and_never_written_out(value: object) -> None:
    assert 0 < len(show(value)) <= 80
    assert 0 < len(show(value, 20)) <= 20


def test_what_is_short_is_shown_whole() -> None:
    assert show({"a": [1, "b"]}) == "{'a': [1, 'b']}"
    assert show("x" * 60) == repr("x" * 60)
    assert cut("x" * 10, 10) == "x" * 10
    assert cut("x" * 11, 10) == "xxxxxxx..."
