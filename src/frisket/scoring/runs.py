"""The runs that are evaluated: from a run folder or a config file to its result and its data."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frisket.config.load import ConfigError, check, read
from frisket.config.run_config import TRAINED
from frisket.config.tree import Config
from frisket.disk.untrusted import BadText, parse_json, show
from frisket.families.base import FAMILIES, Family, Source
from frisket.media.files import ClipsNotFound, MasksNotFound
from frisket.runs.prepare import Prepared, prepare, source_of
from frisket.runs.sampling.sampler import check_loras, files_of
from frisket.runs.sampling.whole_models import MODEL, is_model, read_metadata

FOLDERLESS = ("alpha", "sidecar", "listed")  # masks that lie with their clips


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A finished run: its settings, its LoRA (or model) and the data it was trained on."""

    name: str
    config: Config
    lora: Path  # the file, or the name that several experts' have in common; or the model's folder
    prepared: Prepared
    steps: int  # 0 where the LoRA does not say
    changed: bool  # the data, or how they are read, are no longer what it was trained on

    @property
    def masked(self) -> bool:
        """Whether masks weighed its loss; a floor of 1 is as if there were none."""
        return (
            self.config.curve.floor < 1
            and self.prepared.report.masked > 0
            and any(item.coverage is not None and item.weighs for item in self.prepared.items)
        )

    @property
    def taught(self) -> tuple[str, ...]:
        """Regions of weight above 0."""
        table = self.config.region_weights
        return tuple(name for name in self.prepared.regions if table.get(name, 0.0) > 0)

    @property
    def regions(self) -> tuple[str, ...]:
        """All regions, in the order of their planes."""
        return self.prepared.regions


def read_run(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The settings of a run, from its folder or from a config file; checked.

    Raises ConfigError for a folder that is none of a run, and as `load.read` does.
    """
    file, folder = path, path.expanduser()
    if not folder.exists():
        raise ConfigError(f"{path} does not exist; name the folder of a run, or its config file")
    if folder.is_dir():
        file = folder / TRAINED
        if not file.is_file():
            raise ConfigError(_explain_no_run(folder))
    config, origin = read(file, overrides)
    check(config, origin)
    if folder.is_dir():  # it may have been moved since
        run = config.run.model_copy(update={"output": folder.absolute()})
        config = config.model_copy(update={"run": run})
    return config


def _explain_no_run(folder: Path) -> str:
    if any(folder.glob("lora*.safetensors")):
        return (
            f"{folder} holds a LoRA but no {TRAINED} (it was trained before Frisket wrote one);"
            f" name its config file instead: frisket evaluate CONFIG --set run.output={folder}"
        )
    configs = sorted(path.name for path in folder.glob("*.toml"))
    hint = f"; did you mean {folder / configs[0]}?" if configs else ""
    return f"{folder} is no run folder: it has no {TRAINED} and no lora.safetensors{hint}"


def find_result(config: Config) -> Path:
    """Where a run has, or will have, what it trained: its LoRA, or its model.

    ConfigError for an image adapter or a ControlNet, which are measured with pictures to be shown.
    """
    if config.model.train == "controlnet":
        raise ConfigError(
            f"{config.run.output} trains a ControlNet, which this compares with nothing yet: its"
            " validation in metrics.jsonl does, and `frisket generate CONFIG --control PICTURE`"
            " samples with it"
        )
    if config.model.train == "image_adapter":
        raise ConfigError(
            f"{config.run.output} trains an image adapter, which this compares with nothing yet:"
            " its validation in metrics.jsonl does, and `frisket generate CONFIG` says how to"
            " sample with it"
        )
    if config.model.train == "all":
        return config.run.output / MODEL
    return config.run.output / "lora.safetensors"


def open_runs(
    configs: Sequence[Config], progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[ScoredRun]:
    """Find the LoRA (or model) and prepare the data of every run, after all were looked at.

    Raises ConfigError for a run without one or of another base than the first one, and for data
    that were moved; AdapterMismatch, and the errors of `prepare`.
    """
    family = FAMILIES.load(configs[0].model.family)
    source = source_of(configs[0], family)
    names = _name_runs([config.run.output for config in configs])
    for name, config in zip(names, configs, strict=True):
        _check_same_base(name, config, family, source)
        lora = find_result(config)
        if not (is_model(lora) or files_of(lora)[0].is_file()):
            raise ConfigError(
                f"{name}: {lora} is not there yet; train it first (frisket train), or set"
                " run.output to the folder of the run"
            )
        check_loras(family, source.variant, [(lora, 1.0)])
    return [_open_run(name, config, progress) for name, config in zip(names, configs, strict=True)]


def _open_run(name: str, config: Config, progress: Callable[[str, int, int], None]) -> ScoredRun:
    lora = find_result(config)
    metadata = read_metadata(files_of(lora)[0])
    _check_family(name, lora, config, metadata)
    try:
        prepared = prepare(config, progress=progress)
    except (ClipsNotFound, MasksNotFound) as error:
        raise ConfigError(
            f"{name}: {error}. If the folder was moved since training, say where it is now:"
            " --set data.0.clips=FOLDER (and data.0.masks.path=FOLDER)"
        ) from error
    digest = metadata.get("frisket.data", prepared.digest)
    count = metadata.get("frisket.steps", "0")
    steps = int(count) if re.fullmatch(r"[0-9]{1,12}", count) else 0
    return ScoredRun(name, config, lora, prepared, steps, digest != prepared.digest)


def _name_runs(outputs: Sequence[Path]) -> list[str]:
    """The shortest endings of the folders that tell all of them apart."""
    for parts in range(1, max(len(path.parts) for path in outputs) + 1):
        names = ["/".join(path.parts[-parts:]) for path in outputs]
        if len(set(names)) == len(names):
            return names
    twice = next(path for path in outputs if list(outputs).count(path) > 1)
    raise ConfigError(f"{twice} is named twice; name each run once")


def _check_same_base(name: str, config: Config, family: Family, source: Source) -> None:
    other = source_of(config, FAMILIES.load(config.model.family))
    first_base = (family.name, source.variant, source.path, source.revision)
    base = (config.model.family, other.variant, other.path, other.revision)
    if base != first_base:
        words = (" ".join(filter(None, value)) for value in (base, first_base))
        raise ConfigError(
            f"{name} was trained on another base ({' and the first run on '.join(words)}): their"
            " errors cannot stand side by side; evaluate them apart"
        )
    if source.reading != other.reading:
        raise ConfigError(
            f"{name} reads its prompts with {_describe_reading(other)} and the first run with"
            f" {_describe_reading(source)}: their errors cannot stand side by side; evaluate them"
            " apart"
        )


def _describe_reading(source: Source) -> str:
    return f"model.clip_skip = {max(1, source.clip_skip)}, model.max_tokens = {source.max_tokens}"


def _check_family(name: str, lora: Path, config: Config, metadata: Any) -> None:
    try:
        base = parse_json(metadata.get("frisket.base", "{}"))
    except BadText as error:
        raise ConfigError(f"{name}: {lora}: its metadata `frisket.base` {error}") from error
    family = base.get("family", "") if isinstance(base, dict) else ""
    if family and family != config.model.family:
        raise ConfigError(
            f"{name}: {lora} was trained for {show(family)}, but its config says model.family ="
            f" {config.model.family!r}; name the config it was trained with"
        )


def with_other_clips(config: Config, clips: Path, masks: str) -> Config:
    """The same run on other clips, for measuring alone: nothing held out, swapped or mixed.

    `masks` is a folder or one of FOLDERLESS; "" takes the way of the run's own masks, which must
    need no folder then (ConfigError).
    """
    run_masks = config.data[0].masks
    if masks in FOLDERLESS:
        data_masks: Any = run_masks.model_copy(
            update={"source": masks, "path": None, "regions": {}}
        )
    elif not masks:
        if run_masks.source not in FOLDERLESS:
            raise ConfigError(
                f"--clips {clips} needs its masks: --masks FOLDER, or {', '.join(FOLDERLESS)}"
            )
        data_masks = run_masks
    elif run_masks.source == "regions":
        regions = {name: Path(masks) / name for name in run_masks.regions}
        data_masks = run_masks.model_copy(update={"regions": regions})
    else:
        data_masks = run_masks.model_copy(
            update={"source": "folder", "path": Path(masks), "regions": {}}
        )
    first = config.data[0]
    caption = first.caption or first.trigger or None
    data = first.model_copy(
        update={
            **{"clips": clips, "masks": data_masks, "captions": None, "caption": caption},
            **{"flip": False, "repeats": 1, "caption_dropout": 0.0},
        }
    )
    return config.model_copy(
        update={
            "data": (data,),
            "validation": config.validation.model_copy(update={"holdout": 0, "data": ()}),
            "swap": config.swap.model_copy(update={"rate": 0.0}),
            "mix": config.mix.model_copy(update={"rate": 0.0}),
        }
    )
