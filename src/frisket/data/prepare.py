"""Turns folders of clips, masks and captions into cache entries; does only what is not done."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from frisket.data.cached.colours import hash_content
from frisket.data.cached.index import Index
from frisket.data.cached.status import Entries
from frisket.data.cached.store import Cache, CannotWrite, key_of
from frisket.data.captions import add_trigger, apply_template, list_orders
from frisket.data.choosing import choose as choose_clips
from frisket.data.composites.mixing import MaskedClip
from frisket.data.composites.planning import PlanMix, PlanSwap, plan_composites
from frisket.data.control.planning import ControlEncoder, ControlEntries, check_controls
from frisket.data.encoding import Encoding, PictureFiles
from frisket.data.faces.reading import ClipFaceReader, FaceEntries
from frisket.data.mask_pipeline import Facts, cover, coverage_record
from frisket.data.records import (
    Captions,
    Clipset,
    Encoders,
    Item,
    PhraseRow,
    Prepared,
    Window,
)
from frisket.data.refusing import BadClips, explain_mismatch, stop_if_bad
from frisket.data.statistics import PrepareCounts, pick_held
from frisket.data.windows import cut_windows
from frisket.masks.weights import BACKGROUND
from frisket.media.files import ClipFiles, Findings, find
from frisket.media.folders.references import check_references, find_references
from frisket.media.frames import BadMedia, Media, probe
from frisket.media.geometry import Geometry
from frisket.media.moving.remarks import REMARKS, sum_up
from frisket.media.paths import collecting
from frisket.progress import Progress

__all__ = ["BadClips", "prepare"]

log = logging.getLogger(__name__)

LOOK = 3  # goes into what is remembered of files; count up when `probe` sees more in them
EMPTY = ""
SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)  # words a mirrored clip makes untrue


def _silent(stage: str, done: int, total: int) -> None:
    """A progress that shows nothing."""


def prepare(
    clipsets: Sequence[Clipset],
    cache: Cache,
    encoders: Encoders,
    *,
    regions: Mapping[str, float],
    swap: PlanSwap | None = None,
    mix: PlanMix | None = None,
    holdout: int = 0,
    measured: Sequence[Clipset] = (),
    progress: Progress = _silent,
    phrases: Mapping[str, str] | None = None,
    locate: Callable[[Sequence[Item], Captions], Mapping[str, PhraseRow]] | None = None,
    faces: ClipFaceReader | None = None,
    control: ControlEncoder | None = None,
) -> Prepared:
    """Make every missing latents, text and coverage entry; unchanged clips cost a stat or two.

    `regions` is the weight table (with `background`). Its numbers are used for the report and for
    what a swap or a mix keeps (regions of weight > 0); they are in no other key. `swap` and `mix`
    may be functions of all masked windows (backdrops taken from the clips themselves). `holdout`
    clips are kept out of training, evenly over the list, and the sets `measured` whole. `phrases`
    are the words of regions; `locate` finds them in the captions of the training clips, and
    refuses, before anything is encoded. `faces` reads whose face a clip shows, from its clean
    frames. `control` encodes the control pictures of sets that have some, for a ControlNet that
    reads latents; without it their pixels alone are kept. Order: masks, then every frame is decoded
    once, then latents, then text, so that a bad file shows before hours of encoding, and VAE and
    text encoder are never loaded together. May be killed at any moment: what was finished is not
    done again.

    Raises BadClips with every unusable file, caption or name, and with every clip or caption for
    which a model gives NaN or infinity; NoMasks for clips without the mask they are required to
    have; NoFaces where `faces` finds none in any clip; NoControl for clips without the control
    picture they must have, ControlUnusable where a swap or a mix would belie them; ClipsNotFound,
    MasksNotFound, ControlNotFound and TwoFiles as `media.files.find` does.
    """
    check_controls([*clipsets, *measured], swapped=swap is not None, mixed=mix is not None)
    cache.sweep()
    with Index(cache.folder) as index:
        walk = _Walk(cache, index, encoders, dict(regions), progress)
        walk.phrases, walk.locate = phrases or {}, locate
        walk.look_for(faces)
        walk.controls.encoder = control
        return walk.run(clipsets, swap, mix, holdout, measured)


class _Walk:
    """One call of `prepare` on its way through the data sets."""

    def __init__(
        self,
        cache: Cache,
        index: Index,
        encoders: Encoders,
        table: dict[str, float],
        progress: Progress,
    ) -> None:
        self.cache, self.index, self.encoders = cache, index, encoders
        self.entries = Entries(cache, index)
        self.regions = tuple(name for name in table if name != BACKGROUND)
        self.kept = tuple(name for name in self.regions if table[name] > 0)
        self.progress = progress
        self.tally = PrepareCounts(table)
        self.pictures: dict[str, PictureFiles] = {}  # of the clips of the data set at hand
        self.work = Encoding(self.entries, encoders, self.tally, self.regions, self.kept, progress)
        self.bad = self.work.bad
        self.remarks: dict[str, list[str]] = {}  # of the clips of the data set at hand
        self.refused: list[ValueError] = []  # of how files lie there; each is in `bad` as well
        self.phrases: Mapping[str, str] = {}
        self.locate: Callable[[Sequence[Item], Captions], Mapping[str, PhraseRow]] | None = None
        self.faces: FaceEntries | None = None
        self.controls = ControlEntries(
            self.entries, self._probe, progress, self.bad, self.tally.hints
        )

    def look_for(self, reader: ClipFaceReader | None) -> None:
        """Have the faces of the clips read as well; None leaves them."""
        if reader is not None:
            self.faces = FaceEntries(
                self.entries, self.encoders.grid, self.regions, reader, self.progress, self.bad
            )

    def run(
        self,
        clipsets: Sequence[Clipset],
        swap: PlanSwap | None,
        mix: PlanMix | None,
        holdout: int,
        measured: Sequence[Clipset],
    ) -> Prepared:
        items: list[Item] = []
        sources: dict[int, MaskedClip] = {}  # by position
        contents: set[str] = set()
        for number, clipset in enumerate(clipsets):
            for item, window, caption in self._plan(clipset, taught=True):
                if (swap is not None or mix is not None) and window.masked:
                    sources[len(items)] = MaskedClip(item, window, caption, number)
                items.append(item)
                contents.add(window.content)
        apart = list(self._plan_measured(measured, contents))
        self.controls.stop_if_lacking()  # before every clip is decoded
        self.work.check()
        stop_if_bad(self.bad, self.refused)
        self.tally.stop_if_unmasked()
        if not items:
            raise ValueError(f"nothing to train on in {_list_folders(clipsets)}")
        training, held = pick_held(items, holdout)
        masked = {position: sources[position] for position in training if position in sources}
        composed, draw_mixes = plan_composites(self.work, masked, self._read_facts, swap, mix)
        for position, item in composed.items():
            items[position] = item
        self.work.check()
        stop_if_bad(self.bad, self.refused)
        self.controls.run()
        stop_if_bad(self.bad, self.refused)
        kept = tuple(items[position] for position in training)
        rows = self.locate(kept, self.work.captions) if self.locate is not None else {}
        self._read_faces(kept, _list_folders(clipsets))
        self.work.run()
        self.controls.encode()
        stop_if_bad(self.bad, self.refused)
        self.work.embed()
        stop_if_bad(self.bad, self.refused)
        left = (*(items[position] for position in held), *apart)
        return Prepared(
            kept,
            left,
            self.regions,
            self.tally.report(),
            self.cache,
            phrases=rows,
            draw_mixes=draw_mixes,
        )

    def _plan_faces(self, window: Window) -> str | None:
        return None if self.faces is None else self.faces.plan(window)

    def _read_faces(self, items: Sequence[Item], source: str) -> None:
        if self.faces is not None:
            self.faces.run()
            stop_if_bad(self.bad, self.refused)
            self.faces.stop_if_none([item.faces for item in items], source)

    def _plan_measured(self, measured: Sequence[Clipset], contents: set[str]) -> Iterator[Item]:
        """The items of evaluation sets, as they are: not mirrored, each once."""
        for clipset in measured:
            for item, window, _ in self._plan(replace(clipset, flip=False), taught=False):
                if window.content in contents:
                    self.tally.shared.append(item.name)
                yield item

    # Planning: which entries a clip needs. Masks are covered here: it takes milliseconds.

    def _plan(self, clipset: Clipset, *, taught: bool) -> Iterator[tuple[Item, Window, str]]:
        findings = self._find_clips(clipset)
        selection = choose_clips(clipset.masking, findings.clips)
        clips = self.controls.select(clipset, selection.clips)
        self.tally.orphans += [str(path) for path in findings.orphans]
        self.tally.take(selection)
        self.tally.hints += [f"{clipset.clips}: {hint}" for hint in findings.hints]
        self.pictures = self._find_references(clipset, clips)
        for count, clip in enumerate(clips, 1):
            try:
                yield from self._plan_clip(clipset, clip, taught=taught)
            except CannotWrite:
                raise
            except (BadMedia, OSError, ValueError) as error:
                self.bad[str(clip.clip)] = f"{error}{explain_mismatch(clip.clip, error)}"
            if not count % 16 or count == len(clips):
                self.progress("clips and masks", count, len(clips))
        self.controls.report_stills(clipset)
        for name, message in sum_up(self.remarks):
            level = logging.WARNING if REMARKS[name].severity == "warning" else logging.INFO
            log.log(level, "%s: %s", clipset.clips, message)
        self.remarks.clear()
        self.index.commit()

    def _find_clips(self, clipset: Clipset) -> Findings:
        """The clips of a data set; all that is wrong with how they lie there at once."""
        how = clipset.masking
        with collecting() as refused:
            findings = find(
                clipset.clips,
                masks=how.source,
                folders=how.folders,
                captions=clipset.captions,
                caption=clipset.caption,
                wording=clipset.wording,
                reject=clipset.reject,
                control=clipset.control.folder if clipset.control else None,
            )
        for clip, error in refused:
            self.refused.append(error)
            self.bad[clip] = f"{self.bad[clip]}; {error}" if clip in self.bad else str(error)
        if findings.outside:
            first = findings.outside[0]
            log.warning(
                "%s: links bring %d of its files from elsewhere, the first is %s, from %s",
                clipset.clips,
                len(findings.outside),
                first,
                first.resolve(),
            )
        return findings

    def _find_references(
        self, clipset: Clipset, clips: Sequence[ClipFiles]
    ) -> dict[str, PictureFiles]:
        """The reference pictures of each clip, where the model looks at some."""
        if clipset.references is None:
            return {}
        listed = {clip.name: clip.references for clip in clips}
        if clipset.references == clipset.clips:
            pictures = check_references(clipset.clips, listed)
        else:
            pictures = find_references(clipset.references, listed)
        return {
            name: tuple((path, hash_content(self.index, path)) for path in paths)
            for name, paths in pictures.items()
        }

    def _plan_clip(
        self, clipset: Clipset, clip: ClipFiles, *, taught: bool
    ) -> Iterator[tuple[Item, Window, str]]:
        content = hash_content(self.index, clip.clip)
        media = self._probe(clip.clip, content)
        for remark in media.remarks_at(clipset.windows.fps):
            self.remarks.setdefault(remark, []).append(clip.name)
        masks = {name: self.index.content(path) for name, path in clip.masks.items()}
        caption = add_trigger(apply_template(clip.caption, clipset.template), clipset.trigger)
        pictures = self.pictures.get(clip.name, ())
        texts = self._key_texts(clipset, caption, pictures)
        masking = clipset.masking
        if not clip.alpha and masking.source == "alpha":
            masking = replace(masking, source="none")
        self.tally.sided += clipset.flip and SIDES.search(caption) is not None
        cuts = cut_windows(clipset, media, self.encoders.grid)
        control = self.controls.open(clipset, clip, media, cuts)
        for number, (picks, target) in enumerate(cuts):
            name = clip.name if len(cuts) == 1 else f"{clip.name}#{number}"
            for flip in (False, True) if clipset.flip else (False,):
                geometry = Geometry((media.height, media.width), target, picks, flip, media.stored)
                window = Window(
                    name,
                    clip.clip,
                    content,
                    clip.masks,
                    masks,
                    media,
                    geometry,
                    masking,
                    pictures,
                    control,
                )
                yield self._make_item(clipset, window, texts, taught=taught), window, caption
            if taught and not clip.caption.strip():
                self.tally.uncaptioned.append(name)

    def _key_texts(self, clipset: Clipset, caption: str, pictures: PictureFiles) -> tuple[str, ...]:
        """The key of every order of the caption's tags that is trained on."""
        captions = list_orders(
            caption, clipset.trigger, shuffle=clipset.shuffle_tags, keep=clipset.keep_tags
        )
        return tuple(self.work.text(order, pictures) for order in captions)

    def _make_item(
        self, clipset: Clipset, window: Window, texts: tuple[str, ...], *, taught: bool
    ) -> Item:
        geometry = window.geometry
        shape = self.encoders.grid.cells(len(geometry.picks), *geometry.target)
        coverage = self._cover(window) if window.masked else None
        latents = self.work.latents(window)
        control, control_latents = self.controls.plan(window)
        if taught and not geometry.flip:
            self.tally.count(
                window.name, coverage[1] if coverage else None, required=clipset.masking.require
            )
        return Item(
            window.name,
            str(window.clip),
            latents,
            texts,
            coverage[0] if coverage else None,
            shape,
            clipset.weight,
            clipset.repeats,
            clipset.dropout,
            geometry.flip,
            empty=self.work.text(EMPTY, window.references) if clipset.dropout else None,
            weighs=window.masking.role != "condition",
            reference_sizes=tuple(
                self._measure_picture(path, content) for path, content in window.references
            ),
            drawn=self.work.vary(window) if taught and coverage else (),
            covers=(covers := _list_covered(coverage[1]) if coverage else ()),
            subsets=self.work.make_subsets(clipset, covers, self.phrases, window.references)
            if taught
            else (),
            picks=geometry.picks,
            crop=geometry.crop,
            faces=self._plan_faces(window),
            control=control,
            control_latents=control_latents,
        )

    def _measure_picture(self, picture: Path, content: str) -> tuple[int, int]:
        media = self._probe(picture, content)
        return media.height, media.width

    def _probe(self, clip: Path, content: str) -> Media:
        slot = f"{content}{clip.suffix.lower()}|{LOOK}"
        known = self.index.get("probe", slot)
        if known is not None:
            return Media.parse(clip, known)
        media = probe(clip)
        self.index.put("probe", slot, media.dump())
        return media

    def _cover(self, window: Window) -> tuple[str, Facts]:
        key = key_of(coverage_record(window, self.regions, self.encoders.grid))
        if self.entries.ready("coverage", key):
            return key, self._read_facts(key)
        planes, names, facts = cover(window, self.regions, self.encoders.grid)
        notes = {"regions": "\n".join(names), "facts": facts.dump()}
        self.entries.store("coverage", key, planes, notes)
        self.index.put("facts", key, facts.dump())
        self.tally.covered += 1
        return key, facts

    def _read_facts(self, key: str) -> Facts:
        """Of a coverage entry that is there: as remembered, or as it says itself."""
        known = self.index.get("facts", key)
        if known is None:
            known = self.cache.load("coverage", key).notes["facts"]
            self.index.put("facts", key, known)
        return Facts.parse(known)


def _list_covered(facts: Facts) -> tuple[str, ...]:
    return tuple(name for name, share in facts.mean.items() if share > 0)


def _list_folders(clipsets: Sequence[Clipset]) -> str:
    folders = ", ".join(str(clipset.clips) for clipset in clipsets)
    return folders or "the config: add a [[data]] table"
