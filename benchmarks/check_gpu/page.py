"""The table of a result in docs/check-gpu.md, between two marks."""

from pathlib import Path

from benchmarks.check_gpu.supervising import Result

BEGIN, END = "<!-- result: written by make check-gpu -->", "<!-- end of result -->"


def table(result: Result) -> str:
    """Markdown: the machine, then a row a check."""
    machine = "; ".join(f"{name} {value}" for name, value in result.machine.items())
    counts = [sum(line["status"] == each for line in result.checks) for each in ("PASS", "FAIL")]
    rows = [
        f"{result.began}, {result.seconds:.0f} s. {machine}.",
        "",
        f"{counts[0]} of {len(result.checks)} passed, {counts[1]} failed.",
        "",
        "| check | result | s | said |",
        "| --- | --- | --- | --- |",
    ]
    for line in result.checks:
        said = str(line["said"]).replace("|", "\\|").replace("\n", " ")
        rows.append(f"| {line['name']} | {line['status']} | {line['seconds']:.1f} | {said} |")
    return "\n".join(rows)


def put_table(page: Path, result: Result) -> None:
    """Replace what stands between the marks; ValueError for a page without them."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN} and {END} to put the table between")
    draft = page.with_name(f".{page.name}.part")
    draft.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{after}", encoding="utf-8")
    draft.replace(page)
