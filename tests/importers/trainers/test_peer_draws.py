"""An imported job trains the noise levels it trained: draws of both, for every density and family.

The quantiles of theirs were recorded from the trainers' own functions by
scripts/record_peer_draws.py, at the commit that each file names.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.importers.trainers.noise_jobs import write_job
from torch import Generator

from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.importers.base import IMPORT_FORMATS, Imported
from frisket.runs.card import variant_of
from frisket.runs.training_parts import timesteps_of

COUNT, OFF = 60_000, 0.01
LEVELS = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]
COMPARED = (0.1, 0.5, 0.9)
STAGES = ({"train_low_noise": False}, {"train_high_noise": False})
GROUPS: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
for file in sorted((Path(__file__).parent / "peer_draws").glob("*.json")):
    for row in json.loads(file.read_text("utf-8"))["rows"]:
        GROUPS[file.stem, row["family"]].append(row)


def told_to_differ(trainer: str, options: dict[str, Any]) -> bool:
    """What has no equal here."""
    if options.get("timestep_type") == "lognorm_blend":
        return True
    sigmoid = options.get("timestep_distribution") == "SIGMOID" and options.get("noising_weight")
    return bool(sigmoid and options.get("dynamic_timestep_shifting"))


def read(trainer: str, row: dict[str, Any], folder: Path) -> Imported:
    """The job of a row, imported."""
    model = dict(row["model"])
    if (stage := model.pop("stage", None)) is not None:
        model["model_kwargs"] = STAGES[stage]
    if row["family"] == "stable_diffusion" and trainer == "ai_toolkit":
        row["options"]["noise_scheduler"] = "ddpm"
    file = write_job(trainer, folder, model, row["options"])
    return IMPORT_FORMATS.load("musubi" if trainer == "blissful" else trainer).read(file)


def draw(imported: Imported, size: list[int]) -> torch.Tensor:
    """Noise levels of the training that an imported configuration asks for."""
    sections = {
        name: imported.sections[name]
        for name in ("model", "timesteps")
        if name in imported.sections
    }
    config = Config.model_validate(sections)
    family = FAMILIES.load(config.model.family)
    card = family.variants[variant_of(config)]
    chosen = config.timesteps
    objective = family.objective(
        variant_of(config),
        timesteps_of(config, card),
        weighting=chosen.weighting,
        min_snr=chosen.min_snr,
    )
    return objective.sample_t(COUNT, Generator().manual_seed(1), cells=card.grid.cells(*size))


@pytest.mark.parametrize(
    ("trainer", "family", "step"),
    [(*group, 5) for group in GROUPS]
    + [pytest.param(*group, 1, marks=pytest.mark.slow) for group in GROUPS],
)
def test_an_imported_job_draws_the_noise_levels_of_the_trainer_it_comes_from(
    trainer: str, family: str, step: int, drawn: Any, tmp_path: Path
) -> None:
    """Every fifth row, and all of them among the slow tests."""
    drawn("pictures", "a.png", caption="a cat")
    drawn("train/1_cat", "a.png", caption="a cat")
    wrong = []
    for row in GROUPS[trainer, family][::step]:
        imported = read(trainer, row, tmp_path)
        assert imported.sections["model"]["family"] == family
        if told_to_differ(trainer, row["options"]):
            said = [note.message for note in imported.notes if note.kind == "no equivalent"]
            assert any("densit" in each for each in said), row["options"]
            continue
        t = draw(imported, row["size"]).double()
        levels = torch.tensor(COMPARED, dtype=torch.float64)
        ours = torch.quantile(t, levels).tolist()
        theirs = [row["quantiles"][LEVELS.index(level)] for level in COMPARED]
        off = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
        few = len(t.unique()) < 30  # steps: a quantile may fall to either side of one
        apart = abs(t.mean().item() - row["mean"]) if few else max(off)
        if apart > OFF:
            wrong.append(
                (row["model"], row["options"], theirs, ours, imported.sections["timesteps"])
            )
    assert not wrong, "\n".join(map(str, [len(wrong), *wrong[:12]]))
