"""What a check is told and what it says, and the process that runs checks one after the other."""

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from benchmarks.check_gpu.order import ENTRIES


class Failed(AssertionError):
    """A check that found something wrong; the message says what, with numbers."""


class Skipped(Exception):
    """A check that cannot be made here; the message says why."""


@dataclass
class Place:
    """Where a check runs, and what it measured."""

    device: torch.device
    scratch: Path
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        """Whether it is a card."""
        return self.device.type == "cuda"

    def need_card(self, why: str) -> None:
        """Skip the check elsewhere."""
        if not self.cuda:
            raise Skipped(why)


def run_check(call: str, given: Sequence[str], place: Place) -> tuple[str, str]:
    """PASS, FAIL or SKIP, and what is to be said of it."""
    module, _, name = call.partition(":")
    function: Callable[..., str] = getattr(import_module(f"benchmarks.check_gpu.{module}"), name)
    try:
        return "PASS", function(place, *given)
    except Skipped as reason:
        return "SKIP", str(reason)
    except Failed as wrong:
        traceback.print_exc()
        return "FAIL", str(wrong)
    except Exception as error:
        traceback.print_exc()
        first = str(error).strip().partition("\n")[0][:300]
        where = traceback.extract_tb(error.__traceback__)[-1]
        return (
            "FAIL",
            f"{type(error).__name__}: {first} ({Path(where.filename).name}:{where.lineno})",
        )


def work(device: str, names: Sequence[str]) -> None:
    """Run the named checks in this process and say so, a line of JSON each, on standard output.

    Ends early, with a line that says it, where the card has stopped answering: CUDA keeps such an
    error for as long as the process lives.
    """
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print is for the log

    def say(**line: Any) -> None:
        protocol.write(json.dumps(line) + "\n")

    _be_exact()
    entries = {entry.name: entry for entry in ENTRIES}
    say(event="machine", machine=describe(torch.device(device)))
    for name in names:
        say(event="begin", name=name)
        sys.stderr.write(f"\n==== {name}\n")
        began = time.perf_counter()
        with TemporaryDirectory() as scratch:
            place = Place(torch.device(device), Path(scratch))
            status, said = run_check(entries[name].call, entries[name].given, place)
        seconds = round(time.perf_counter() - began, 2)
        say(
            event="end",
            name=name,
            status=status,
            said=said,
            seconds=seconds,
            numbers=place.numbers,
        )
        if not _tidy(place):
            say(event="broken", name=name)
            return


def _be_exact() -> None:
    """No TF32: float32 is compared with the CPU's."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")


def _tidy(place: Place) -> bool:
    """Whether the card still answers, after what the check held was let go."""
    gc.collect()
    if not place.cuda:
        return True
    try:
        torch.cuda.synchronize(place.device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(place.device)
    except RuntimeError:
        return False
    return True


def describe(device: torch.device) -> dict[str, str]:
    """The machine a table is of."""
    import platform  # noqa: PLC0415

    said = {
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
    }
    for package in ("diffusers", "peft", "accelerate", "bitsandbytes", "torchao"):
        said[package] = _version(package)
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        said["device"] = f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
        said["capability"] = f"{card.major}.{card.minor}"
        said["driver"] = _driver()
    return said


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _driver() -> str:
    import subprocess  # noqa: PLC0415

    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown (nvidia-smi does not run)"
    return found.stdout.strip().partition("\n")[0]
