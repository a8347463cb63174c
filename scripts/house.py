"""Counts what the house's rules count: full folders, private words, long functions.

python scripts/house.py                            # the whole table
python scripts/house.py words src/frisket/media    # file:line: name, of one measure
python scripts/house.py words --by file            # counts, the largest first
"""

import argparse
import collections
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.house.measure import MEASURES, Place, count_folders, read_tree  # noqa: E402


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measure", nargs="?", choices=["all", *MEASURES], default="all")
    parser.add_argument("paths", nargs="*", type=Path, help="files or folders to list (all)")
    parser.add_argument("--root", type=Path, default=Path("src/frisket"), help="the package")
    parser.add_argument("--by", choices=["file", "folder", "name"], help="counts, not places")
    options = parser.parse_args()
    root = options.root.resolve()
    if not root.is_dir():
        parser.error(f"--root {options.root} is no folder; run it from the repository's root")
    tree = read_tree(root)
    inside = [path.resolve().relative_to(root).as_posix() for path in options.paths]
    if options.measure == "all":
        print_table(tree)
        return
    places = [place for place in MEASURES[options.measure](tree) if is_inside(place, inside)]
    if options.by:
        print_counts(places, options.by)
    else:
        for place in places:
            print(options.root / str(place))
    print(f"{options.measure}: {len(places)}", file=sys.stderr)


def is_inside(place: Place, folders: list[str]) -> bool:
    return not folders or any(
        folder in (".", place.path) or place.path.startswith(f"{folder}/") for folder in folders
    )


def print_table(tree) -> None:
    for name, measure in MEASURES.items():
        places = measure(tree)
        largest = max((place.size for place in places), default=0)
        distinct = len({place.name for place in places})
        note = f"largest {largest}" if largest else f"{distinct} names"
        print(f"{name:12} {len(places):6}  {note}")
    print(
        f"{'folders':12} "
        + ", ".join(
            f"{folder} {size}"
            for folder, size in sorted(count_folders(tree).items(), key=lambda pair: -pair[1])[:6]
        )
    )


def print_counts(places: list[Place], by: str) -> None:
    key = {"file": "path", "folder": "folder", "name": "name"}[by]
    for name, count in collections.Counter(getattr(place, key) for place in places).most_common():
        print(f"{count:6}  {name}")


if __name__ == "__main__":
    main()
