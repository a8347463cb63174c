"""Files that a job of SimpleTuner names: from its project's folder, which holds config/<name>/."""

from pathlib import Path

from frisket.importers.files import place
from frisket.importers.options import Table

AROUND = 3  # folders around a job: its project, where it lies in config/examples/<name>


def find_beside(table: Table, written: str) -> Path | None:
    """A path as it is written, looked for from the job's folder and those around it.

    A job may have been moved out of config/: then the last parts of the path are looked for there.
    """
    here = table.sheet.written.path.absolute().parent
    parts = Path(written).parts
    for folder in (here, *list(here.parents)[:AROUND]):
        found = place(written, folder)[0]
        if found is not None:
            return found
    tails = [] if Path(written).is_absolute() else [Path(*parts[n:]) for n in range(1, len(parts))]
    return next((here / tail for tail in tails if (here / tail).exists()), None)
