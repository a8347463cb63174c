"""Writes the table of examples/README.md from the recipes themselves.

    python scripts/examples_page.py            # between its two marks

The peak is the one that each recipe's head says; `make test-slow` holds it to the prediction.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from frisket.families.base import FAMILIES
from frisket.recipes.config import Config
from frisket.recipes.load import read

EXAMPLES = Path(__file__).parents[1] / "examples"
PAGE = EXAMPLES / "README.md"
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


def rows() -> Iterator[str]:
    """A line a recipe: families as the page has always had them, cards from small to large."""
    paths = sorted((EXAMPLES / "families").glob("*.toml"), key=_place)
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


def _size(config: Config) -> str:
    (data,) = config.data
    asked = data.resolution
    assert asked is not None, "a recipe says its size"
    width, height = (asked, asked) if isinstance(asked, int) else asked
    return f"{width} x {height}" + (f", {data.frames} frames" if data.frames else "")


def _weights(config: Config, path: Path) -> str:
    memory = config.memory
    held = memory.quantise if memory.quantise != "none" else config.model.dtype
    said = ["float8" if memory.storage == "float8" else held]
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
