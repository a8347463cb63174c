"""`frisket prepare`: everything a configuration trains on, encoded once into the cache."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frisket.config.checks.control import READS_CONTROL
from frisket.config.checks.term_needs import list_term_needs
from frisket.config.compat import compat_of
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config, Data
from frisket.data.cached.index import Index
from frisket.data.cached.store import Cache
from frisket.data.control.planning import ControlEncoder
from frisket.data.prepare import prepare as prepare_data
from frisket.data.records import Clipset, Controls, Masking, Prepared, Windows
from frisket.families.base import FAMILIES, Family, References, Source, Variant
from frisket.grid import LatentGrid
from frisket.maskgen.files.unsure import is_unsure
from frisket.media.captions import Wording
from frisket.media.manifest import is_manifest
from frisket.progress import Progress
from frisket.runs.composites.plans import MakeBank, plan_mix, plan_swap
from frisket.runs.composites.sheet import write_mix_sheet
from frisket.runs.concepts.phrases import make_locator
from frisket.runs.control.reading import make_control_reader
from frisket.runs.faces.reading import make_reader
from frisket.shapes import Clip, Plane
from frisket.training.memory.precision import tile

__all__ = ["Prepared", "prepare", "source_of"]

# Folders of a diffusers repository that the encoders of pixels are loaded from.
PIXEL_PARTS = ("vae", "image_encoder*", "image_processor*", "feature_extractor*")
TEXT_PARTS = ("text_encoder*", "tokenizer*")


def source_of(config: Config, family: Family) -> Source:
    """Variant, weights, precision and device; `auto` takes cuda, then mps, then cpu."""
    model = config.model
    device = model.device
    if device == "auto":
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if device.startswith("cuda:") and _lacking(device) is None:
        # What asks for "cuda" alone (quantising, Triton, an optimizer's kernels) means this one.
        torch.cuda.set_device(device)
    return Source(
        variant=model.variant or family.default,
        path=model.source,
        revision=model.revision,
        dtype=getattr(torch, model.dtype),
        device=device,
        quantise=config.memory.quantise,
        clip_skip=model.clip_skip,
        max_tokens=model.max_tokens,
    )


def check_device(config: Config) -> None:
    """Raise ConfigError where model.device names a card that torch does not see."""
    lacking = _lacking(config.model.device)
    if lacking is not None:
        raise ConfigError(
            f'model.device = "{config.model.device}": {lacking}. Choose one that is here, or set'
            ' model.device = "auto"'
        )


def _lacking(device: str) -> str | None:
    """What a named CUDA device lacks here, if it does."""
    if not device.startswith("cuda"):
        return None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return "torch sees no card (`frisket doctor` says why)"
    index = torch.device(device).index or 0
    return None if index < count else f"there are cuda:0 to cuda:{count - 1}"


def prepare(
    config: Config,
    *,
    progress: Progress = lambda *_: None,
    bank: MakeBank | None = None,
    control: ControlEncoder | None = None,
) -> Prepared:
    """Encode what is missing, load no model if nothing is; returns the data of the run.

    `progress` is told stage, done and total (the command line draws a bar). `bank` makes the folder
    of swap backgrounds sampled from the base model (unless given `background_bank.sample_bank`).
    `control` encodes control pictures for a ControlNet that reads latents (unless given, the VAE
    as the run's own net reads it).
    Raises the errors of `data.prepare.prepare`, WeightsNotFound, and ConfigError for a device that
    is not here, or files of losses.identity that are not.
    """
    check_device(config)
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    cache = Cache(config.run.cache)
    clipsets = [clipset_of(config, data, family, source) for data in config.data]
    measured = [clipset_of(config, data, family, source) for data in config.validation.data]
    with Index(cache.folder) as index:
        encoders = Loaded(family, source, index, tiled=config.memory.tile_vae)
        swap = plan_swap(config, family, source, index, progress, bank)
        faces = make_reader(config, source, index)
        reader = control or make_control_reader(config, source, index, encoders.pixels_record)
    mix = plan_mix(config, swap)

    def again(shown: Progress = lambda *_: None) -> Prepared:
        return prepare_data(
            clipsets,
            cache,
            encoders,
            regions=regions_of(config),
            swap=swap,
            mix=mix,
            holdout=config.validation.holdout,
            measured=measured,
            progress=shown,
            phrases=config.phrases,
            locate=make_locator(config, family, source),
            faces=faces,
            control=reader,
        )

    done = replace(
        again(progress), swap_rate=config.swap.rate, mix_rate=config.mix.rate, rebuild=again
    )
    frames = faces.request.frames if faces is not None else done.face_frames
    reads_pixels = any(READS_CONTROL in needs for _, needs in list_term_needs(config))
    return replace(
        done,
        mix_sheet=write_mix_sheet(done),
        face_frames=frames,
        control_pixels=reader is None or reads_pixels,
    )


def regions_of(config: Config) -> dict[str, float]:
    """The weight table, `background` always in it."""
    return {"background": 0.0, **config.region_weights}


def clipset_of(config: Config, data: Data, family: Family, source: Source) -> Clipset:
    """One `[[data]]` table with the variant's own size, length and rate where it names none."""
    variant = family.variants[source.variant]
    return Clipset(
        clips=data.clips,
        masking=_masking(config, data),
        captions=data.captions,
        caption=data.caption,
        trigger=data.trigger,
        dropout=data.caption_dropout,
        shuffle_tags=data.shuffle_tags,
        keep_tags=data.keep_tags,
        template=data.template,
        subset_caption=data.subset_caption,
        wording=Wording(data.caption_extension, data.caption_part),
        reject=data.reject,
        repeats=data.repeats,
        weight=data.weight,
        resolution=data.resolution or (variant.width, variant.height),
        keep_aspect=data.buckets,
        enlarge=data.enlarge,
        windows=Windows(
            frames=data.frames or variant.frames,
            mode=data.extract,
            stride=data.stride,
            samples=data.samples,
            max_frames=data.max_frames,
            fps=_rate(data, variant),
        ),
        flip=data.flip,
        references=data.references or _find_manifest(data, variant),
        control=_read_control(data),
    )


def _read_control(data: Data) -> Controls | None:
    source = data.control
    return None if source is None else Controls(source.path, source.missing == "leave out")


def _find_manifest(data: Data, variant: Variant) -> Path | None:
    """The manifest, where the model looks at the pictures it lists."""
    return data.clips if variant.sees == "pictures" and is_manifest(data.clips) else None


def _rate(data: Data, variant: Variant) -> float | None:
    if data.fps == "own":
        return None
    return data.fps or (variant.fps if variant.video else None)


def _masking(config: Config, data: Data) -> Masking:
    masks, compat = data.masks, compat_of(config)
    rule = compat.prior if compat and "prior" in config.losses.terms else None
    folders = {"": masks.path} if masks.source == "folder" and masks.path else dict(masks.regions)
    return Masking(
        source=masks.source,
        folders=folders,
        levels=masks.levels,
        legend=masks.legend,
        invert=masks.invert,
        grow=masks.grow,
        feather=masks.feather,
        fill_holes=masks.fill_holes,
        pixel_gamma=masks.pixel_gamma,
        pixel_floor=masks.pixel_floor,
        reading=masks.reading or (compat.reading if compat else "mean"),
        prior_reading=rule.reading if rule else None,
        require=masks.require,
        unmasked=masks.unmasked,
        fallback=masks.fallback,
        unsure=is_unsure,
        shrink=masks.shrink,
        blur=masks.blur,
        variants=masks.variants,
        role=data.mask_role,
    )


class Loaded:
    """The encoders of a family, loaded when first asked; only one of them is held at a time."""

    def __init__(
        self, family: Family, source: Source, index: Index, *, tiled: bool = False
    ) -> None:
        """Name the models for the cache keys; weights on this machine by what is in the files."""
        self.family, self.source = family, source
        self.grid: LatentGrid = family.variants[source.variant].grid
        self.tiled = tiled
        # Tiles meet in a blend: other latents, if only a little.
        how = {"tiled": True} if tiled else {}
        self.pixels_record: Mapping[str, Any] = self._record(index, PIXEL_PARTS) | how
        self.text_record: Mapping[str, Any] = self._record(index, TEXT_PARTS) | source.reading
        self._vae: nn.Module | None = None
        self._vision: nn.Module | None = None
        self._text: nn.Module | None = None

    def _record(self, index: Index, parts: Sequence[str]) -> dict[str, Any]:
        source, local = self.source, self.source.local
        record: dict[str, Any] = {
            "family": self.family.name,
            "variant": source.variant,
            "source": source.path or self.family.variants[source.variant].repo,
            "revision": source.revision,
            "dtype": str(source.dtype),
        }
        if local is not None:  # a folder may be moved, or its weights replaced
            folders = (
                [path for part in parts for path in sorted(local.glob(part))]
                if local.is_dir()
                else []
            )
            record["source"] = [index.fingerprint(path) for path in folders or [local]]
        return record

    @torch.no_grad()
    def encode(
        self, clip: Clip, references: References = (), keep: Plane | None = None
    ) -> Mapping[str, Tensor]:
        """One clip to latents and what the denoiser sees of it, on the source's device."""
        if self._vae is None:
            self.free()
            self._vae = self.family.load_vae(self.source).to(self.source.device)
            if self.tiled:
                tile(self._vae)
            vision = self.family.load_vision(self.source)
            self._vision = None if vision is None else vision.to(self.source.device)
        moved = clip.to(self.source.device, self.source.dtype)
        conditioning = self.family.image_conditioning(
            self._vae, self._vision, moved, references, keep
        )
        return {"latents": self.family.encode(self._vae, moved), **conditioning}

    @torch.no_grad()
    def embed(self, caption: str, references: References = ()) -> Mapping[str, Tensor]:
        """One caption to conditioning."""
        if self._text is None:
            self.free()
            self._text = self.family.load_text(self.source).to(self.source.device)
        return self.family.embed(self._text, [caption], [references] if references else ())

    def free(self) -> None:
        """Let go of what is loaded, on the device too."""
        if self._vae is None and self._text is None:
            return
        self._vae = self._vision = self._text = None
        gc.collect()
        if self.source.device.startswith("cuda"):
            torch.cuda.empty_cache()
