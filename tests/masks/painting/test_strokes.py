"""Edits as they are logged: read within bounds, undone, renumbered and laid over ids."""

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest

from frisket.masks.painting.strokes import BadStroke, Edit, apply, net, read_edit, renumber

STROKE = {"op": "stroke", "id": 1, "points": [4, 4, 2.5], "locked": [], "only": None}


def pack(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw)).decode()


def pixels(spans: list[int], values: bytes, plane: int = -1) -> dict[str, Any]:
    packed = pack(np.array(spans, "<i4").tobytes())
    return {"op": "pixels", "name": "Edge", "plane": plane, "spans": packed, "values": pack(values)}


def test_pixels_are_written_where_they_belong() -> None:
    ids = np.zeros((3, 4), np.uint8)
    apply(read_edit(pixels([0, 1, 3, 2, 0, 1], b"\1\2\3"), ids.size), ids)
    assert ids.tolist() == [[0, 1, 2, 0], [0] * 4, [3, 0, 0, 0]]
    apply(read_edit(pixels([0, 0, 1], b"\7", plane=1), ids.size), ids)  # a soft plane
    assert not (ids == 7).any()
    apply(read_edit({"op": "soft", "stroke": {"region": 1}}, ids.size), ids)
    assert not (ids == 7).any()
    with pytest.raises(BadStroke, match="outside 4 x 3"):
        apply(read_edit(pixels([0, 3, 5], b"\1\1"), ids.size), ids)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"op": "format disk"}, "`op`"),
        ({"id": 256}, "0 to 255"),
        ({"id": True}, "0 to 255"),
        ({"op": "soft", "stroke": 3}, "`stroke`"),
        ({"points": [1, 2]}, "whole points"),
        ({"points": [1, 2, float("nan")]}, "finite"),
        ({"points": [1, 2, float("inf")]}, "finite"),
        ({"points": [1, 2, "3"]}, "finite"),
        ({"points": [1, 2, 0.01]}, "grid"),
        ({"points": [1e300, 2, 1]}, "grid"),
        ({"points": {"x": 1}}, "list"),
        ({"locked": [-1]}, "0 to 255"),
        ({"locked": [0] * 300}, "at most 256"),
        ({"only": 1.5}, "0 to 255"),
        ({"op": "polygon", "points": [], "rule": "odd"}, "`rule`"),
        (pixels([0, 1, 1], b""), "ends before"),
        (pixels([0, 0, 2], b"\1"), "`values`"),
        ({**pixels([0, 0, 1], b"\1"), "plane": -2}, "`plane`"),
        ({**pixels([0, 0, 1], b"\1"), "spans": "&&"}, "unpacked"),
        ({**pixels([0, 0, 1], b"\1"), "spans": 7}, "text"),
        ({**pixels([0, 0, 1], b"\1"), "values": pack(bytes(1 << 20))}, "more than 100 bytes"),
    ],
)
def test_what_is_no_edit_is_refused(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadStroke, match=fault):
        read_edit({**STROKE, **change}, 100)


@pytest.mark.parametrize("tree", [None, [], "stroke", 3, {}])
def test_what_is_no_object_is_refused(tree: Any) -> None:
    with pytest.raises(BadStroke):
        read_edit(tree, 100)


def test_what_was_undone_does_not_hold() -> None:
    one, other, undo, redo = (Edit("stroke", 1), Edit("stroke", 2), Edit("undo"), Edit("redo"))
    assert net([one, other, undo]) == [one]
    assert net([one, undo, redo, other]) == [one, other]
    assert net([one, undo, other, redo]) == [other]
    assert net([undo, one]) == [one]
    with pytest.raises(BadStroke):
        apply(undo, np.zeros((2, 2), np.uint8))


def test_numbers_follow_the_names_of_regions() -> None:
    edit = read_edit({**STROKE, "locked": [2], "only": 0}, 100)
    changed = renumber(edit, {0: 0, 1: 5, 2: 7})
    assert (changed.id, changed.limits.locked, changed.limits.only) == (5, {7}, 0)
    changed = renumber(read_edit(pixels([0, 0, 2], b"\1\0"), 100), {0: 0, 1: 5})
    assert changed.values == b"\5\0"
    with pytest.raises(BadStroke, match="region 1"):
        renumber(edit, {0: 0, 2: 7})


def test_an_edit_is_plain_json() -> None:
    assert read_edit(json.loads(json.dumps(STROKE)), 100) == read_edit(STROKE, 100)
