"""The report page: one self-contained HTML file, pictures first, then numbers, and its JSON."""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from frisket.media.paths import replacing

PictureSource = bytes | NDArray[Any] | Image.Image  # an encoded PNG, uint8 H W 3, a Pillow image
PIXELATED = 96  # pictures up to so many pixels a side are enlarged with hard pixels


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture and what it shows; `width` is the width on the page in CSS pixels, None its own."""

    caption: str
    picture: PictureSource
    note: str = ""
    width: int | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of a table.

    `meaning`: a sentence for readers who have never seen it. `better` marks the best cell.
    `form` is a format spec as in `format(value, form)`; percentages take `.0%`.
    """

    name: str
    meaning: str = ""
    better: Literal["low", "high", ""] = ""
    form: str = ".3f"


@dataclass(frozen=True, slots=True)
class Row:
    """One variant: metric to its values, one a seed; a metric that was not measured is left out."""

    name: str
    values: Mapping[str, Sequence[float | int]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class PageTable:
    """Variants against metrics: the mean in large, each seed's value below it."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the run was to show, fixed before it, and what was measured."""

    sentence: str
    measured: str
    met: bool


@dataclass(frozen=True, slots=True)
class PageSection:
    """A heading, a paragraph of plain words, figures, tables."""

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[PageTable] = ()


@dataclass(frozen=True, slots=True)
class ReportPage:
    """The whole page. `data` becomes report.json; `footer` is name: value (versions, machine)."""

    title: str
    verdict: str
    sections: Sequence[PageSection]
    claims: Sequence[Claim] = ()
    footer: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    refresh: bool = False  # the page is not finished, and asks for itself again


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell as the template shows it."""

    mean: str
    seeds: Sequence[str]
    best: bool


def write_report(path: Path, report: ReportPage) -> None:
    """Write the page to `path` and `report.data` beside it as `.json`, each whole or not at all.

    ValueError where a figure is no picture, a row holds a metric without a column, or the data
    holds NaN or infinity (JSON has neither).
    """
    try:
        data = json.dumps(dict(report.data), indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path.with_suffix('.json')}: {error}; leave the number out") from error
    page = render("report.html.j2", report=report, cells=_lay_cells, figure_html=_render_figure)
    write_whole(path.with_suffix(".json"), data + "\n")
    write_whole(path, page)


def render(template: str, **values: Any) -> str:
    """A template of this package filled in; everything is escaped but what is marked safe."""
    return _build_environment().get_template(template).render(**values)


def write_whole(path: Path, text: str) -> None:
    r"""Replace a text file in one step, so that no reader ever sees half of it.

    UTF-8; a file name that is not is shown with \udcff and the like for its bytes.
    """
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")


def data_uri(picture: PictureSource) -> str:
    """A picture as a `data:` address of a PNG; ValueError for what is no picture."""
    return "data:image/png;base64," + base64.b64encode(_encode_png(picture)).decode("ascii")


def thumbnail(image: Image.Image) -> str:
    """A picture as a `data:` address: JPEG, for a page may hold a thousand; few colours as PNG."""
    if image.getcolors(256) is not None:
        return data_uri(image)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=84)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _encode_png(picture: PictureSource) -> bytes:
    if isinstance(picture, bytes):
        if not picture.startswith(b"\x89PNG"):
            raise ValueError("a figure's bytes must be a PNG; give an array to have it encoded")
        return picture
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
            raise ValueError(f"a figure must be uint8 H W 3, got {picture.dtype} {picture.shape}")
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _render_figure(figure: Figure) -> Markup:
    png = _encode_png(figure.picture)
    with Image.open(io.BytesIO(png)) as image:
        width, height = image.size
    shown = figure.width or (width if width > PIXELATED else PIXELATED * 2)
    style = "image-rendering: pixelated;" if shown > width else ""
    return Markup('<img alt="{}" src="{}" width="{}" height="{}" style="{}">').format(
        figure.caption, data_uri(png), shown, round(height * shown / width), style
    )


def _lay_cells(table: PageTable) -> list[tuple[Row, list[Cell]]]:
    known = {column.name for column in table.columns}
    for row in table.rows:
        if extra := sorted(set(row.values) - known):
            raise ValueError(f"table {table.title!r}: row {row.name!r} has {extra} but no column")
    best = {column.name: _find_best(column, table.rows) for column in table.columns}
    return [
        (row, [_make_cell(column, row, best[column.name]) for column in table.columns])
        for row in table.rows
    ]


def _find_best(column: Column, rows: Sequence[Row]) -> str | None:
    """The best mean as it is printed, so that what reads the same is marked the same."""
    means = [fmean(row.values[column.name]) for row in rows if row.values.get(column.name)]
    means = [mean for mean in means if math.isfinite(mean)]
    shown = {format(mean, column.form) for mean in means}
    if not column.better or len(shown) < 2:
        return None
    return format(min(means) if column.better == "low" else max(means), column.form)


def _make_cell(column: Column, row: Row, best: str | None) -> Cell:
    values = row.values.get(column.name, ())
    if not values:
        return Cell("not measured", (), best=False)
    mean = format(fmean(values), column.form)
    seeds = [format(value, column.form) for value in values] if len(values) > 1 else []
    return Cell(mean, seeds, best=mean == best)


@cache
def _build_environment() -> Environment:
    return Environment(
        loader=PackageLoader("frisket.evaluation"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
