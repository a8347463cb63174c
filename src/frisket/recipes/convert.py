"""`frisket convert`: adapter files from one format to another, and sums with them."""

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch

from frisket import __version__
from frisket.adapters import arithmetic, formats, merge, writing
from frisket.adapters.files import PEFT_FILE
from frisket.adapters.formats import AdapterContents
from frisket.adapters.key_map import Lexicon
from frisket.adapters.layers import Layers, commonest
from frisket.adapters.routed.exporting import check_fixed, drop_schedule
from frisket.adapters.spec import (
    DIFFUSERS_RECORD,
    EXPERT,
    EXPERT_RANGE,
    RECORD,
    AdapterForm,
    AdapterMismatch,
    LoraSpec,
)
from frisket.config.provenance import ConfigError
from frisket.disk import atomic
from frisket.progress import Progress
from frisket.recipes.describe import describe, list_notes, name_files, read_contents
from frisket.runs.adapter_base import AdapterBase, base_in, names_base, need_base

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LOST_SHARE = 0.9  # a share of a merged change below which it is said that much is lost
COMPONENTS = {"low": "transformer_2"}  # where a pipeline's folder has an expert; else by the family


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """What is asked of a conversion besides the files."""

    family: str = ""
    variant: str = ""
    form: AdapterForm = "comfyui"
    rank: int | None = None
    scale: float | None = None
    dtype: str = ""
    drop_text: bool = False
    drop_schedule: bool = False
    expert: str = ""
    leave_out: tuple[str, ...] = ()


def run(
    files: Sequence[Path],
    output: Path | None,
    *,
    to: str = "comfyui",
    average: str = "",
    exact: bool = False,
    merge_into: Path | None = None,
    extract: tuple[Path, Path] | None = None,
    progress: Progress = lambda *_: None,
    **options: Any,
) -> list[str]:
    """Do the one thing that is asked; returns what was read and written, in lines.

    `options` are those of `ConvertOptions`. Without an output the files are described. ConfigError
    for wishes that exclude one another, and for words that are none.
    """
    settings = _read_options(to, options)
    sums = {"--average": average, "--merge-into": merge_into, "--extract": extract}
    operations = [name for name, value in sums.items() if value]
    if len(operations) > 1:
        raise ConfigError(f"{' and '.join(operations)} are two things; do one after the other")
    if not files and extract is None:
        raise ConfigError("convert which file? frisket convert FILE describes it")
    if output is None:
        return _describe_all(files, settings, refuse=bool(operations))
    if extract is not None:
        return write_extracted(*extract, output, settings, progress=progress)
    if merge_into is not None:
        return write_merged(files, merge_into, output, settings, progress=progress)
    if average:
        return write_average(files, _read_weights(average), output, settings, exact=exact)
    return convert(files, output, settings, progress=progress)


def _read_options(to: str, options: Mapping[str, Any]) -> ConvertOptions:
    """The options of a conversion; ConfigError for a format or dtype that is none."""
    if to not in (forms := get_args(AdapterForm)):
        raise ConfigError(f"--to {to} is no format; there are: {', '.join(forms)}")
    settings = ConvertOptions(form=cast(AdapterForm, to), **options)
    if settings.dtype and settings.dtype not in DTYPES:
        raise ConfigError(f"--dtype {settings.dtype} is none of {', '.join(DTYPES)}")
    return settings


def _describe_all(files: Sequence[Path], settings: ConvertOptions, *, refuse: bool) -> list[str]:
    """Describe files; ConfigError where a wish (or `refuse`) needs a file to write."""
    names: dict[str, Any] = {
        "family": settings.family,
        "variant": settings.variant,
        "leave_out": settings.leave_out,
    }
    if refuse or settings != replace(ConvertOptions(), **names):
        raise ConfigError("where to? Give the file (or folder) to write: -o OUT")
    return [line for path in files for line in describe(path, **names)]


def _read_weights(text: str) -> list[float]:
    try:
        weights = [float(word) for word in text.split(",")]
    except ValueError:
        weights = [math.nan]
    if not all(map(math.isfinite, weights)):
        raise ConfigError(f"--average {text}: write numbers and commas, as in 0.7,0.3")
    return weights


def convert(
    inputs: Sequence[Path],
    output: Path,
    settings: ConvertOptions,
    *,
    progress: Progress = lambda *_: None,
) -> list[str]:
    """Rewrite adapter files in another format; of several, `output` is a folder. Returns lines.

    With `rank` they are resized, with `scale` weakened or strengthened. ConfigError for what the
    files leave open, AdapterMismatch for what a form or a format cannot hold.
    """
    many = len(inputs) > 1
    if many and output.suffix == ".safetensors":
        raise ConfigError(
            f"{len(inputs)} files become as many: -o {output} must be a folder (or average them"
            " with --average)"
        )
    inside = many or output.is_dir()
    targets = [output / f"{_name_of(path)}.safetensors" if inside else output for path in inputs]
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice is not None:
        raise ConfigError(f"several files would be written as {twice}; convert them one by one")
    lines: list[str] = []
    for count, (path, target) in enumerate(zip(inputs, targets, strict=True)):
        contents, base = _open_file(path, settings)
        with name_files(path):
            layers, changes = _change_layers(contents.layers, settings, contents.metadata)
            lines += [f"read {path}: {contents}; base {base}", *list_notes(contents), *changes]
            lines += _write(target, layers, contents, settings, base, [path])
        progress("converting", count + 1, len(inputs))
    return lines


def write_average(
    inputs: Sequence[Path],
    weights: Sequence[float],
    output: Path,
    settings: ConvertOptions,
    *,
    exact: bool,
) -> list[str]:
    """Write the weighted sum of several adapters' effects as one adapter. Returns lines.

    `exact` keeps all (the rank is the sum of theirs), else it is cut to `wish.rank`, or the
    highest of theirs.
    """
    if len(weights) != len(inputs):
        raise ConfigError(f"--average has {len(weights)} weights for {len(inputs)} files")
    opened_files = [_open_file(path, settings) for path in inputs]
    families = {base.family for _, base in opened_files}
    if len(families) > 1:
        raise ConfigError(f"adapters of different models: {', '.join(sorted(families))}")
    with name_files(*inputs):
        check_fixed([contents.metadata for contents, _ in opened_files], "averaging")
        layers, kept_energy = arithmetic.average(
            [contents.layers for contents, _ in opened_files],
            weights,
            rank=settings.rank or 0,
            exact=exact,
        )
    lines = [
        f"read {path}: {contents}; weight {weight:g}"
        for path, (contents, _), weight in zip(inputs, opened_files, weights, strict=True)
    ]
    lines += [line for contents, _ in opened_files for line in list_notes(contents)]
    layers, changes = _change_layers(layers, replace(settings, rank=None))
    lines += [f"averaged: {commonest(layers)}; {kept_energy}", *changes]
    contents, base = opened_files[0]
    return lines + _write(output, layers, contents, settings, base, inputs)


def write_merged(
    inputs: Sequence[Path],
    folder: Path,
    output: Path,
    settings: ConvertOptions,
    *,
    progress: Progress = lambda *_: None,
) -> list[str]:
    """Write `output`, a diffusers folder like `folder` with the adapters in its weights.

    `folder` is a whole pipeline's or the denoiser's alone; each expert's adapter goes into its own.
    """
    if output.exists():
        raise ConfigError(f"{output} is there already; merge into another folder")
    lines, planned = [], []
    for path in inputs:
        contents, base = _open_file(path, settings)
        with name_files(path):
            check_fixed([contents.metadata], "merging")
            layers, changes = _change_layers(contents.layers, settings)
            part = find_component(
                folder, base, settings.expert or contents.metadata.get(EXPERT, "")
            )
            merge.check(layers, part)  # before anything is copied
        planned.append((layers, part.relative_to(folder)))
        lines += [f"read {path}: {contents}; base {base}", *list_notes(contents), *changes]
    atomic.sweep(output.absolute().parent)
    draft = output.with_name(atomic.draft_name())
    try:
        with atomic.writing(output, draft=draft):
            shutil.copytree(folder, draft)
            for layers, inside in planned:
                survived = merge.merge(
                    layers,
                    draft / inside,
                    progress=lambda count, of: progress("merging", count, of),
                )
                lines += [f"merged into {folder / inside}: {survived}", *_report_loss(survived)]
            draft.replace(output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return [*lines, f"wrote {output}"]


def _report_loss(survived: merge.Survived) -> Iterator[str]:
    """A line where the target's precision drops much of the change."""
    if survived.share < LOST_SHARE:
        yield (
            f"  much of the change is finer than {' and '.join(survived.dtypes)} can hold: merge"
            " into the model in float32, or load the LoRA beside the model"
        )


def write_extracted(
    base_folder: Path,
    tuned: Path,
    output: Path,
    settings: ConvertOptions,
    *,
    progress: Progress = lambda *_: None,
) -> list[str]:
    """Write the adapter that makes a tuned model of its base, two folders. Returns lines."""
    if not settings.family:
        raise ConfigError("--extract needs --family, for the folders do not say it")
    base = AdapterBase(settings.family, settings.variant, "--family")
    lexicon = Lexicon(base.names(), base.layers())
    layers, kept_energy = merge.extract_adapter(
        find_component(base_folder, base, settings.expert),
        find_component(tuned, base, settings.expert),
        settings.rank or 16,
        lambda name: lexicon.find("diffusers", name, flat=False) is not None,
        progress=lambda count, of: progress("extracting", count, of),
    )
    layers, changes = _change_layers(layers, replace(settings, rank=None))
    contents = AdapterContents(layers, "extracted")
    lines = [f"extracted: {commonest(layers)}, {len(layers)} layers; {kept_energy}", *changes]
    return lines + _write(output, layers, contents, settings, base, [base_folder, tuned])


def find_component(folder: Path, base: AdapterBase, expert: str) -> Path:
    """The denoiser's folder in a pipeline's, or the folder itself."""
    family = base.load_family()
    if expert and expert not in family.variants[base.choose_variant()].experts:
        raise ConfigError(f"{base.family} {base.choose_variant()} has no expert {expert!r}")
    inside = folder / COMPONENTS.get(expert, family.lora_prefix)
    return inside if inside.is_dir() else folder


def _name_of(path: Path) -> str:
    """Of a file of peft's, which are all called alike, its folder's."""
    path = path.absolute()
    return path.parent.name if path.name == PEFT_FILE else path.name.removesuffix(".safetensors")


def _open_file(path: Path, settings: ConvertOptions) -> tuple[AdapterContents, AdapterBase]:
    glance = formats.glance(path, without=settings.leave_out)
    base = need_base(path, base_in(path, glance.metadata, settings.family, settings.variant))
    if glance.text and not settings.drop_text:
        counts = ", ".join(f"{count} of {name}" for name, count in sorted(glance.text.items()))
        raise AdapterMismatch(
            f"{path} also holds tensors of text encoders ({counts}), which Frisket does not"
            " convert: leave them out with --drop-text"
        )
    contents = read_contents(path, base, settings.leave_out)
    if settings.drop_schedule:
        metadata, notes = drop_schedule(contents.metadata)
        contents = replace(contents, metadata=metadata, left=[*contents.left, *notes])
    return contents, base


def _change_layers(
    layers: Layers, settings: ConvertOptions, metadata: Mapping[str, str] | None = None
) -> tuple[Layers, list[str]]:
    lines = []
    if settings.rank is not None or settings.scale is not None:
        check_fixed([metadata or {}], "--rank and --scale")
    if settings.rank is not None:
        layers, kept_energy = arithmetic.resize(layers, settings.rank)
        lines.append(f"resized to rank {settings.rank}: {kept_energy}")
    if settings.scale is not None:
        layers = arithmetic.scale(layers, settings.scale)
        lines.append(f"scaled by {settings.scale:g}")
    return layers, lines


def _write(
    path: Path,
    layers: Layers,
    contents: AdapterContents,
    settings: ConvertOptions,
    base: AdapterBase,
    inputs: Sequence[Path],
) -> list[str]:
    if layers is not contents.layers:  # its own record is of what it was
        metadata = {key: value for key, value in contents.metadata.items() if key != RECORD}
        contents = replace(contents, metadata=metadata)
    if settings.dtype:
        kind = DTYPES[settings.dtype]
        layers = {
            name: replace(layer, tensors={key: v.to(kind) for key, v in layer.tensors.items()})
            for name, layer in layers.items()
        }
    family = base.load_family()
    is_uniform = len({(layer.rank, layer.alpha) for layer in layers.values()}) == 1
    spec: LoraSpec | None = None
    if is_uniform or contents.of_two_ranks or settings.form == "diffusers":
        layers, spec = replace(contents, layers=layers).alike()
    writing.write(
        path,
        layers,
        _build_metadata(contents, settings, base, spec, inputs),
        form=settings.form,
        names=base.names(),
        prefix=family.lora_prefix,
        spec=spec,
    )
    return [f"wrote {path}: {AdapterContents(layers, settings.form)}"]


def _build_metadata(
    contents: AdapterContents,
    settings: ConvertOptions,
    base: AdapterBase,
    spec: LoraSpec | None,
    inputs: Sequence[Path],
) -> dict[str, str]:
    """What the file said before, what is known of its base, and where it comes from."""
    stale = {RECORD, DIFFUSERS_RECORD, "format"}
    metadata = {key: value for key, value in contents.metadata.items() if key not in stale}
    if base.named_by == "--family" and not names_base(metadata):
        metadata.pop("frisket.base", None)
    card = base.load_family().variants[base.choose_variant()]
    if settings.variant and "frisket.base" not in metadata:
        about = {"family": base.family, "variant": base.variant, "source": ""}
        metadata["frisket.base"] = json.dumps(about)
    if base.variant and card.architecture:
        metadata.setdefault("modelspec.architecture", f"{card.architecture}/lora")
    if spec is not None:
        metadata |= {"ss_network_dim": str(spec.rank), "ss_network_alpha": f"{spec.scale:g}"}
    if settings.expert:
        if settings.expert not in card.experts:
            raise ConfigError(
                f"{base.family} {base.choose_variant()} has no expert {settings.expert!r}"
            )
        metadata |= {
            EXPERT: settings.expert,
            EXPERT_RANGE: json.dumps(list(card.experts[settings.expert])),
        }
    metadata["frisket.version"] = __version__
    metadata["frisket.made_from"] = json.dumps([path.name for path in inputs])
    return metadata
