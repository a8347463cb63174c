"""What the house's rules count of a tree: every measure lists its faults, an empty list is good."""

import collections
from collections.abc import Callable, Iterable

from tests.house.reading import Named, Place, Tree, folder_of
from tests.house.words import (
    BARE,
    CLASSES,
    FUNCTIONS,
    MODULES,
    is_action,
    is_participle,
    parts_of,
    private_word,
)

FILES = 19  # a folder holds at most so many
ROOMS = {"recipes": 12}  # and these fewer
SHARING = 3  # as many files of a folder may begin with the same word
LINES = 399  # a file has at most so many
LONGEST = 80  # and a function
BRANCHES = 12  # ways through a function
# Rooms whose public functions are called what their formula is called.
NUMERICS = ("losses/", "masks/", "objectives/", "evaluation/metrics", "evaluation/mask_metrics")


def list_words(tree: Tree) -> list[Place]:
    """Places that bind a private word, or a name that another one was agreed for."""
    places = []
    for module in tree.modules:
        stem = module.path.rpartition("/")[2].removesuffix(".py")
        tables: list[tuple[Iterable[Place], dict[str, str]]] = [
            (module.bindings, {}),
            ((function.place for function in module.functions), FUNCTIONS),
            (module.classes, CLASSES),
            ([Place(module.path, 1, stem)], MODULES),
        ]
        for named, table in tables:
            places += [
                place
                for place in named
                if private_word(place.name) or place.name.strip("_").lower() in table
            ]
    return _sort(places)


def list_bare(tree: Tree) -> list[Place]:
    """Variables that are a participle or determiner and nothing else: `kept`, `several`."""
    return _sort(
        place
        for module in tree.modules
        for place in module.bindings
        if place.name.strip("_").lower() in BARE and not private_word(place.name)
    )


def list_participles(tree: Tree) -> list[Place]:
    """Functions that begin with a past participle: `_named`, `kept_of`."""
    return [place for place in _nouns(tree) if is_participle(place.name)]


def list_lookups(tree: Tree) -> list[Place]:
    """Functions that are a noun and `_of`: `metadata_of`."""
    places = (place for place in _nouns(tree) if not is_participle(place.name))
    return [place for place in places if "of" in parts_of(place.name)]


def list_nouns(tree: Tree) -> list[Place]:
    """Other functions that do not begin with a verb: `pictures`, `_whole`."""
    places = (place for place in _nouns(tree) if not is_participle(place.name))
    return [place for place in places if "of" not in parts_of(place.name)]


def _nouns(tree: Tree) -> list[Place]:
    """Functions whose name does not say what they do, and that are no formula."""
    return _sort(
        function.place
        for function in _functions(tree)
        if not (function.value or function.command)
        and not function.place.name.startswith("__")
        and not (
            function.place.path.startswith(NUMERICS)
            and not function.place.name.startswith("_")
            and not is_participle(function.place.name)
        )
        and not is_action(function.place.name)
    )


def list_classes(tree: Tree) -> list[Place]:
    """Classes whose name means another thing in another file; a name with `_` is its file's own."""
    return _repeat(place for module in tree.modules for place in module.classes)


def list_aliases(tree: Tree) -> list[Place]:
    """Aliases of types (`Progress = Callable[...]`) that another file defines too."""
    aliases = {place for module in tree.modules for place in module.aliases}
    classes = (place for module in tree.modules for place in module.classes)
    return [place for place in _repeat([*aliases, *classes]) if place in aliases]


def list_functions(tree: Tree) -> list[Place]:
    """Functions of more than `LONGEST` lines, the longest first."""
    return _largest((_sized(function, function.lines) for function in _functions(tree)), LONGEST)


def list_branches(tree: Tree) -> list[Place]:
    """Functions with more than `BRANCHES` ways through them, the worst first.

    `if`, loop, `except`, `with`, comprehension, `case`, `and`, `or` and `x if y else z` count one
    each: stricter than ruff's C901, which looks into no expression.
    """
    return _largest(
        (_sized(function, function.branches) for function in _functions(tree)), BRANCHES
    )


def list_docstrings(tree: Tree) -> list[Place]:
    """Docstrings of three words or fewer."""
    return _sort(place for module in tree.modules for place in module.short)


def list_files(tree: Tree) -> list[Place]:
    """Files of more than `LINES` lines."""
    return _largest((Place(module.path, 1, "", module.lines) for module in tree.modules), LINES)


def list_folders(tree: Tree) -> list[Place]:
    """Folders of more files than `FILES`, or than `ROOMS` says; every suffix counts."""
    return [
        place
        for place in _largest(count_folders(tree), 0)
        if place.size > ROOMS.get(place.path, FILES)
    ]


def count_folders(tree: Tree) -> list[Place]:
    """Every folder with the number of its files."""
    counts = collections.Counter(folder_of(path) for path in tree.files)
    return [Place(folder, 1, "", size) for folder, size in sorted(counts.items())]


def list_prefixes(tree: Tree) -> list[Place]:
    """Words that more than `SHARING` files of a folder begin with (`x.py`, `x.toml`: one file)."""
    stems = {(folder_of(path), path.rpartition("/")[2].partition(".")[0]) for path in tree.files}
    counts = collections.Counter(
        (folder, stem.strip("_").partition("_")[0]) for folder, stem in stems
    )
    places = (Place(folder, 1, f"{word}_", size) for (folder, word), size in counts.items())
    return _largest(places, SHARING)


def _functions(tree: Tree) -> Iterable[Named]:
    return (function for module in tree.modules for function in module.functions)


def _sized(function: Named, size: int) -> Place:
    place = function.place
    return Place(place.path, place.line, place.name, size)


def _repeat(places: Iterable[Place]) -> list[Place]:
    """Public names that more than one file has."""
    by_name: dict[str, list[Place]] = collections.defaultdict(list)
    for place in places:
        if not place.name.startswith("_"):
            by_name[place.name].append(place)
    return [
        place
        for name in sorted(by_name)
        for place in _sort(by_name[name])
        if len({other.path for other in by_name[name]}) > 1
    ]


def _largest(places: Iterable[Place], limit: int) -> list[Place]:
    over = [place for place in places if place.size > limit]
    return sorted(over, key=lambda place: (-place.size, place.path, place.line))


def _sort(places: Iterable[Place]) -> list[Place]:
    return sorted(places, key=lambda place: (place.path, place.line, place.name))


# What is counted: a list of faults, and what to do about one.
MEASURES: dict[str, tuple[Callable[[Tree], list[Place]], str]] = {
    "words": (list_words, "say what it holds; tests/house/words.py names the field's word"),
    "bare": (list_bare, "give the participle or determiner its noun"),
    "participles": (list_participles, "begin the function with a verb: `name_x`, not `_named`"),
    "lookups": (list_lookups, "begin the function with a verb: `read_metadata`, not `metadata_of`"),
    "nouns": (list_nouns, "begin the function with a verb; tests/house/verbs.txt takes new ones"),
    "classes": (list_classes, "a class name means one thing in the package: name it apart"),
    "aliases": (list_aliases, "a type's name means one thing: import the one there is"),
    "functions": (list_functions, f"at most {LONGEST} lines a function: cut it where it breathes"),
    "branches": (list_branches, f"at most {BRANCHES} ways through a function: cut it, or a table"),
    "docstrings": (
        list_docstrings,
        "say what the signature does not (range, unit, error), or none",
    ),
    "files": (list_files, f"at most {LINES} lines a file: a room with files"),
    "folders": (list_folders, f"at most {FILES} files a folder (recipes 12): a folder for a part"),
    "prefixes": (list_prefixes, f"at most {SHARING} files share a first word: make it a folder"),
}
