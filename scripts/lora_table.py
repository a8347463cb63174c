"""Counts what other programs lose of Frisket's LoRA files, and writes the table of it.

    python scripts/lora_table.py            # docs/lora-files.md, between its two marks

What the programs accept was recorded from their own code (`scripts/record_clients.py`). The files
are those Frisket writes for the released models' own layers, which are built without weights.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from frisket.adapters import files, writing
from frisket.adapters.attach import outputs_of
from frisket.adapters.layers import MAGNITUDE, A, B, Layer, Layers
from frisket.adapters.spec import AdapterMismatch
from frisket.adapters.targets import LAYERS, resolve
from frisket.families.base import FAMILIES, Source, default_targets, layer_names
from frisket.families.experts import experts_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "lora-files.md"
START, END = "<!-- written by scripts/lora_table.py -->", "<!-- end -->"
RECORDS = ROOT / "tests" / "adapters" / "clients"
FORMS = ("comfyui", "diffusers", "kohya")
RANK, ALPHA = 4, 3.0  # unlike, so that a lost alpha shows as a ratio of 4/3


class Row(NamedTuple):
    """A line of the table: our variant, and what the recorded model is called."""

    said: str
    case: str  # family/variant
    model: str


ROWS = (
    Row("Wan 2.1 1.3B", "wan/2.1-t2v-1.3b", "wan-1.3b"),
    Row("Wan 2.1 14B, image to video", "wan/2.1-i2v-14b-480p", "wan-14b-i2v"),
    Row("Wan 2.1 14B; 2.2 A14B, each expert", "wan/2.2-t2v-a14b", "wan-14b"),
    Row("Wan 2.2 5B", "wan/2.2-ti2v-5b", "wan-5b"),
    Row("HunyuanVideo", "hunyuan_video/t2v", "hunyuan_video"),
    Row("HunyuanVideo-1.5", "hunyuan_video/1.5-480p-i2v", "hunyuan_video-1.5"),
    Row("FLUX.1, all", "flux/dev", "flux"),
    Row("FLUX.2 dev", "flux2/dev", "flux2-dev"),
    Row("FLUX.2 klein 4B", "flux2/klein-base-4b", "flux2-klein-4b"),
    Row("FLUX.2 klein 9B", "flux2/klein-base-9b", "flux2-klein-9b"),
    Row("Z-Image", "z_image/turbo", "z_image"),
    Row("Qwen-Image, all", "qwen_image/image", "qwen_image"),
    Row("SD3 medium", "sd3/3-medium", "sd3-medium"),
    Row("SD3.5 medium", "sd3/3.5-medium", "sd3.5-medium"),
    Row("SD3.5 large", "sd3/3.5-large", "sd3.5-large"),
    Row("SD1.5", "stable_diffusion/sd15", "sd15"),
    Row("SDXL", "stable_diffusion/sdxl", "sdxl"),
)


class Read(NamedTuple):
    """What a client makes of a file."""

    keys: int
    lost: int
    ratio: float  # of what it adds to a weight to what was trained; nan where it adds nothing

    def __str__(self) -> str:
        """As a cell of the table."""
        if self.lost == self.keys:
            return "none"
        said = "whole" if not self.lost else f"{self.lost} of {self.keys} keys lost"
        return said if abs(self.ratio - 1) < 1e-4 else f"{said}, {self.ratio:.2f} times as strong"


@cache
def record(client: str) -> dict[str, Any]:
    """What was recorded of a client."""
    found: dict[str, Any] = json.loads((RECORDS / f"{client}.json").read_text("utf-8"))
    return found


@cache
def accepted(client: str, model: str) -> frozenset[str]:
    """Names of layers that a client finds in a file for a model."""
    return frozenset(
        name
        for pattern, numbers in record(client)["models"][model].items()
        for name in _names(pattern, numbers)
    )


def _names(pattern: str, numbers: str) -> Iterator[str]:
    for row in numbers.split(", "):
        ranges = [word.split("-") for word in row.split()]
        choices = [range(int(word[0]), int(word[-1]) + 1) for word in ranges]
        for chosen in product(*choices):
            yield pattern.format(*chosen)


@cache
def layers_in(case: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of the released model: the layers that an adapter goes on by default, and all there are."""
    name, variant = case.split("/")
    family = FAMILIES.load(name)
    denoiser = family.load_denoiser(Source(variant, dtype=torch.bfloat16, device="meta"))
    expert = next(iter(experts_of(denoiser).values()))
    targets, dead = default_targets(family, variant)
    return resolve(expert, targets, (), LAYERS, dead=dead), tuple(outputs_of(expert))


@cache
def written(case: str, form: str, kind: str = "lora") -> Mapping[str, Tensor]:
    """The tensors of a file for all these layers, their sides cut to 2; AdapterMismatch."""
    name, variant = case.split("/")
    family = FAMILIES.load(name)
    adapted, every = layers_in(case)
    layers: Layers = {one: _layer(kind) for one in adapted}
    names = layer_names(family, variant)
    known = dict.fromkeys(every, 2)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "a.safetensors"
        writing.write(
            file, layers, {}, form=form, names=names, prefix=family.lora_prefix, outputs=known
        )  # fmt: skip
        return files.tensors(file)[0]


def _layer(kind: str) -> Layer:
    ones = torch.ones(2, RANK)
    tensors = {
        "loha": {"hada_w1_a": ones, "hada_w1_b": ones.T, "hada_w2_a": ones, "hada_w2_b": ones.T},
        "lokr": {"lokr_w1": torch.ones(1, 1), "lokr_w2_a": ones, "lokr_w2_b": ones.T},
        "dora": {A: ones.T, B: ones, MAGNITUDE: torch.ones(2)},
    }.get(kind, {A: ones.T, B: ones})
    return Layer(kind, {key: v.clone().contiguous() for key, v in tensors.items()}, RANK, ALPHA)  # type: ignore[arg-type]


def reading(client: str, model: str, tensors: Mapping[str, Tensor]) -> Read:
    """What a client loads of a file: keys lost, and how strong a plain LoRA is there."""
    known, words = accepted(client, model), record(client)["words"]
    ends = re.compile(rf"(.+)\.({'|'.join(re.escape(word) for word in words)})")
    taken: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        match = ends.fullmatch(key)
        if match and match[1] in known:
            taken.setdefault(match[1], {})[match[2]] = value
    kept = sum(map(len, taken.values()))
    ratios = [_strength(each) for each in taken.values() if len(each) > 1]
    far = max(ratios, key=lambda ratio: abs(ratio - 1), default=float("nan"))
    return Read(len(tensors), len(tensors) - kept, far)


def _strength(layer: Mapping[str, Tensor]) -> float:
    """B A alpha / rank, alpha the rank where there is none, as every client computes it."""
    low = next((v for word, v in layer.items() if word in ("lora_A.weight", "lora_down.weight")), 0)
    high = next((v for word, v in layer.items() if word in ("lora_B.weight", "lora_up.weight")), 0)
    if not isinstance(low, Tensor) or not isinstance(high, Tensor):
        return 1.0
    rank = low.shape[0]
    alpha = float(layer.get("alpha", torch.tensor(float(rank))))
    return float((high @ low).max()) * alpha / rank / ALPHA


def cell(client: str, row: Row, form: str) -> str:
    """One cell."""
    if row.model not in record(client)["models"]:
        return ""
    try:
        tensors = written(row.case, form)
    except AdapterMismatch:
        return "not written"
    return str(reading(client, row.model, tensors))


def columns() -> list[tuple[str, str]]:
    """Clients and formats, in the order of the table."""
    there = [path.stem for path in sorted(RECORDS.glob("*.json"))]
    trainers = [(client, "kohya") for client in there if client != "comfyui"]
    return [*(("comfyui", form) for form in FORMS), *trainers]


def line(row: Row) -> str:
    """A row as markdown."""
    cells = [cell(client, row, form) for client, form in columns()]
    return f"| {row.said} | {' | '.join(cells)} |"


def heads() -> list[str]:
    """What stands above the rows."""
    said = [f"{record(client)['name']}, `{form}`" for client, form in columns()]
    return [f"| model | {' | '.join(said)} |", f"|{'---|' * (len(said) + 1)}"]


def sources() -> str:
    """Which programs, as a sentence."""
    told = []
    for client in dict.fromkeys(client for client, _ in columns()):
        known = record(client)
        version = f" {known['version']}" if known["version"] else ""
        told.append(f"{known['name']}{version} ({known['repo']} {known['commit'][:7]})")
    return f"Recorded from {', '.join(told)}."


def main() -> None:
    """Write the page's table anew."""
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    table = "\n".join([START, *heads(), *map(line, ROWS), "", sources(), END])
    PAGE.write_text(before + table + after, encoding="utf-8")
    sys.stdout.write(f"{PAGE.name}: {len(ROWS)} models\n")


if __name__ == "__main__":
    main()
