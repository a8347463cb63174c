"""`frisket masks export` and `import`: masks carried to other tools' layouts and back."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, repeat
from pathlib import Path
from typing import Literal

import torch

from frisket.config.data import PRESETS
from frisket.config.load import load
from frisket.maskgen.base import LabelMap
from frisket.maskgen.cleanup.clean import compose
from frisket.maskgen.files import record
from frisket.maskgen.files.store import (
    MaskStore,
    extend_legend,
    open_label_video,
    read_legend,
    write_labels,
)
from frisket.maskgen.format_base import (
    EXCHANGES,
    FPS,
    GREY,
    BadExchange,
    Exchange,
    Masked,
    RegionMasks,
)
from frisket.masks.read import BACKGROUND
from frisket.media.files import ClipFiles
from frisket.media.foreign import decoding
from frisket.media.frames import probe
from frisket.progress import Progress
from frisket.recipes.masks.folder import BadMaskOption, MaskFolder, cut, open_masks
from frisket.recipes.masks.make import clips_of, place_of
from frisket.registry import suggest

Missing = Literal["skip", "white"]
EVERYWHERE = "everywhere"  # the region of a clip without a mask: weight 1, as in training

UNREADABLE = "cannot be read as {layout} ({{reason}}); export it anew"


@dataclass(slots=True)
class Carried:
    """What an export or import came to; clips by name."""

    layout: Exchange
    to: Path
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # and what is wrong
    unmasked: list[str] = field(default_factory=list)  # export: without a mask
    unsure: list[str] = field(default_factory=list)  # export: a record doubts the mask
    kept: list[str] = field(default_factory=list)  # import: there is hand work
    grey: list[str] = field(default_factory=list)  # import: levels between black and white
    empty: list[str] = field(default_factory=list)  # import: the mask shows no region
    regions: tuple[str, ...] = ()


def find_layout(name: str, option: str) -> Exchange:
    """A layout by its name; BadOption tells the nearest."""
    if name not in (names := EXCHANGES.names()):
        raise BadMaskOption(f"{option}: no layout is named {name!r}{suggest(name, names)}")
    return EXCHANGES.load(name)


def read_weights(
    config: Path | None, preset: str, by_hand: Mapping[str, float]
) -> dict[str, float]:
    """The weights of a config's [regions] or of a preset, with those `by_hand` laid over.

    {} where none is given. Raises BadOption, and ConfigError for a config that cannot be read.
    """
    if config and preset:
        raise BadMaskOption("give --config or --regions, not both; --weights changes either")
    if preset and preset not in PRESETS:
        raise BadMaskOption(
            f"--regions: no preset is named {preset!r}{suggest(preset, list(PRESETS))}"
        )
    table = load(config).region_weights if config else PRESETS.get(preset, {})
    return {**table, **by_hand}


def export(
    folder: Path,
    to: str,
    output: Path,
    *,
    masks: str = "",
    weights: Mapping[str, float] | None = None,
    levels: Mapping[str, int] | None = None,
    missing: Missing = "skip",
    overwrite: bool = False,
    progress: Progress = lambda *_: None,
) -> Carried:
    """Write the masks of a clip folder in another tool's layout.

    `masks` as `open_masks` takes it; empty is where `frisket masks` puts them. `missing` says
    whether a clip without a mask gets one that teaches everywhere. A clip that cannot be read is
    told and stops no other. Raises BadOption where weights are lacking or do not apply, BadExchange
    where files are there already, OSError where nothing can be written, and as `open_masks`.
    """
    layout = find_layout(to, "--to")
    if missing == "white" and not layout.grey:
        raise BadMaskOption(f"--missing white: {to} holds regions; leave such clips out")
    clips, place = _place_masks(folder, masks)
    mask_folder = open_masks(masks or str(place.folder), clips, levels=levels)
    table = _choose_weights(layout, mask_folder.regions(), weights or {})
    if missing == "white":
        table[EVERYWHERE] = 1.0
    carried = Carried(layout, output, regions=mask_folder.regions())
    clip_files = clips_of(clips, place)
    items = _read_clips(
        clip_files, mask_folder, place, carried, white=missing == "white", progress=progress
    )
    while True:
        before = len(carried.done)
        try:
            deque(layout.write(output, items, table, overwrite=overwrite), maxlen=0)
            return carried
        except ValueError as error:  # BadExchange and BadMedia, told of the last clip handed out
            # Only layouts of one grey file a clip can go on: others have one file for all.
            if not layout.grey or len(carried.done) == before:
                raise
            carried.failed[carried.done.pop()] = str(error)


def _place_masks(folder: Path, masks: str) -> tuple[Path, MaskStore]:
    """The clip folder, and where its masks are: beside the clips where `masks` is their folder."""
    clips, place = place_of(folder, Path(masks) if masks else None)
    if place.folder.resolve() == clips.resolve():
        place = MaskStore(clips, beside=True)
    return clips, place


def _choose_weights(
    layout: Exchange, regions: Sequence[str], weights: Mapping[str, float]
) -> dict[str, float]:
    """The weights a layout is given; one that knows regions gets these, in their order."""
    if not layout.grey:
        return {name: weights.get(name, 1.0) for name in regions}
    if not weights and len(regions) == 1:
        return dict.fromkeys(regions, 1.0)
    if strangers := [name for name in regions if name not in weights]:
        raise BadMaskOption(
            f"this layout holds weights, and {', '.join(strangers)} has none: give --regions"
            f" person, --config FILE, or --weights {','.join(f'{name}=1' for name in strangers)}"
        )
    return dict(weights)


def _read_clips(
    clip_files: Sequence[ClipFiles],
    mask_folder: MaskFolder,
    place: MaskStore,
    carried: Carried,
    *,
    white: bool,
    progress: Progress,
) -> Iterator[Masked]:
    """What is written, clip by clip; each is `done` as it is handed out."""
    for number, clip in enumerate(clip_files, 1):
        progress("export", number, len(clip_files))
        if clip.name not in mask_folder.files:
            carried.unmasked.append(clip.name)
            if not white:
                continue
        try:
            item = _read_clip(clip, mask_folder, carried.layout)
            mask_record = record.load(place.record(clip.name))
        except ValueError as error:  # BadMedia, BadExchange, BadMaskRecord
            carried.failed[clip.name] = str(error)
            continue
        if mask_record and mask_record.status == "unsure":
            carried.unsure.append(clip.name)
        carried.done.append(clip.name)
        yield item


def _read_clip(clip_file: ClipFiles, mask_folder: MaskFolder, layout: Exchange) -> Masked:
    clip = probe(clip_file.clip)
    if clip.video and not layout.video:
        raise BadExchange(f"{clip_file.clip}: this layout takes no masks of videos; kohya does")
    frames: Iterable[RegionMasks]
    if clip_file.name in mask_folder.files:
        frames = mask_folder.frames(clip_file.name, clip)
    else:
        frames = repeat({EVERYWHERE: torch.ones(clip.height, clip.width)}, clip.frames)
    # A picture is read here, where a fault is its own and not that of the one file for all.
    return Masked(clip_file.name, clip, frames if clip.video else list(frames))


def import_masks(
    source: Path,
    layout: str,
    clips: Path,
    output: Path | None = None,
    *,
    levels: Mapping[str, int] | None = None,
    overwrite: bool = False,
    progress: Progress = lambda *_: None,
) -> Carried:
    """Read another tool's masks into label maps, with a legend and a record each.

    Grey layouts give the region `subject`, where a mask is at least half white, or regions by
    `levels`. Hand work is left alone unless `overwrite`, and what is imported counts as such. Where
    the source breaks off after some clips these are kept, and the rest is told as failed. Raises
    BadOption, and what the layout raises of a source that gives nothing at all.
    """
    exchange = find_layout(layout, "--from")
    if levels and not exchange.grey:
        raise BadMaskOption(f"--levels: {layout} holds regions, not grey levels; leave it out")
    if not source.exists():
        raise BadMaskOption(f"{source}: there is no such file or folder")
    clips, place = place_of(clips, output)
    settings = {record.IMPORTED: layout} | ({"levels": dict(levels)} if levels else {})
    writer = _ImportWriter(place, settings, source, levels or {}, overwrite)
    carried = Carried(exchange, place.folder)
    items = exchange.read(source, clips)
    for number in count(1):
        try:
            with decoding(source, UNREADABLE.format(layout=layout), BadExchange):
                item = next(items, None)
        except ValueError as error:  # a reader that raised has no next item
            if number == 1:
                raise
            carried.failed["the rest"] = str(error)
            break
        if item is None:
            break
        progress("import", number, number)
        try:
            writer.keep(item, carried)
        except ValueError as error:
            carried.failed[item.name] = str(error)
    carried.regions = tuple(writer.legend)
    return carried


class _ImportWriter:
    """Writes what is imported, and grows the legend as regions turn up."""

    def __init__(
        self,
        place: MaskStore,
        settings: Mapping[str, object],
        source: Path,
        levels: Mapping[str, int],
        overwrite: bool,
    ) -> None:
        self.place, self.settings, self.source = place, settings, source
        self.levels, self.overwrite = levels, overwrite
        self.legend = read_legend(place.legend)

    def keep(self, item: Masked, carried: Carried) -> None:
        """Write one clip's label map and record, unless there is hand work."""
        mask_paths = self.place.present(item.name, item.clip.path, self._list_soft())
        if not self.overwrite and self._is_by_hand(item, mask_paths):
            carried.kept.append(item.name)
            return
        if folders := [path for path in mask_paths.values() if path.is_dir()]:
            raise BadExchange(f"{folders[0]}: is a mask of frames; move it away first")
        pixels: Counter[str] = Counter()
        path = self.place.labels(item.name, video=item.clip.video)
        self._write(path, item, pixels, carried)
        for old in mask_paths.values():
            if old != path:  # two masks of one name would be refused in training
                old.unlink()
        clip, total = item.clip, item.clip.frames * item.clip.height * item.clip.width
        record.save(
            record.MaskRecord(
                clip=record.Stamp.of(clip.path),
                frames=clip.frames,
                height=clip.height,
                width=clip.width,
                status="done",
                settings=self.settings,
                key=record.key_of(self.settings),
                masks=(record.Stamp.of(path, self.place.below(path)),),
                legend=dict(self.legend),
                regions={
                    name: record.DetectionRecord(pixels[name] / total) for name in self.legend
                },
                notes=(f"imported from {self.source}",),
            ),
            self.place.record(item.name),
        )
        carried.done.append(item.name)
        if not pixels.total():
            carried.empty.append(item.name)

    def _list_soft(self) -> tuple[str, ...]:
        return () if self.place.beside else tuple(self.legend)

    def _is_by_hand(self, item: Masked, mask_paths: Mapping[str, Path]) -> bool:
        mask_record = record.load(self.place.record(item.name))
        return record.state(mask_record, clip=item.clip.path, masks=mask_paths, key="") == "hand"

    def _write(self, path: Path, item: Masked, pixels: Counter[str], carried: Carried) -> None:
        labels = self._make_labels(item, pixels, carried)
        if not item.clip.video:
            write_labels(path, next(labels), self.legend)
            return
        with open_label_video(path, item.clip.fps or FPS, self.legend) as add:
            for label_map in labels:
                add(label_map)

    def _make_labels(
        self, item: Masked, pixels: Counter[str], carried: Carried
    ) -> Iterator[LabelMap]:
        grey = False
        for frame in item.frames:
            if GREY in frame and not grey and ((frame[GREY] > 0) & (frame[GREY] < 1)).any():
                grey = True
                carried.grey.append(item.name)
            cuts = cut(frame[GREY], self.levels) if self.levels else frame
            planes = {name: mask for name, mask in cuts.items() if name != BACKGROUND}
            if not planes:
                yield torch.zeros(item.clip.height, item.clip.width, dtype=torch.uint8)
                continue
            if not planes.keys() <= self.legend.keys():
                self.legend.update(extend_legend(self.place.legend, planes))
            table = torch.tensor([0, *(self.legend[name] for name in planes)], dtype=torch.uint8)
            labels = table[compose(planes).long()]
            for name in planes:
                pixels[name] += int((labels == self.legend[name]).sum())
            yield labels
