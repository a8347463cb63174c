"""`frisket doctor`: what this machine has, what is missing, and the fix for it."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from frisket import __version__
from frisket.config.load import ConfigError, check, read
from frisket.config.tree import Config, Run

Verdict = Literal["ok", "note", "missing"]
GIB = 2**30
ROOMY = 5 * GIB  # below it a cache of latents and a few checkpoints may not fit
CODECS: tuple[tuple[str, Literal["r", "w"], str], ...] = (
    ("h264", "r", "reads most videos"),
    ("hevc", "r", "reads newer phone videos"),
    ("vp9", "r", "reads .webm"),
    ("ffv1", "r", "reads lossless mask videos"),
    ("libx264", "w", "writes previews as .mp4"),
    ("ffv1", "w", "writes lossless videos"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `missing` stops a run, a `note` may."""

    verdict: Verdict
    about: str
    said: str
    fix: str = ""


def doctor(path: Path | None = None, overrides: Sequence[str] = ()) -> list[Finding]:
    """Look at versions, devices, codecs, disk and, if a config file is given, at what it asks for.

    Changes nothing but a probe file in the output and cache folders, removed at once.
    """
    findings = [*_versions(), *_extras(), *_devices(), *_codecs()]
    config: Config | None = None
    if path is not None:
        try:
            config, origin = read(path, overrides)
            check(config, origin)
            findings.append(Finding("ok", "config", f"{path} is understood"))
            findings += _asked(config)
        except ConfigError as error:
            fix = f"mend it, then `frisket doctor {path}`"
            findings.append(Finding("missing", "config", str(error), fix))
    run = config.run if config else Run()
    findings += _folder("output", run.output)
    findings += _folder("cache", run.cache)
    return findings


def _requirements(extra: str = "") -> list[Requirement]:
    """What the package says it needs; with `extra`, what that extra adds."""
    wanted = [Requirement(line) for line in metadata.requires("frisket") or []]
    plain = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    if not extra:
        return plain
    return [each for each in wanted if each.marker and each.marker.evaluate({"extra": extra})]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _versions() -> Iterator[Finding]:
    python = f"Python {platform.python_version()} on {platform.platform()}"
    yield Finding("ok", "frisket", f"{__version__}, {python}, {sys.prefix}")
    for wanted in _requirements():
        found = _installed(wanted.name)
        if found is None:
            yield Finding("missing", wanted.name, "not installed", f"pip install '{wanted}'")
        elif not wanted.specifier.contains(found, prereleases=True):
            said = f"{found} is outside {wanted.specifier}"
            yield Finding("missing", wanted.name, said, f"pip install '{wanted}'")
        else:
            yield Finding("ok", wanted.name, found)


def _extras() -> Iterator[Finding]:
    for extra in metadata.metadata("frisket").get_all("Provides-Extra") or []:
        for wanted in _requirements(extra):
            found = _installed(wanted.name)
            if found:
                yield Finding("ok", wanted.name, f"{found} (optional)")
            else:
                fix = f"pip install 'frisket[{extra}]', if you want it"
                yield Finding("note", wanted.name, f"not installed (optional, {extra})", fix)


def _devices() -> Iterator[Finding]:
    import psutil  # noqa: PLC0415 - with torch, only when looked at
    import torch  # noqa: PLC0415 - seconds to import

    memory = psutil.virtual_memory()
    yield Finding(
        "ok",
        "cpu",
        f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads,"
        f" {memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB memory free",
    )
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        half = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        said = f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free, trains in {half}"
        yield Finding("ok", f"cuda:{index}", said)
    if torch.backends.mps.is_available():
        yield Finding("ok", "mps", "Apple GPU")
    elif not torch.cuda.is_available():
        yield _no_gpu(torch.version.cuda)


def _no_gpu(built_for: str | None) -> Finding:
    """Why torch sees no accelerator: a build without CUDA, or no usable driver."""
    said = "torch sees none; the pocket model trains on a CPU, larger ones take very long"
    if shutil.which("nvidia-smi") is None:
        return Finding("note", "gpu", said, "none, if this machine has no GPU")
    if built_for is None:
        fix = "install torch built for CUDA: https://pytorch.org/get-started/locally"
        return Finding("missing", "gpu", "there is an NVIDIA driver but torch is a CPU build", fix)
    fix = f"update the NVIDIA driver to one for CUDA {built_for}; `nvidia-smi` shows yours"
    return Finding("missing", "gpu", f"torch for CUDA {built_for} cannot use the driver", fix)


def _codecs() -> Iterator[Finding]:
    try:
        import av  # noqa: PLC0415 - a broken install is one of the findings
        from av.codec.codec import UnknownCodecError  # noqa: PLC0415
    except ImportError as error:
        yield Finding("missing", "video", f"PyAV does not load: {error}", "pip install av")
        return
    for name, mode, use in CODECS:
        about = f"codec {name}"
        try:
            av.Codec(name, mode)
        except UnknownCodecError:
            fix = "pip install --force-reinstall av (its wheels bring FFmpeg with them)"
            yield Finding("missing", about, f"this FFmpeg has none ({use})", fix)
        else:
            yield Finding("ok", about, use)


def _folder(about: str, folder: Path) -> Iterator[Finding]:
    """Whether a folder (or the nearest one above it that exists) can be written, and has room."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        fix = f"set run.{about} to a folder"
        yield Finding("missing", about, f"{there} is a file, so {folder} cannot be made", fix)
        return
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".frisket-doctor-"):
            pass
    except OSError as error:
        fix = f"give yourself write access, or set run.{about} to another folder"
        yield Finding("missing", about, f"{there} cannot be written: {error.strerror}", fix)
        return
    free = shutil.disk_usage(there).free
    said = f"{folder} can be written, {free / GIB:.1f} GiB free"
    if free < ROOMY:
        yield Finding("note", about, said, f"free some space, or set run.{about} to another disk")
    else:
        yield Finding("ok", about, said)


def _asked(config: Config) -> Iterator[Finding]:
    """What the config names and needs: data folders, weights, a device."""
    if not config.data:
        fix = '`frisket init FOLDER`, or write [[data]] with clips = "..."'
        yield Finding("missing", "data", "the config names no [[data]]", fix)
    for data in (*config.data, *config.validation.data):
        yield from _named("clips", data.clips, folder=data.clips.suffix.lower() != ".jsonl")
        masks = data.masks
        for path in filter(None, (masks.path, *masks.regions.values())):
            yield from _named("masks", path, folder=True)
        if masks.fallback:
            yield from _named("masks", masks.fallback)
        if data.captions:
            yield from _named("captions", data.captions)
    if config.swap.path:
        yield from _named("swap", config.swap.path, folder=True)
    if config.lora.source:
        yield from _named("lora", config.lora.source)
    yield from _weights(config)
    yield from _device(config.model.device)
    refused = list(_refused(config))
    yield from refused or [Finding("ok", "training", "nothing stands in its way")]
    if not refused:
        yield Finding(*_memory(config))


def _refused(config: Config) -> Iterator[Finding]:
    """What `frisket train` would refuse before it does anything; the device was looked at."""
    from frisket.runs.prepare import check_device  # noqa: PLC0415 - torch
    from frisket.runs.refusals import refusals  # noqa: PLC0415

    for error in refusals(config, but=(check_device,)):
        yield Finding("missing", "training", str(error), "change the configuration as it says")


def _memory(config: Config) -> tuple[Verdict, str, str, str]:
    """What the run will take of its card, from shapes alone."""
    from frisket.runs.memory.report import memory  # noqa: PLC0415 - torch

    verdict, said, fix = memory(config)
    return verdict, "memory", said, fix


def _named(about: str, path: Path, *, folder: bool = False) -> Iterator[Finding]:
    if not path.exists():
        fix = f"make it or correct the path; there is {_nearest_there(path)}"
        yield Finding("missing", about, f"{path} does not exist", fix)
    elif folder and not path.is_dir():
        yield Finding("missing", about, f"{path} is a file", "name the folder it lies in")
    else:
        yield Finding("ok", about, str(path))


def _nearest_there(path: Path) -> Path:
    return next(each for each in path.absolute().parents if each.exists())


def _weights(config: Config) -> Iterator[Finding]:
    """Whether the base model's weights are on this machine."""
    from huggingface_hub import constants, try_to_load_from_cache  # noqa: PLC0415 - slow import

    from frisket.families.base import FAMILIES  # noqa: PLC0415 - torch

    family = FAMILIES.load(config.model.family)
    variant = family.variants[config.model.variant or family.default]
    source = config.model.source or variant.repo
    if config.model.source and source.startswith("/"):
        yield from _named("weights", Path(source))
    elif not config.model.source and "/" not in variant.repo:
        yield Finding("ok", "weights", variant.repo)
    elif isinstance(try_to_load_from_cache(source, "model_index.json"), str):
        yield Finding("ok", "weights", f"{source}, downloaded before")
    elif constants.HF_HUB_OFFLINE:
        fix = "unset HF_HUB_OFFLINE, or set model.source to a local folder"
        yield Finding("missing", "weights", f"{source} is not here, and the hub is off", fix)
    else:
        fix = "none, with a network; or set model.source to a local folder"
        yield Finding("note", "weights", f"{source} will be downloaded at first use", fix)


def _device(name: str) -> Iterator[Finding]:
    import torch  # noqa: PLC0415 - seconds to import

    if name.startswith("cuda") and not torch.cuda.is_available():
        fix = 'set model.device = "auto", or see `gpu` above'
        yield Finding("missing", "device", f"the config asks for {name}, torch sees none", fix)
    elif name == "mps" and not torch.backends.mps.is_available():
        fix = 'set model.device = "auto"'
        yield Finding("missing", "device", "the config asks for mps, torch sees none", fix)
