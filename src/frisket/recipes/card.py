"""What a LoRA says of its own making: the file's metadata and the card beside it."""

import json
from pathlib import Path

from frisket import __version__
from frisket.data.items import Prepared
from frisket.families.base import FAMILIES
from frisket.recipes.config import Config


def variant_of(config: Config) -> str:
    """The variant a configuration trains, named or the family's first."""
    return config.model.variant or next(iter(FAMILIES.load(config.model.family).variants))


def metadata_of(config: Config, prepared: Prepared, steps: int) -> dict[str, str]:
    """What the LoRA file says of its making; every value a string, as safetensors wants it."""
    started = config.model_dump(mode="json", include={"regions", "curve", "swap", "losses"})
    return {
        "frisket.version": __version__,
        "frisket.base": json.dumps(
            {
                "family": config.model.family,
                "variant": variant_of(config),
                "source": config.model.source,
            }
        ),
        "frisket.masks": json.dumps(started, sort_keys=True),
        "frisket.steps": str(steps),
        "frisket.data": prepared.digest,
        "ss_base_model_version": f"{config.model.family}-{variant_of(config)}",
        "ss_network_module": "frisket",
        "ss_network_dim": str(config.lora.rank),
        "ss_network_alpha": str(config.lora.alpha or config.lora.rank),
        "ss_steps": str(steps),
        "ss_learning_rate": str(config.optimizer.lr),
        "ss_optimizer": config.optimizer.name,
        "ss_seed": str(config.run.seed),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{config.model.family}/lora",
        "modelspec.implementation": "frisket",
        "modelspec.title": config.run.output.name,
    }


def write_card(config: Config, prepared: Prepared, path: Path) -> None:
    """A short model card beside the LoRA."""
    report = prepared.report
    weights = ", ".join(f"{name} {weight:g}" for name, weight in config.regions.items())
    terms = ", ".join(
        f"{name} {table['strength']:g}" for name, table in config.losses.terms.items()
    )
    lines = [
        f"# {config.run.output.name}",
        "",
        f"A {config.lora.kind} of rank {config.lora.rank} for {config.model.family}"
        f" {variant_of(config)}, trained with Frisket {__version__}.",
        "",
        f"- steps {config.run.steps}, batch {config.run.batch} x {config.optimizer.accumulate},"
        f" {config.optimizer.name} at {config.optimizer.lr:g}, seed {config.run.seed}",
        f"- clips {report.clips}, with masks {report.masked}, held out {len(prepared.held)}",
        f"- region weights: {weights}; background {config.regions.get('background', 0.0):g}",
        f"- losses: {terms}; normalise = {config.losses.normalise}",
        f"- background swap: rate {config.swap.rate:g}"
        + (f", source {config.swap.source}" if config.swap.rate else ""),
        f"- data: {prepared.digest}",
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
