"""Files that a job of SimpleTuner names: from its project's folder, which holds config/<name>/."""

from pathlib import Path

from frisket.importers.files import locate
from frisket.importers.options import OptionTable

AROUND = 3  # folders around a job: its project, where it lies in config/examples/<name>


def find_beside(table: OptionTable, name: str) -> Path | None:
    """A path as it is written, looked for from the job's folder and those around it.

    A job may have been moved out of config/: then the last parts of the path are looked for there.
    """
    home = table.sheet.written.path.absolute().parent
    parts = Path(name).parts
    for folder in (home, *list(home.parents)[:AROUND]):
        path = locate(name, folder)[0]
        if path is not None:
            return path
    tails = [] if Path(name).is_absolute() else [Path(*parts[n:]) for n in range(1, len(parts))]
    return next((home / tail for tail in tails if (home / tail).exists()), None)
