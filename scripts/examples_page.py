"""Writes the table of examples/README.md from the recipes themselves, and the one `init` reads.

    python scripts/examples_page.py            # between its two marks

The peak is the one that each recipe's head says; `make test-slow` holds it to the prediction.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from frisket.config.load import read
from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.families.listing import Size, size_of

EXAMPLES = Path(__file__).parents[1] / "examples"
PAGE = EXAMPLES / "README.md"
TABLE = Path(__file__).parents[1] / "src" / "frisket" / "recipes" / "init" / "recipe_table.json"
START, END = "<!-- written by scripts/examples_page.py -->", "<!-- end -->"
NAME = re.compile(r"([a-z0-9_]+)-(.+)-(\d+)gb")
PEAK = re.compile(r"Predicted peak of training \(not run on a GPU\): ([\d.]+) GiB")
HEAD = ["| model | card | size | weights | peak, GiB |", "|---|---|---|---|---|"]


def parts(path: Path) -> tuple[str, str, int]:
    """Family, variant and card of a recipe, from its file's name."""
    found = NAME.fullmatch(path.stem)
    if found is None:
        raise ValueError(f"{path.name} is not named family-variant-<card>gb.toml")
    return found[1], found[2], int(found[3])


def peak_of(path: Path) -> float | None:
    """What its head says that training takes at its worst, GiB; None where it says none."""
    found = PEAK.search(path.read_text(encoding="utf-8"))
    return float(found[1]) if found else None


def paths_in_order() -> list[Path]:
    """The recipes: families as the page has always had them, cards from small to large."""
    return sorted((EXAMPLES / "families").glob("*.toml"), key=_place)


def table() -> str:
    """What `frisket.recipes.init.model_choice` reads, as JSON."""
    return json.dumps([_entry(path) for path in paths_in_order()], indent=1) + "\n"


def _entry(path: Path) -> dict[str, object]:
    family, variant, card = parts(path)
    config, _ = read(path)
    (data,) = config.data
    size = _size_of(family, variant)
    experts = len(FAMILIES.load(family).variants[variant].experts) or 1
    return {
        "family": family,
        "variant": variant,
        "card": card,
        "peak": peak_of(path),
        "memory": config.memory.model_dump(exclude_defaults=True),
        "resolution": _pixels(config),
        "frames": data.frames,
        "batch": config.run.batch,
        "apart": "device=cpu" in path.read_text(encoding="utf-8"),
        "billions": round(size.count / 1e9, 2),
        "gigabytes": round(size.bytes * experts / 1e9, 1),
    }


@cache
def _size_of(family: str, variant: str) -> Size:
    size = size_of(FAMILIES.load(family), variant)
    assert size is not None, f"the architecture of {family} {variant} is not built in"
    return size


def rows() -> Iterator[str]:
    """A line a recipe."""
    paths = paths_in_order()
    largest = {parts(path)[:2]: parts(path)[2] for path in paths}
    for path in paths:
        family, variant, card = parts(path)
        config, _ = read(path)
        alone = largest[family, variant] == card < 80
        more = " and more" if alone else ""
        peak = peak_of(path)
        yield (
            f"| {family} {variant} | [{card} GB{more}](families/{path.name}) | {_size(config)} |"
            f" {_weights(config, path)} | {'not predicted' if peak is None else f'{peak:.1f}'} |"
        )


def _place(path: Path) -> tuple[int, int, int]:
    family, variant, card = parts(path)
    variants = list(FAMILIES.load(family).variants)
    order = ["wan", "hunyuan_video", *FAMILIES.names()]
    return order.index(family), variants.index(variant), card


def _pixels(config: Config) -> tuple[int, int]:
    asked = config.data[0].resolution
    assert asked is not None, "a recipe says its size"
    return (asked, asked) if isinstance(asked, int) else asked


def _size(config: Config) -> str:
    (data,) = config.data
    width, height = _pixels(config)
    return f"{width} x {height}" + (f", {data.frames} frames" if data.frames else "")


def _weights(config: Config, path: Path) -> str:
    memory = config.memory
    held = memory.quantise if memory.quantise != "none" else config.model.dtype
    said: list[str] = ["float8" if memory.storage == "float8" else held]
    if memory.swap_blocks:
        said.append(f"{memory.swap_blocks} block{'s' * (memory.swap_blocks > 1)} wait")
    if config.run.batch > 1:
        said.append(f"batch {config.run.batch}")
    apart = "; encode on the CPU" if "device=cpu" in path.read_text(encoding="utf-8") else ""
    return ", ".join(said) + apart


def page() -> str:
    """The page with the table as the recipes are now."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{chr(10).join([*HEAD, *rows()])}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    TABLE.write_text(table(), encoding="utf-8")
