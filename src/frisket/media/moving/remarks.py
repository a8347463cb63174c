"""What is said of moving files that are read otherwise than frame by frame as stored."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

SHOWN = 3  # clips that are named


@dataclass(frozen=True, slots=True)
class Remark:
    """One peculiarity: what is done about it, and what the user may do."""

    severity: Literal["warning", "note"]
    message: str
    fix: str


REMARKS: Mapping[str, Remark] = {
    "variable frame rate": Remark(
        "note",
        "with a variable frame rate: frames are taken by their time stamps.",
        'Nothing has to be done; fps = "own" takes every frame, however unevenly they lie.',
    ),
    "pauses": Remark(
        "warning",
        "with frames that stay longer than one frame of `fps` lasts: each is taken once, so that"
        " what follows comes too soon.",
        "Cut still stretches off, or lower `fps`; re-encode at a constant rate to keep them.",
    ),
    "hdr": Remark(
        "warning",
        "in HDR (PQ or HLG): brought to sRGB by the tone curve of ITU-R BT.2390, diffuse white at"
        " 203 cd/m2.",
        "Compare the pictures on this page; grade them to SDR yourself if you want another look.",
    ),
    "wide gamut": Remark(
        "note",
        "in colours wider than BT.709: brought to sRGB, what lies outside it is clipped.",
        "Nothing has to be done.",
    ),
    "untagged": Remark(
        "note",
        "in HD without a word on how the colours are coded: read by BT.709, as players do.",
        "Nothing has to be done if the colours on this page are right; else re-encode with tags.",
    ),
    "interlaced": Remark(
        "warning",
        "with interlaced frames: moving edges are combs, and the model learns them.",
        "Deinterlace them, for instance: ffmpeg -i IN -vf bwdif=send_frame OUT.",
    ),
    "pixel aspect": Remark(
        "note",
        "whose pixels are not square: shown at the size a player shows, masks of either size fit.",
        "Nothing has to be done.",
    ),
    "odd turn": Remark(
        "warning",
        "whose display matrix is no turn by quarters: the nearest one is taken.",
        "Re-encode them as they should look.",
    ),
    "several streams": Remark(
        "warning",
        "with several videos in one file: the one that FFmpeg takes for the main one is read.",
        "Write the one that is meant to a file of its own.",
    ),
}


def sum_up(remarks: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Remark and sentence, in the order above: `remarks` lists clips by what is true of them."""
    for name, remark in REMARKS.items():
        clips = list(dict.fromkeys(remarks.get(name, ())))
        if clips:
            more = f" and {len(clips) - SHOWN} more" if len(clips) > SHOWN else ""
            plural = "clips" if len(clips) > 1 else "clip"
            clip_names = f"{', '.join(clips[:SHOWN])}{more}"
            yield name, f"{len(clips)} {plural} ({clip_names}) {remark.message}"
