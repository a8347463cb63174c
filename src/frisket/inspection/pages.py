"""The pages and contact sheets of `frisket inspect`; pictures wait on disk, not in memory."""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from frisket.config.tree import Config
from frisket.disk.atomic import replacing, writing
from frisket.evaluation.contact_sheet import PANELS, WITH_CONTROL, Card, contact_sheet, css_colour
from frisket.evaluation.page import render, write_whole
from frisket.inspection.findings import SEVERITIES, Finding
from frisket.inspection.per_clip import ClipFacts, Looker, draw_card_again
from frisket.masks.weights import BACKGROUND
from frisket.media.files import ClipFiles

log = logging.getLogger(__name__)

ON_PAGE = 120  # clips: a page of 2 MB
LISTED = 40  # findings of one kind on the first page; findings.json has all
ON_SHEET, SHEETS = 24, 2  # clips on one contact sheet, and sheets; the page shows every clip
ORDER = (*SEVERITIES, "fine")

_Row = tuple[Looker, ClipFiles, ClipFacts, int]


class Pages:
    """Writes `index.html`, `clips-2.html`, ... and the contact sheets into a folder."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when something is written."""
        self.folder = folder
        self._held: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - see __exit__

    def __enter__(self) -> "Pages":
        """Use as a context manager: what waits on disk goes away at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drop the pictures that wait on disk."""
        self._held.close()

    def keep(self, pictures: Mapping[str, str]) -> int:
        """Put the pictures of one clip aside; returns where."""
        with writing(
            Path(tempfile.gettempdir()), "free some space there, or set TMPDIR to a disk with more"
        ):
            place = self._held.seek(0, 2)
            self._held.write(json.dumps(dict(pictures)).encode() + b"\n")
            self._held.flush()
        return place

    def _load(self, place: int) -> dict[str, str]:
        self._held.seek(place)
        pictures: dict[str, str] = json.loads(self._held.readline())
        return pictures

    def write(
        self,
        config: Config,
        rows: Sequence[_Row],
        findings: Sequence[Finding],
        held: set[str],
    ) -> None:
        """All pages, the gravest clips first; `held` are the names of clips held out."""
        rows = sorted(rows, key=lambda row: ORDER.index(row[2].severity))
        names = [
            "index.html" if not number else f"clips-{number + 1}.html"
            for number in range(max(-(-len(rows) // ON_PAGE), 1))
        ]
        places: dict[str, str] = {}
        for number, (_, _, facts, _) in enumerate(rows):
            places.setdefault(facts.name, f"{names[number // ON_PAGE]}#clip-{number}")
        shared = self._collect_shared(config, [row[2] for row in rows], findings)
        for number, name in enumerate(names):
            start = number * ON_PAGE
            part = rows[start : start + ON_PAGE]
            page = render(
                "inspect.html.j2",
                seen=[(facts, self._load(place)) for _, _, facts, place in part],
                start=start,
                number=number,
                names=names,
                places=places,
                held=held,
                **shared,
            )
            write_whole(self.folder / name, page)
        for old in self.folder.glob("clips-*.html"):
            if old.name not in names:
                old.unlink()
        self._write_sheets(rows)

    def _collect_shared(
        self, config: Config, clips: Sequence[ClipFacts], findings: Sequence[Finding]
    ) -> dict[str, Any]:
        masked = [clip for clip in clips if clip.coverage]
        table = [
            (name, share) for name, share in config.region_weights.items() if name != BACKGROUND
        ]
        regions = [
            {
                "name": name,
                "colour": css_colour(index),
                "weight": weight,
                "mean": float(np.mean([clip.coverage.get(name, 0.0) for clip in masked] or [0.0])),
            }
            for index, (name, weight) in enumerate(table)
        ]
        return {
            "clips": len(clips),
            "groups": group_findings(findings),
            "listed": LISTED,
            "counts": {
                level: sum(finding.severity == level for finding in findings) for level in ORDER
            },
            "regions": regions,
            "colours": {region["name"]: region["colour"] for region in regions},
            "background": config.region_weights.get(BACKGROUND, 0.0),
            "curve": config.curve,
            "swap": config.swap,
            "flipped": any(data.flip for data in config.data),
            "masked": len(masked),
        }

    def _write_sheets(self, rows: Sequence[_Row]) -> None:
        chosen = [row for row in rows if row[2].seal is not None][: ON_SHEET * SHEETS]
        for number, start in enumerate(range(0, len(chosen), ON_SHEET)):
            part = chosen[start : start + ON_SHEET]
            cards = list(_draw_cards(part))
            until = start + len(part)
            title = f"{start + 1} to {until} of {len(rows)} clips, those with findings first"
            name = "contact-sheet.png" if not number else f"contact-sheet-{number + 1}.png"
            with replacing(self.folder / name) as draft:
                headings = (
                    WITH_CONTROL if any(card.control is not None for card in cards) else PANELS
                )
                contact_sheet(cards, title=title, shown=headings).save(draft, format="PNG")


def _draw_cards(rows: Sequence[_Row]) -> Iterator[Card]:
    """The cards of clips; one that changed since it was looked at is left out, and named."""
    for looker, clip, facts, _ in rows:
        try:
            yield draw_card_again(looker, clip, facts)
        except (ValueError, OSError) as error:
            log.warning("%s; it is on no contact sheet", error)


def group_findings(findings: Sequence[Finding]) -> list[tuple[str, str, list[Finding]]]:
    """Findings by (severity, kind), gravest first, the most frequent first among equals."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.kind), []).append(finding)
    order = sorted(groups, key=lambda key: (ORDER.index(key[0]), -len(groups[key]), key[1]))
    return [(level, kind, groups[level, kind]) for level, kind in order]
