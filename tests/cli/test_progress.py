"""Progress in 80 columns, and in a log."""

import io

from rich.console import Console

from frisket.cli.progress import ProgressLines, show_progress, spell_time

VALUES = {"loss": 0.7029, "denoise": 0.7029, "weight": 1.0, "inside": 0.71, "outside": 1.024}


def shown(width: int) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width, color_system=None)
    with show_progress(console) as report:
        report("backgrounds sampled", 3, 3)
        report("training", 120, 1000, VALUES)
    return text.getvalue()


def test_a_bar_of_80_columns_has_title_count_and_numbers() -> None:
    text = shown(80)
    for part in ("backgrounds sampled", "training", "120/1000", "loss 0.703", "outside 1.02"):
        assert part in text
    assert "..." not in text
    assert "…" not in text


def test_a_log_has_lines_now_and_then_with_the_time_left() -> None:
    lines: list[str] = []
    now = [0.0]
    report = ProgressLines(lines.append, clock=lambda: now[0])
    for step in range(1, 101):
        report("training", step, 100, VALUES)
        now[0] += 1
    assert lines[0] == "training: 1 of 100, loss 0.703  inside 0.71  outside 1.02"
    assert lines[1].startswith("training: 16 of 100, 84 s left, loss 0.703")
    assert lines[-1] == "training: 100 of 100, loss 0.703  inside 0.71  outside 1.02"
    assert len(lines) == 8


def test_what_is_no_terminal_gets_lines() -> None:
    text = io.StringIO()
    with show_progress(Console(file=text, width=40)) as report:
        report("clips [and] masks", 5, 5)
        report("training", 1, 3, VALUES)
    assert text.getvalue().splitlines() == [
        "clips [and] masks: 5 of 5",
        "training: 1 of 3, loss 0.703  inside 0.71  outside 1.02",
    ]


def test_time_is_spelt_as_one_reads_it() -> None:
    assert [spell_time(each) for each in (4.2, 89.0, 700.0, 12000.0)] == [
        "4 s",
        "89 s",
        "12 min",
        "3 h 20 min",
    ]
