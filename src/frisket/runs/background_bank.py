"""A bank of backgrounds sampled once from the frozen base: no outside data, captions known."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.data.cached.store import FIX
from frisket.disk.atomic import draft_name, sweep, writing
from frisket.families.base import Family, Source
from frisket.inference.generate import Picture, sample
from frisket.inference.sample_specs import build_spec
from frisket.media.frames import write_image, write_video
from frisket.runs.sampling.sampler import embed_prompts, load_sampler, plan_of


def key_of(config: Config, source: Source, size: tuple[int, int, int]) -> str:
    """Name of the bank these settings make; any change of prompts, model or size is a new bank."""
    record = {
        "family": config.model.family,
        "variant": source.variant,
        "source": source.path,
        "revision": source.revision,
        "prompts": config.swap.prompts,
        "prompt": config.swap.bank_prompt,
        "seeds": config.swap.bank_seeds,
        "size": size,
        "format": 1,
        **source.reading,
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:24]


def sample_bank(
    config: Config,
    family: Family,
    source: Source,
    size: tuple[int, int, int],
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Path:
    """Folder of the bank (pictures or clips with a `.txt` of what they show), made if not there.

    `size` is (frames, height, width). The folder appears under its name only when it is whole.
    """
    folder = config.run.cache / "bank" / key_of(config, source, size)
    if folder.is_dir():
        return folder
    variant = family.variants[source.variant]
    frames, height, width = size
    phrases = [phrase for phrase in config.swap.prompts for _ in range(config.swap.bank_seeds)]
    seeds = [seed for _ in config.swap.prompts for seed in range(config.swap.bank_seeds)]
    prompts = [config.swap.bank_prompt.format(background=phrase) for phrase in phrases]
    specs = [
        build_spec(variant, *pair, height=height, width=width, frames=frames)
        for pair in zip(prompts, seeds, strict=True)
    ]
    if variant.sees != "nothing":
        raise ConfigError(
            f"swap.source: {family.name} {source.variant} makes no picture from text alone, so it"
            ' has no bank of backgrounds; use swap.source = "folder"'
        )
    embeddings = embed_prompts(family, source, specs)
    pictures = sample(
        family,
        load_sampler(family, source, plan_of(config)),
        embeddings,
        specs,
        device=torch.device(source.device),
        tile=config.memory.tile_vae,
    )
    partial = folder.with_name(draft_name())
    try:
        with writing(folder, FIX, draft=partial):
            partial.mkdir(parents=True)
            sweep(partial.parent)
            for index, (picture, phrase) in enumerate(zip(pictures, phrases, strict=True)):
                _keep(partial / f"{index:04d}", picture, phrase, variant.fps)
                progress("sampling backgrounds", index + 1, len(phrases))
            _rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _keep(path: Path, picture: Picture, phrase: str, fps: float) -> None:
    """A picture or clip as `path` with a suffix, and the phrase it was made of."""
    if len(picture.frames) == 1:
        write_image(path.with_name(f"{path.name}.png"), picture.frames[0])
    else:
        write_video(path.with_name(f"{path.name}.mkv"), picture.frames, fps, lossless=True)
    path.with_name(f"{path.name}.txt").write_text(phrase, encoding="utf-8")


def _rename(partial: Path, folder: Path) -> None:
    try:
        partial.replace(folder)
    except OSError:
        if not folder.is_dir():  # else another run has made the very same bank in the meantime
            raise
