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
from frisket.config.presets.lay import plan_for
from frisket.config.presets.plan import describe_preset
from frisket.config.tree import FAMILY, Config, Run

_Verdict = Literal["ok", "note", "missing"]
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
class Diagnosis:
    """One thing looked at: `missing` stops a run, a `note` may."""

    verdict: _Verdict
    about: str
    message: str
    fix: str = ""


def doctor(path: Path | None = None, overrides: Sequence[str] = ()) -> list[Diagnosis]:
    """Look at versions, devices, codecs, disk and, if a config file is given, at what it asks for.

    Changes nothing but a probe file in the output and cache folders, removed at once.
    """
    findings = [*_check_versions(), *_check_extras(), *_check_devices(), *_check_codecs()]
    config: Config | None = None
    if path is not None:
        try:
            config, origin = read(path, overrides)
            check(config, origin)
            findings.append(Diagnosis("ok", "config", f"{path} is understood"))
            findings += _check_preset(config)
            findings += _check_config(config)
        except ConfigError as error:
            fix = f"mend it, then `frisket doctor {path}`"
            findings.append(Diagnosis("missing", "config", str(error), fix))
    run = config.run if config else Run()
    findings += _check_folder("output", run.output)
    findings += _check_folder("cache", run.cache)
    return findings


def _check_preset(config: Config) -> Iterator[Diagnosis]:
    """The preset a config names, and what of it the model or the data set cannot do."""
    plan = plan_for(config.model_dump(mode="json"), FAMILY)
    if plan is None:
        return
    message = f"{plan.name}: {describe_preset(plan.name)} (`frisket explain` shows its values)"
    yield Diagnosis("ok", "preset", message)
    for line in plan.tell_left_out():
        yield Diagnosis("note", "preset", line)


def _list_requirements(extra: str = "") -> list[Requirement]:
    """What the package says it needs; with `extra`, what that extra adds."""
    requirements = [Requirement(line) for line in metadata.requires("frisket") or []]
    plain_findings = [
        requirement
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]
    if not extra:
        return plain_findings
    return [
        requirement
        for requirement in requirements
        if requirement.marker and requirement.marker.evaluate({"extra": extra})
    ]


def _find_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _check_versions() -> Iterator[Diagnosis]:
    python = f"Python {platform.python_version()} on {platform.platform()}"
    yield Diagnosis("ok", "frisket", f"{__version__}, {python}, {sys.prefix}")
    for requirement in _list_requirements():
        version = _find_version(requirement.name)
        if version is None:
            yield Diagnosis(
                "missing", requirement.name, "not installed", f"pip install '{requirement}'"
            )
        elif not requirement.specifier.contains(version, prereleases=True):
            message = f"{version} is outside {requirement.specifier}"
            yield Diagnosis("missing", requirement.name, message, f"pip install '{requirement}'")
        else:
            yield Diagnosis("ok", requirement.name, version)


def _check_extras() -> Iterator[Diagnosis]:
    for extra in metadata.metadata("frisket").get_all("Provides-Extra") or []:
        for requirement in _list_requirements(extra):
            version = _find_version(requirement.name)
            if version:
                yield Diagnosis("ok", requirement.name, f"{version} (optional)")
            else:
                fix = f"pip install 'frisket[{extra}]', if you want it"
                yield Diagnosis("note", requirement.name, f"not installed (optional, {extra})", fix)


def _check_devices() -> Iterator[Diagnosis]:
    import psutil  # noqa: PLC0415 - with torch, only when looked at
    import torch  # noqa: PLC0415 - seconds to import

    memory = psutil.virtual_memory()
    yield Diagnosis(
        "ok",
        "cpu",
        f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads,"
        f" {memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB memory free",
    )
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        half = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        message = f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free, trains in {half}"
        yield Diagnosis("ok", f"cuda:{index}", message)
    if torch.backends.mps.is_available():
        yield Diagnosis("ok", "mps", "Apple GPU")
    elif not torch.cuda.is_available():
        yield _explain_no_gpu(torch.version.cuda)


def _explain_no_gpu(built_for: str | None) -> Diagnosis:
    """Why torch sees no accelerator: a build without CUDA, or no usable driver."""
    message = "torch sees none; the pocket model trains on a CPU, larger ones take very long"
    if shutil.which("nvidia-smi") is None:
        return Diagnosis("note", "gpu", message, "none, if this machine has no GPU")
    if built_for is None:
        fix = "install torch built for CUDA: https://pytorch.org/get-started/locally"
        return Diagnosis(
            "missing", "gpu", "there is an NVIDIA driver but torch is a CPU build", fix
        )
    fix = f"update the NVIDIA driver to one for CUDA {built_for}; `nvidia-smi` shows yours"
    return Diagnosis("missing", "gpu", f"torch for CUDA {built_for} cannot use the driver", fix)


def _check_codecs() -> Iterator[Diagnosis]:
    try:
        import av  # noqa: PLC0415 - a broken install is one of the findings
        from av.codec.codec import UnknownCodecError  # noqa: PLC0415
    except ImportError as error:
        yield Diagnosis("missing", "video", f"PyAV does not load: {error}", "pip install av")
        return
    for name, mode, use in CODECS:
        about = f"codec {name}"
        try:
            av.Codec(name, mode)
        except UnknownCodecError:
            fix = "pip install --force-reinstall av (its wheels bring FFmpeg with them)"
            yield Diagnosis("missing", about, f"this FFmpeg has none ({use})", fix)
        else:
            yield Diagnosis("ok", about, use)


def _check_folder(about: str, folder: Path) -> Iterator[Diagnosis]:
    """Whether a folder (or the nearest one above it that exists) can be written, and has room."""
    parent = folder.absolute()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        fix = f"set run.{about} to a folder"
        yield Diagnosis("missing", about, f"{parent} is a file, so {folder} cannot be made", fix)
        return
    try:
        with tempfile.NamedTemporaryFile(dir=parent, prefix=".frisket-doctor-"):
            pass
    except OSError as error:
        fix = f"give yourself write access, or set run.{about} to another folder"
        yield Diagnosis("missing", about, f"{parent} cannot be written: {error.strerror}", fix)
        return
    free = shutil.disk_usage(parent).free
    message = f"{folder} can be written, {free / GIB:.1f} GiB free"
    if free < ROOMY:
        yield Diagnosis(
            "note", about, message, f"free some space, or set run.{about} to another disk"
        )
    else:
        yield Diagnosis("ok", about, message)


def _check_config(config: Config) -> Iterator[Diagnosis]:
    """What the config names and needs: data folders, weights, a device."""
    if not config.data:
        fix = '`frisket init FOLDER`, or write [[data]] with clips = "..."'
        yield Diagnosis("missing", "data", "the config names no [[data]]", fix)
    yield from _check_files(config)
    yield from _check_weights(config)
    yield from _check_model_device(config.model.device)
    refused = list(_list_refusals(config))
    yield from refused or [Diagnosis("ok", "training", "nothing stands in its way")]
    if not refused:
        yield Diagnosis(*_predict_memory(config))
        if config.routing.background < 1:
            yield Diagnosis(*_predict_routing(config))


def _check_files(config: Config) -> Iterator[Diagnosis]:
    """The files and folders that it names."""
    for data in (*config.data, *config.validation.data):
        yield from _check_path("clips", data.clips, folder=data.clips.suffix.lower() != ".jsonl")
        masks = data.masks
        for path in filter(None, (masks.path, *masks.regions.values())):
            yield from _check_path("masks", path, folder=True)
        if masks.fallback:
            yield from _check_path("masks", masks.fallback)
        if data.captions:
            yield from _check_path("captions", data.captions)
        if data.control and data.control.path:
            yield from _check_path("control", data.control.path, folder=True)
    if config.swap.path:
        yield from _check_path("swap", config.swap.path, folder=True)
    if config.lora.source:
        yield from _check_path("lora", config.lora.source)
    if config.control.source:
        yield from _check_path("control net", config.control.source, folder=True)


def _list_refusals(config: Config) -> Iterator[Diagnosis]:
    """What `frisket train` would refuse before it does anything; the device was looked at."""
    from frisket.runs.prepare import check_device  # noqa: PLC0415 - torch
    from frisket.runs.refusals import refusals  # noqa: PLC0415

    for error in refusals(config, but=(check_device,)):
        yield Diagnosis("missing", "training", str(error), "change the configuration as it says")


def _predict_memory(config: Config) -> tuple[_Verdict, str, str, str]:
    """What the run will take of its card, from shapes alone."""
    from frisket.runs.memory.report import memory  # noqa: PLC0415 - torch

    verdict, message, fix = memory(config)
    return verdict, "memory", message, fix


def _predict_routing(config: Config) -> tuple[_Verdict, str, str, str]:
    """What routing will carry and save, from shapes and masks."""
    from frisket.runs.memory.routing_report import report_routing  # noqa: PLC0415 - torch

    verdict, message, fix = report_routing(config)
    return verdict, "routing", message, fix


def _check_path(about: str, path: Path, *, folder: bool = False) -> Iterator[Diagnosis]:
    if not path.exists():
        fix = f"make it or correct the path; there is {_find_nearest_parent(path)}"
        yield Diagnosis("missing", about, f"{path} does not exist", fix)
    elif folder and not path.is_dir():
        yield Diagnosis("missing", about, f"{path} is a file", "name the folder it lies in")
    else:
        yield Diagnosis("ok", about, str(path))


def _find_nearest_parent(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


def _check_weights(config: Config) -> Iterator[Diagnosis]:
    """Whether the base model's weights are on this machine."""
    from huggingface_hub import constants, try_to_load_from_cache  # noqa: PLC0415 - slow import

    from frisket.families.base import FAMILIES  # noqa: PLC0415 - torch

    family = FAMILIES.load(config.model.family)
    variant = family.variants[config.model.variant or family.default]
    source = config.model.source or variant.repo
    if config.model.source and source.startswith("/"):
        yield from _check_path("weights", Path(source))
    elif not config.model.source and "/" not in variant.repo:
        yield Diagnosis("ok", "weights", variant.repo)
    elif isinstance(try_to_load_from_cache(source, "model_index.json"), str):
        yield Diagnosis("ok", "weights", f"{source}, downloaded before")
    elif constants.HF_HUB_OFFLINE:
        fix = "unset HF_HUB_OFFLINE, or set model.source to a local folder"
        yield Diagnosis("missing", "weights", f"{source} is not here, and the hub is off", fix)
    else:
        fix = "none, with a network; or set model.source to a local folder"
        yield Diagnosis("note", "weights", f"{source} will be downloaded at first use", fix)


def _check_model_device(name: str) -> Iterator[Diagnosis]:
    import torch  # noqa: PLC0415 - seconds to import

    if name.startswith("cuda") and not torch.cuda.is_available():
        fix = 'set model.device = "auto", or see `gpu` above'
        yield Diagnosis("missing", "device", f"the config asks for {name}, torch sees none", fix)
    elif name == "mps" and not torch.backends.mps.is_available():
        fix = 'set model.device = "auto"'
        yield Diagnosis("missing", "device", "the config asks for mps, torch sees none", fix)
