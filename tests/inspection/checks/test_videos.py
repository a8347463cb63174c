"""One line a data set for what is peculiar about its videos."""

from frisket.inspection.checks.videos import look_at_moving
from frisket.media.moving.remarks import REMARKS


def test_one_line_a_peculiarity_with_a_few_names() -> None:
    remarks = {f"clip{index}": ("hdr", "interlaced") for index in range(5)}
    found = list(look_at_moving({**remarks, "other": ("hdr",), "plain": ()}))
    assert [(one.kind, one.severity, one.clip) for one in found] == [
        ("hdr", "warning", ""),
        ("interlaced", "warning", ""),
    ]
    assert found[0].sentence.startswith("6 clips (clip0, clip1, clip2 and 3 more) in HDR")
    assert found[1].sentence.startswith("5 clips (clip0, clip1, clip2 and 2 more) with interlaced")


def test_every_remark_has_a_sentence_and_a_fix() -> None:
    for name, remark in REMARKS.items():
        (found,) = look_at_moving({"a": (name,)})
        assert found.sentence == f"1 clip (a) {remark.message}"
        assert found.sentence.endswith(".")
        assert found.fix.endswith(".")
