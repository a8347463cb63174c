"""Which frames of a clip the trainer takes: apart, for it brings the whole configuration."""

from pathlib import Path
from typing import Any

from frisket.config.load import load
from frisket.data.windows import cut_windows
from frisket.families.base import FAMILIES
from frisket.recipes.serve.ops.frames import describe_clip
from frisket.recipes.serve.session import Answer, Operation, Session
from frisket.runs.prepare import clipset_of, source_of


def list_picks(session: Session, args: dict[str, Any]) -> Answer:
    """{config, number, clip}: the frames of each window that the trainer takes from a clip."""
    path = Path(args["config"])
    stamp = path.stat().st_mtime_ns

    def read() -> tuple[Any, int]:
        config = load(path)
        family = FAMILIES.load(config.model.family)
        source = source_of(config, family)
        if source.variant not in family.variants:
            variants = ", ".join(family.variants)
            raise ValueError(
                f"{path}: {config.model.family} has no variant {source.variant!r}; there are:"
                f" {variants}"
            )
        clipset = clipset_of(config, config.data[int(args["number"])], family, source)
        return (clipset, family.variants[source.variant].grid), 1 << 16

    clipset, grid = session.cache.get(("picks", str(path), stamp, args["number"]), read)
    windows = cut_windows(clipset, describe_clip(session, Path(args["clip"])), grid)
    return Answer(
        {
            "windows": [list(picks) for picks, _ in windows],
            "latent": grid.temporal,
            "mode": clipset.windows.mode,
        }
    )


OPS: dict[str, Operation] = {"picks.list": list_picks}
