"""Counts what the house's rules count: private words, full folders, long functions.

python scripts/house.py                            # the whole table
python scripts/house.py words src/frisket/media    # one measure: file:line: name
python scripts/house.py words --by file            # counts, the largest first
python scripts/house.py --write                    # lower the ceilings of tests/house/ratchet.toml
"""

import argparse
import collections
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.house.measure import MEASURES, count_folders  # noqa: E402
from tests.house.ratchet import (  # noqa: E402
    RATCHET,
    find_rise,
    measure_ceiling,
    read_ratchet,
    write_ratchet,
)
from tests.house.reading import Place, Tree, read_tree  # noqa: E402

KEYS = {"file": "path", "folder": "folder", "name": "name"}


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measure", nargs="?", choices=["all", *MEASURES], default="all")
    parser.add_argument("paths", nargs="*", type=Path, help="files or folders to list (all)")
    parser.add_argument("--root", type=Path, default=Path("src/frisket"), help="the package")
    parser.add_argument("--by", choices=list(KEYS), help="counts, not places")
    parser.add_argument("--write", action="store_true", help="lower the ceilings to what is there")
    options = parser.parse_intermixed_args()
    root = options.root.resolve()
    if not root.is_dir():
        parser.error(f"--root {options.root} is no folder; run it from the repository's root")
    tree = read_tree(root)
    if options.write:
        lower_ceilings(tree)
    elif options.measure == "all":
        print_table(tree)
    else:
        places = MEASURES[options.measure][0](tree)
        inside = [path.resolve().relative_to(root).as_posix() for path in options.paths]
        print_places([place for place in places if is_inside(place, inside)], options)


def is_inside(place: Place, folders: list[str]) -> bool:
    return not folders or any(
        folder in (".", place.path) or place.path.startswith(f"{folder}/") for folder in folders
    )


def lower_ceilings(tree: Tree) -> None:
    """Write the ceilings anew. A count above its ceiling is refused: it is mended, not allowed."""
    ceilings = read_ratchet()
    places = {measure: function(tree) for measure, (function, _) in MEASURES.items()}
    rises = [
        message
        for measure, ceiling in ceilings.items()
        if (message := find_rise(measure, places[measure], ceiling))
    ]
    if rises:
        sys.exit("\n".join([*rises, f"Nothing written: {RATCHET} only ever goes down."]))
    write_ratchet({measure: measure_ceiling(places[measure]) for measure in MEASURES})


def print_table(tree: Tree) -> None:
    for measure, (function, _) in MEASURES.items():
        places = function(tree)
        largest = max((place.size for place in places), default=0)
        names = len({place.name for place in places})
        print(
            f"{measure:12} {len(places):5}  {f'largest {largest}' if largest else f'{names} names'}"
        )
    fullest = sorted(count_folders(tree), key=lambda place: -place.size)[:8]
    print("fullest:     ", ", ".join(f"{place.path} {place.size}" for place in fullest))


def print_places(places: list[Place], options: argparse.Namespace) -> None:
    if options.by:
        key = KEYS[options.by]
        counts = collections.Counter(getattr(place, key) for place in places)
        for name, count in counts.most_common():
            print(f"{count:6}  {name}")
    else:
        for place in places:
            print(options.root / str(place))
    print(f"{options.measure}: {len(places)}", file=sys.stderr)


if __name__ == "__main__":
    main()
