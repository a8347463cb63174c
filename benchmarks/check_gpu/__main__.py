"""The command: `python -m benchmarks.check_gpu` from the project's folder (`make check-gpu`)."""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.check_gpu.order import ENTRIES


def chosen_device(asked: str) -> str:
    """The device to check; "" where a card is asked for and there is none."""
    if asked and asked != "cuda":
        return asked
    import torch  # noqa: PLC0415 - a slow import

    return "cuda" if torch.cuda.is_available() else ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Every path that only a card takes, on one card.")
    asked = os.environ.get("FRISKET_CHECK_DEVICE", "")
    parser.add_argument("--device", default=asked, help="cpu runs what can run there (no finding)")
    parser.add_argument("--minutes", type=float, default=9.0, help="time for all of it")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="checks whose name holds one of these"
    )
    parser.add_argument("--json", type=Path, help="write the result there, after every check")
    parser.add_argument("--page", type=Path, help="put the table into this page")
    parser.add_argument("--worker", nargs="+", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        from benchmarks.check_gpu.checking import work  # noqa: PLC0415

        work(options.device, options.worker)
        return
    device = chosen_device(options.device)
    if not device:
        sys.stdout.write(
            "There is no card that torch can use here: nothing was checked."
            " `--device cpu` runs what can run without one.\n"
        )
        return
    sys.exit(supervise(device, options))


def supervise(device: str, options: Any) -> int:
    """Run the checks, print a line for each; 1 where one failed."""
    from benchmarks.check_gpu.page import put_table  # noqa: PLC0415
    from benchmarks.check_gpu.supervising import Result, run_all  # noqa: PLC0415

    entries = [entry for entry in ENTRIES if any(part in entry.name for part in options.only)]
    result = Result(device)

    def tell(line: dict[str, Any]) -> None:
        sys.stdout.write(
            f"{line['status']}  {line['name']:<34}{line['seconds']:>7.1f} s  {line['said']}\n"
        )
        sys.stdout.flush()

    with tempfile.NamedTemporaryFile("w", suffix=".log", prefix="check-gpu-", delete=False) as log:
        run_all(entries, result, minutes=options.minutes, output=options.json, log=log, tell=tell)
    if options.page is not None:
        put_table(options.page, result)
    counts = {
        status: sum(line["status"] == status for line in result.checks)
        for status in ("PASS", "FAIL", "SKIP")
    }
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    sys.stdout.write(f"{said} in {result.seconds:.0f} s. What failed, in full: {log.name}\n")
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    main()
