"""Draws docs/images/floors.svg: the floors of the package, and the walk of a mask through them.

    python scripts/floors_drawing.py

Floors are those of the import linter's contract in pyproject.toml, a room's line is the first of
its own docstring, and the steps of the walk are the table in docs/architecture.md.
"""

import ast
import re
import textwrap
import tomllib
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "frisket"
PAGE = ROOT / "docs" / "architecture.md"
DRAWING = ROOT / "docs" / "images" / "floors.svg"

WIDTH, MARGIN, GAP = 1000, 24, 10
HEAD, STEP = 28, 62  # heights: a room above its lines, a step
ARROW = 30  # width of what says which way imports run
LINE, LETTER = 14, 5.9  # height of a line of small text, width of a letter
LINES = 3  # that a room has at most
PER_ROW = 6  # steps of the walk
INK, SOFT, PAPER, WALL = "#1f2933", "#52606d", "#ffffff", "#f0f2f5"
WARM, ACCENT = "#fff1e6", "#c2410c"  # rooms that a mask walks through, and its steps


class Stop(NamedTuple):
    """A step of the walk: what is done, in which file, and the shape that comes out."""

    name: str
    path: str
    shape: str

    @property
    def room(self) -> str:
        """The room that the file is in."""
        return self.path.partition("/")[0].removesuffix(".py")


def read_floors(text: str) -> list[list[str]]:
    """The rooms of every floor, the topmost first; rooms that may be missing and are, left out."""
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    floors = [re.split(r"\s*[|:]\s*", layer) for layer in layers]
    rooms = [[room for room in floor if not is_missing(room)] for floor in floors]
    return [[room.strip("() ") for room in floor] for floor in rooms if floor]


def is_missing(room: str) -> bool:
    """Whether a room in brackets (one that may be missing) is."""
    return room.startswith("(") and not locate_room(room.strip("() "))


def locate_room(room: str) -> Path | None:
    """The file whose docstring speaks for a room, or None."""
    paths = (SOURCE / room / "__init__.py", SOURCE / f"{room}.py")
    return next((path for path in paths if path.is_file()), None)


def read_walk(text: str) -> list[Stop]:
    """The steps in the page's table under "The walk of one mask"."""
    section = text.partition("\n## The walk of one mask\n")[2].partition("\n#")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    cells = [[cell.strip().replace("`", "") for cell in row] for row in rows[1:]]
    return [Stop(step, path, re.split(r"[,;]| and ", shape)[0]) for step, path, _, shape in cells]


def describe_room(room: str, width: float) -> list[str]:
    """The first line of a room's docstring, wrapped; up to its first colon where it is too long."""
    path = locate_room(room)
    if path is None:
        raise SystemExit(f"pyproject.toml: a floor names {room!r}; src/frisket has no such room")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line, letters = text.split("\n")[0].rstrip(".").replace("`", ""), int((width - 12) / LETTER)
    lines = textwrap.wrap(line, letters)
    return lines if len(lines) <= LINES else textwrap.wrap(re.split(r"[:;]\s", line)[0], letters)


def draw_text(x: float, y: float, text: str, *, size: int = 11, **style: str) -> str:
    """A line of text, its middle at x and its baseline at y."""
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}"{attributes}>{escape(text)}</text>'


def draw_box(x: float, y: float, width: float, height: float, fill: str, stroke: str) -> str:
    """A box with round corners."""
    size = f'width="{width:g}" height="{height:g}" rx="6"'
    return f'<rect x="{x:g}" y="{y:g}" {size} fill="{fill}" stroke="{stroke}"/>'


def draw_dot(x: float, y: float, number: int) -> list[str]:
    """A step's number in a circle."""
    return [
        f'<circle cx="{x:g}" cy="{y:g}" r="8.5" fill="{ACCENT}"/>',
        draw_text(x, y + 3.5, str(number), size=10, fill=PAPER, font_weight="bold"),
    ]


def draw_room(
    room: str, lines: list[str], box: tuple[float, float, float, float], steps: list[int]
) -> list[str]:
    """A room: name, what it is for, and the steps of the walk that are in it."""
    x, y, width, height = box
    fill, stroke = (WARM, ACCENT) if steps else (PAPER, SOFT)
    drawn = [draw_box(x, y, width, height, fill, stroke)]
    drawn.append(draw_text(x + width / 2, y + 19, room, size=14, font_weight="bold", fill=INK))
    for index, line in enumerate(lines, 1):
        drawn.append(draw_text(x + width / 2, y + 21 + LINE * index, line, fill=SOFT))
    for index, number in enumerate(steps):
        drawn += draw_dot(x + width - 12 - 19 * (len(steps) - 1 - index), y, number)
    return drawn


def draw_floors(floors: list[list[str]], walk: list[Stop], top: float) -> tuple[list[str], float]:
    """Floor above floor and the arrow beside them; also where they end."""
    drawn, y = [], top
    left, width = MARGIN + ARROW, WIDTH - 2 * MARGIN - ARROW
    for floor in floors:
        box = (width - GAP * (len(floor) - 1)) / len(floor)
        texts = [describe_room(room, box) for room in floor]
        height = HEAD + LINE * max(len(lines) for lines in texts)
        for index, (room, lines) in enumerate(zip(floor, texts, strict=True)):
            steps = [number for number, stop in enumerate(walk, 1) if stop.room == room]
            x = left + index * (box + GAP)
            drawn += draw_room(room, lines, (x, y, box, height), steps)
        y += height + GAP
    x, bottom, middle = MARGIN + 8, y - GAP, (top + y - GAP) / 2
    drawn.append(f'<path d="M{x} {top} V{bottom - 2:g}" stroke="{SOFT}" marker-end="url(#tip)"/>')
    turn = f"rotate(-90 {x + 14} {middle:g})"
    drawn.append(draw_text(x + 14, middle, "imports run downward only", fill=SOFT, transform=turn))
    return drawn, bottom


def draw_walk(walk: list[Stop], top: float) -> list[str]:
    """The steps one after the other, with file and shape."""
    title = "The walk of one mask: upper case is pixels, lower case latent cells"
    drawn = [draw_text(WIDTH / 2, top, title, size=13, fill=INK, font_weight="bold")]
    box = (WIDTH - 2 * MARGIN - GAP * (PER_ROW - 1)) / PER_ROW
    for index, stop in enumerate(walk):
        x = MARGIN + (index % PER_ROW) * (box + GAP)
        y = top + 20 + (index // PER_ROW) * (STEP + GAP)
        drawn.append(draw_box(x, y, box, STEP, WARM, ACCENT))
        drawn += draw_dot(x + 12, y, index + 1)
        style = {"size": 12, "font_weight": "bold", "fill": INK}
        drawn.append(draw_text(x + box / 2, y + 18, stop.name, **style))
        drawn.append(draw_text(x + box / 2, y + 35, stop.path, fill=SOFT))
        drawn.append(draw_text(x + box / 2, y + 51, stop.shape, fill=SOFT))
    return drawn


def draw_page(floors: list[list[str]], walk: list[Stop]) -> str:
    """The whole drawing, an SVG."""
    drawn, bottom = draw_floors(floors, walk, MARGIN)
    rows = -(-len(walk) // PER_ROW)
    height = bottom + 50 + rows * (STEP + GAP) + MARGIN - GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' font-family="system-ui, Helvetica, Arial, sans-serif" text-anchor="middle">'
    )
    listed = "; ".join(", ".join(floor) for floor in floors)
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"'
        ' markerHeight="8" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{SOFT}"/></marker></defs>'
    )
    return "\n".join(
        [
            head,
            "<!-- written by scripts/floors_drawing.py -->",
            "<title>The floors of the package and the walk of one mask</title>",
            f"<desc>Floors from the top: {escape(listed)}.</desc>",
            tip,
            draw_box(0.5, 0.5, WIDTH - 1, height - 1, WALL, WALL),
            *drawn,
            *draw_walk(walk, bottom + 32),
            "</svg>\n",
        ]
    )


def draw() -> str:
    """The drawing of what stands in pyproject.toml and on the page today."""
    floors = read_floors((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return draw_page(floors, read_walk(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    DRAWING.write_text(draw(), encoding="utf-8")
