"""Full-size models with random weights: memory against the prediction, and seconds a step."""

from dataclasses import replace
from typing import Any

from benchmarks.check_gpu.checking import Failed, Place, Skipped
from benchmarks.gpu_cost import NF4, PLAIN, ROWS, DoesNotFit, Row, run

from frisket.training.memory.plan import MemoryPlan

# Small enough for any card. What is predicted must be within 15 % of what torch was asked for.
SMALL = (
    Row("Wan 2.1 1.3B", "wan", "2.1-t2v-1.3b", (33, 480, 832), PLAIN),
    Row(
        "Wan 2.1 1.3B, swap",
        "wan",
        "2.1-t2v-1.3b",
        (17, 256, 448),
        MemoryPlan(checkpointing=True, swap_blocks=20),
    ),
    Row("SD3.5 medium", "sd3", "3.5-medium", (1, 1024, 1024), NF4),
    Row("SDXL", "stable_diffusion", "sdxl", (1, 1024, 1024), PLAIN),
)
CLOSE = (0.85, 1.15)
SECONDS = 60.0  # of timed steps, whatever they take


def _measured(place: Place, rows: tuple[Row, ...], name: str, count: int) -> dict[str, Any]:
    row = next(row for row in rows if row.name == name)
    if not place.cuda and row.memory.swap_blocks:  # tiny models have two
        row = replace(row, memory=replace(row.memory, swap_blocks=1))
    try:
        found = run(row, place.device, count, tiny=not place.cuda, seconds=SECONDS)
    except DoesNotFit as reason:
        raise Skipped(str(reason)) from reason
    place.numbers |= found
    return found


def foretold(place: Place, name: str) -> str:
    """Peak memory of training against `frisket doctor`'s prediction."""
    found = _measured(place, SMALL, name, 2)
    if not place.cuda:
        return "the program runs; memory needs a card"
    share = found["peak"] / found["predicted"]
    said = f"{found['peak']:.2f} GiB, {found['predicted']:.2f} predicted ({share:.2f})"
    if not CLOSE[0] <= share <= CLOSE[1]:
        raise Failed(f"{said}: further off than {CLOSE[0]} to {CLOSE[1]}")
    return said


def speed(place: Place, name: str) -> str:
    """Seconds of a plain and of a masked step."""
    found = _measured(place, ROWS, name, 5)
    if not place.cuda:
        return "the program runs; speed needs a card"
    parts = [
        " x ".join(map(str, found["size"])),
        f"plain {found['plain']:.2f} s, masked {found['masked']:.2f} s"
        f" ({found['masked'] / found['plain']:.3f})",
    ]
    if found["utilisation"]:
        parts.append(f"{found['utilisation']:.0f} % of the card's arithmetic")
    if found["busy"] is not None:
        parts.append(f"busy {found['busy']:.0f} %")
    parts.append(f"{found['peak']:.1f} GiB, {found['predicted']:.1f} predicted")
    return "; ".join(parts)
