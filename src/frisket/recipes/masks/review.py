"""`frisket masks --review`: a page of the masks in a folder, the worst first; loads no model."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frisket.evaluation.contact_sheet import PANEL, Card, contact_sheet, css_colour, draw_panels
from frisket.evaluation.page import render, thumbnail, write_whole
from frisket.maskgen.files.record import DetectionRecord, MaskRecord, ModelRecord, load, state
from frisket.maskgen.files.store import BadLegend, MaskStore, read_frames, read_legend
from frisket.maskgen.files.verdicts import STANDINGS, MaskStanding, list_doubts
from frisket.masks.read import WHOLE
from frisket.media import files
from frisket.media.frames import BadMedia, Media, decode, probe
from frisket.media.paths import replacing
from frisket.progress import Progress

PICTURED = 300  # clips the page shows pictures of; the others are rows of a table
ON_SHEET = 24
THUMB = 320  # pixels a side: shown small on the page, and this large on a click
FRAMES = 8  # of a video that are shown, besides its worst
GREY = "mask"  # region of a hand-painted mask where no legend names any


@dataclass(frozen=True, slots=True)
class ReviewEntry:
    """One clip and what is known of its masks.

    `status` is that of its record, or
      broken  its clip, mask or record cannot be read;
      unmade  there is neither mask nor record;
      hand    its mask has no record, or was changed since: somebody painted it.
    """

    name: str
    clip: str
    status: MaskStanding
    masks: tuple[str, ...] = ()  # paths below the mask folder
    confidence: float | None = None
    look: tuple[str, ...] = ()  # why a person should look at it; empty: nobody need
    regions: Mapping[str, DetectionRecord] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # of its record
    models: tuple[str, ...] = ()
    seconds: float | None = None
    frames: int = 0  # 0 like height and width where it cannot be read
    height: int = 0
    width: int = 0
    worst: int | None = None  # the frame its record complains of, counted from 0

    def mark_broken(self, error: Exception) -> "ReviewEntry":
        """The same with a fault; a clip whose masks failed for it stays `failed`."""
        status: MaskStanding = "failed" if self.status == "failed" else "broken"
        return replace(self, status=status, look=tuple(dict.fromkeys((*self.look, str(error)))))


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a review came to."""

    clips: int
    counts: Mapping[MaskStanding, int]  # clips by status, the worst first; none that do not occur
    look: Mapping[str, tuple[str, ...]]  # clips to look at, the worst first, and why
    page: Path
    fault: str = ""  # of the legend of the mask folder


@dataclass(frozen=True, slots=True)
class _Desk:
    """What every clip is looked at with."""

    place: MaskStore
    legend: Mapping[str, int]
    below: float

    def read_entry(self, clip: files.ClipFiles) -> tuple[ReviewEntry, MaskRecord | None]:
        """A clip by its record and files; only where no record vouches for them are they opened."""
        entry = ReviewEntry(clip.name, str(clip.clip), "unmade")
        try:
            mask_paths = self.place.present(
                clip.name, clip.clip, () if self.place.beside else self.legend
            )
            entry = replace(entry, masks=tuple(mask_paths))
            mask_record = load(self.place.record(clip.name))
            now = state(
                mask_record,
                clip=clip.clip,
                masks=mask_paths,
                key=mask_record.key if mask_record else "",
            )
            if mask_record and now != "hand":
                return self._describe_recorded(
                    entry, mask_record, stale=now == "stale"
                ), mask_record
            return self._describe_unrecorded(entry, clip, mask_record), None
        except (ValueError, OSError) as error:  # BadMaskRecord, BadMedia and BadLegend among them
            return entry.mark_broken(error), None

    def _describe_recorded(
        self, entry: ReviewEntry, mask_record: MaskRecord, *, stale: bool
    ) -> ReviewEntry:
        confidence = mask_record.confidence
        if confidence is None:
            confidences = [
                part.confidence
                for part in mask_record.regions.values()
                if part.confidence is not None
            ]
            confidence = min(confidences, default=None)
        reasons = list(list_doubts(mask_record, confidence, self.below))
        if stale and mask_record.status != "failed":
            reasons.append(
                "its clip or mask files changed since the mask was made; run `frisket masks` again"
            )
        return replace(
            entry,
            status=mask_record.status,
            confidence=confidence,
            look=tuple(dict.fromkeys(reasons)),
            regions=mask_record.regions,
            notes=mask_record.notes,
            models=tuple(part.name for part in mask_record.models),
            seconds=mask_record.seconds,
            frames=mask_record.frames,
            height=mask_record.height,
            width=mask_record.width,
            worst=mask_record.worst,
        )

    def _describe_unrecorded(
        self, entry: ReviewEntry, clip: files.ClipFiles, mask_record: MaskRecord | None
    ) -> ReviewEntry:
        entry, media = _add_size(entry, clip)
        if not entry.masks:
            return replace(
                entry, look=("it has no mask: until `frisket masks` makes one, all of it teaches",)
            )
        next(
            read_frames(self._find_masks(clip), media, self.legend)
        )  # raises where it does not fit
        notes = ("changed by hand after it was made",) if mask_record else ()
        return replace(entry, status="hand", notes=notes)

    def _find_masks(self, clip: files.ClipFiles) -> dict[str, Path]:
        """The masks of a clip as `read_frames` takes them; label maps before soft planes."""
        label_maps = list(self.place.present(clip.name, clip.clip).values())
        if len(label_maps) > 1:
            raise BadMedia(
                f"{label_maps[0]} and {label_maps[1]} are both masks of {clip.clip}; keep one"
            )
        if label_maps:
            return {WHOLE if self.legend else GREY: label_maps[0]}
        if self.place.beside:
            return {}
        return {
            region: path
            for region in self.legend
            for video in (False, True)
            if (path := self.place.soft(region, clip.name, video=video)).exists()
        }

    def make_card(
        self, clip: files.ClipFiles, entry: ReviewEntry
    ) -> tuple[ReviewEntry, Card | None]:
        """The pictures of a clip, and its entry with what was found when they were read."""
        try:
            entry, media = _add_size(entry, clip)
            at = _choose_frames(media.frames, entry.worst)
            frames = np.stack([_shrink(frame) for frame in decode(clip.clip, at).numpy()])
        except (ValueError, OSError) as error:
            return entry.mark_broken(error), None
        planes: dict[str, NDArray[np.float32]] = {}
        try:
            planes, shares = self._read_planes(clip, media, at)
            regions = entry.regions or {
                name: DetectionRecord(share) for name, share in shares.items()
            }
            entry = replace(entry, regions=regions)
        except (ValueError, OSError) as error:
            entry = entry.mark_broken(error)
        shares = {name: regions.share for name, regions in entry.regions.items() if regions.share}
        card = Card(
            entry.name,
            frames,
            planes,
            coverage={name: shares[name] for name in planes if name in shares},
            notes=entry.look,
            at=at,
            length=media.frames,
            size=(media.height, media.width),
            focus=at.index(entry.worst) if entry.worst in at else None,
        )
        return entry, card

    def _read_planes(
        self, clip: files.ClipFiles, media: Media, at: Sequence[int]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
        """Planes of the frames `at`, small, and the share of all frames each region covers."""
        masks = self._find_masks(clip)
        small_planes: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        shares: dict[str, float] = defaultdict(float)
        for index, regions in enumerate(read_frames(masks, media, self.legend) if masks else ()):
            for name, mask in regions.items():
                shares[name] += float(mask.mean()) / media.frames
                if index in at:
                    small_planes[name].append(_shrink(mask.numpy()))
        return {name: np.stack(planes) for name, planes in small_planes.items()}, shares


def review(
    clips: Sequence[files.ClipFiles],
    place: MaskStore,
    out: Path,
    *,
    below: float = 0.5,
    progress: Progress = lambda *_: None,
) -> Reviewed:
    """Write `index.html`, `contact-sheet.png` and `review.json` into `out`, the worst mask first.

    To be looked at is what is not done, and what is done with a confidence under `below`. Memory
    does not grow with pictures: one clip is open at a time. A file that cannot be read becomes an
    entry that says so. Raises only what keeps the pages from being written (OSError).
    """
    legend, fault = _load_legend(place)
    desk = _Desk(place, legend, below)
    recorded: dict[str, int] = {}
    models: Counter[ModelRecord] = Counter()
    book: list[tuple[files.ClipFiles, ReviewEntry]] = []
    for count, clip in enumerate(clips, 1):
        entry, record = desk.read_entry(clip)
        book.append((clip, entry))
        if record:
            models.update(record.models)
            recorded |= record.legend
        progress("masks", count, len(clips))
    desk = replace(desk, legend=_sort_by_index(recorded | legend))
    book.sort(key=_rank)
    pictures: dict[str, dict[str, str]] = {}
    for count, (clip, entry) in enumerate(book[:PICTURED], 1):
        described, card = desk.make_card(clip, entry)
        book[count - 1] = (clip, described)
        pictures[clip.name] = _draw_thumbnails(card)
        progress("pictures", count, min(len(book), PICTURED))
    book.sort(key=_rank)  # what could not be read moves to the front
    entries = [entry for _, entry in book]
    standings = Counter(entry.status for entry in entries)
    reviewed = Reviewed(
        clips=len(entries),
        counts={status: standings[status] for status in STANDINGS if status in standings},
        look={entry.name: entry.look for entry in entries if entry.look},
        page=out / "index.html",
        fault=fault,
    )
    _write_page(reviewed, entries, pictures, models, desk)
    _write_sheet(out / "contact-sheet.png", desk, book, len(reviewed.look))
    _write_list(out / "review.json", reviewed, entries, models, desk)
    return reviewed


def _load_legend(place: MaskStore) -> tuple[dict[str, int], str]:
    """The legend of a mask folder, and what is wrong with it."""
    try:
        return read_legend(place.legend), ""
    except (BadLegend, OSError, UnicodeDecodeError) as error:
        return {}, str(error)


def _add_size(entry: ReviewEntry, clip: files.ClipFiles) -> tuple[ReviewEntry, Media]:
    media = probe(clip.clip)
    return replace(entry, frames=media.frames, height=media.height, width=media.width), media


def _sort_by_index(legend: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(legend.items(), key=lambda item: item[1]))


def _rank(pair: tuple[files.ClipFiles, ReviewEntry]) -> tuple[int, float, bool]:
    """Worst first; a clip without a mask comes first among equals."""
    _, entry = pair
    return STANDINGS.index(entry.status), entry.confidence or 0.0, bool(entry.masks)


def _choose_frames(frames: int, worst: int | None) -> list[int]:
    at = {round(i * (frames - 1) / (FRAMES - 1)) for i in range(FRAMES)}
    return sorted(at | ({worst} if worst is not None and worst < frames else set()))


def _shrink(pixels: NDArray[Any]) -> NDArray[Any]:
    """H W or H W 3, brought down to PANEL by the mean of the pixels that fall together."""
    high, wide = pixels.shape[:2]
    scale = PANEL / max(high, wide)
    if scale >= 1:
        return pixels
    size = max(round(wide * scale), 1), max(round(high * scale), 1)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def _draw_thumbnails(card: Card | None) -> dict[str, str]:
    images = draw_panels(card, THUMB) if card else {}
    return {name: thumbnail(image) for name, image in images.items()}


def _write_page(
    reviewed: Reviewed,
    entries: Sequence[ReviewEntry],
    pictures: Mapping[str, Mapping[str, str]],
    models: Counter[ModelRecord],
    desk: _Desk,
) -> None:
    shares: dict[str, list[float]] = {name: [] for name in desk.legend}
    for entry in entries:
        for name, region in entry.regions.items():
            shares.setdefault(name, []).append(region.share)
    page = render(
        "masks.html.j2",
        reviewed=reviewed,
        shown=[entry for entry in entries if entry.name in pictures],
        rest=[entry for entry in entries if entry.name not in pictures],
        pictures=pictures,
        models=models.most_common(),
        below=desk.below,
        folder=desk.place.folder,
        colours={name: css_colour(place) for place, name in enumerate(shares)},
        means={
            name: sum(region_shares) / len(region_shares)
            for name, region_shares in shares.items()
            if region_shares
        },
    )
    write_whole(reviewed.page, page)


def _write_sheet(
    path: Path, desk: _Desk, book: Sequence[tuple[files.ClipFiles, ReviewEntry]], look: int
) -> None:
    cards_drawn = (desk.make_card(clip, entry)[1] for clip, entry in book[:PICTURED])
    cards = list(islice(filter(None, cards_drawn), ON_SHEET))
    if not cards:
        path.unlink(missing_ok=True)  # one of an earlier run would show what is no more
        return
    title = f"the worst {len(cards)} of {len(book)} clips; {look} to look at"
    sheet = contact_sheet(cards, title=title, columns=3, shown=("clip", "regions"))
    with replacing(path) as draft:
        sheet.save(draft, format="PNG")


def _write_list(
    path: Path,
    reviewed: Reviewed,
    entries: Sequence[ReviewEntry],
    models: Counter[ModelRecord],
    desk: _Desk,
) -> None:
    document = {
        "look": [
            {"name": entry.name, "status": entry.status, "reasons": entry.look}
            for entry in entries
            if entry.look
        ],
        "below": desk.below,
        "counts": reviewed.counts,
        "fault": reviewed.fault,
        "legend": desk.legend,
        "models": [{**asdict(model), "clips": count} for model, count in models.most_common()],
        "clips": [asdict(entry) for entry in entries],
    }
    write_whole(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
