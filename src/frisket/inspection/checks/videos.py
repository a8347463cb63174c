"""Videos that are read otherwise than as stored: one line a data set for each peculiarity."""

from collections.abc import Iterator, Mapping, Sequence

from frisket.inspection.findings import Finding
from frisket.media.moving.remarks import REMARKS, sum_up


def look_at_moving(remarks: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """`remarks` of clips (see `media.moving.remarks`) to their names."""
    gathered: dict[str, list[str]] = {}
    for clip, kinds in remarks.items():
        for kind in kinds:
            gathered.setdefault(kind, []).append(clip)
    for name, sentence in sum_up(gathered):
        remark = REMARKS[name]
        yield Finding(name, remark.severity, "", sentence, remark.fix)
