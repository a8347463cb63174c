"""The first lines of a run: which model, on what, and what has to be downloaded for it."""

from collections.abc import Iterator

import torch
from huggingface_hub import try_to_load_from_cache

from frisket.config.presets.lay import plan_for
from frisket.config.tree import FAMILY, Config
from frisket.families.base import FAMILIES
from frisket.families.listing import Size, size_of
from frisket.runs.prepare import source_of

SMALL = 1_000_000_000  # parameters up to which a CPU is no surprise


def opening(config: Config) -> Iterator[str]:
    """Lines to print before any work; only shapes of a model are read, no hub is asked."""
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    card = family.variants[source.variant]
    device = source.device
    yield f"{family.name} {source.variant} on {_describe_device(device)}"
    if plan := plan_for(config.model_dump(mode="json"), FAMILY):
        yield f"preset {plan.name}, under what the config says itself (`frisket explain`)"
        yield from plan.tell_left_out()
    hub = source.path or card.repo
    fetched = source.local is None and hub.count("/") == 1
    size = size_of(family, source.variant) if fetched or device == "cpu" else None
    if device == "cpu" and size is not None and size.count > SMALL:
        yield (
            f"no GPU is used: with {size.count / 1e9:.1f} billion parameters a run on a CPU takes"
            " days (`frisket doctor` says what this machine has)"
        )
    if fetched and not _is_here(hub):
        yield (
            f"{hub} is not on this machine yet and is downloaded as it is needed:"
            f" {_describe_download(size, len(card.experts) or 1)} for the denoiser, text encoder"
            " and VAE besides. Ctrl-C stops, what was downloaded stays"
        )


def _describe_device(device: str) -> str:
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else ""
    return f"{device} ({name})" if name else device


def _describe_download(size: Size | None, experts: int) -> str:
    return f"{size.bytes * experts / 1e9:.0f} GB" if size else "its denoiser"


def _is_here(hub: str) -> bool:
    """Whether a repository was downloaded before, at least its list of parts."""
    return isinstance(try_to_load_from_cache(hub, "model_index.json"), str)
