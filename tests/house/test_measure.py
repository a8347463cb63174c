"""Every measure catches a fault that is planted, and lets its neighbour pass."""

import pytest
from tests.house.measure import MEASURES, count_folders
from tests.house.reading import Tree, read_module, read_tree
from tests.house.words import VERBS, parts_of

LONG = "def load():\n" + "    row = 1\n" * 80
BRANCHED = """
def choose(rows):
    if a and b or c:
        return [row if row else 0 for row in rows if row]
    for row in rows:
        with row:
            while row:
                try:
                    row()
                except ValueError:
                    pass
    match rows:
        case 1:
            pass
        case 2 | 3:
            pass
        case _:
            pass
"""


def list_names(measure: str, **texts: str) -> list[str]:
    """Names at fault in files of these texts; `__` in a file's name is a folder."""
    files = {f"{name.replace('__', '/')}.py": text for name, text in texts.items()}
    tree = Tree([read_module(path, text) for path, text in files.items()], list(files))
    return [place.name or place.path for place in MEASURES[measure][0](tree)]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("found = 1", ["found"]),
        ("_FOUND: int = 1", ["_FOUND"]),
        ("for each in rows:\n    pass", ["each"]),
        ("rows = [one for one in rows]", ["one"]),
        ("if (said := ask()):\n    pass", ["said"]),
        ("def load(told, *asked, made=1, **given):\n    pass", ["asked", "given", "made", "told"]),
        ("load = lambda seen: 1", ["seen"]),
        ("self.laid = 1", ["laid"]),
        ("import numpy as found", ["found"]),
        ("try:\n    pass\nexcept ValueError as said:\n    pass", ["said"]),
        ("match row:\n    case [one, *found]:\n        pass", ["found", "one"]),
        ("class Told:\n    said: str", ["Told", "said"]),
        ("class Look:\n    pass", ["Look"]),
        ("def told_by():\n    pass\ndef claim():\n    pass", ["told_by", "claim"]),
        ("print(found, self.said, load(told=1))", []),
        ("place = shot = claim = looking = 1", []),
        ("class MasksNotFound:\n    one_hot = zero_one = foundation = lone = 1", []),
    ],
)
def test_private_words(code, names):
    assert list_names("words", plain=code) == names


def test_private_words_of_files():
    texts = dict.fromkeys(["media__told", "data__covering", "recipes__masks_asked", "story"], "")
    assert list_names("words", **texts) == ["covering", "told", "masks_asked"]


def test_bare_participles():
    code = "kept = several = 1\nkept_layers = found = left = 1\ndef whole(known): pass"
    assert list_names("bare", plain=code) == ["kept", "several", "known"]


@pytest.mark.parametrize(
    ("measure", "name"),
    [
        *(("participles", name) for name in ("_named", "told", "drawn_of", "_left_out", "masked")),
        *(("lookups", name) for name in ("metadata_of", "_of_sdxl")),
        *(("nouns", name) for name in ("_whole", "pictures", "offset")),
        *((None, name) for name in ("name_layers", "_embed", "feed", "is_named", "to_rows")),
        *((None, name) for name in ("objective", "__init__", "sort_by_kind")),
    ],
)
def test_functions_begin_with_a_verb(measure, name):
    for other in ("participles", "lookups", "nouns"):
        assert list_names(other, plain=f"def {name}(): pass") == [name] * (other == measure)


def test_formulas_properties_and_commands_are_called_what_they_are():
    names = ("dice", "_own", "shifted", "weighted_mean", "signed_distance")
    formula = "".join(f"def {name}(): pass\n" for name in names)
    assert list_names("nouns", losses__base=formula) == ["_own"]
    assert list_names("participles", losses__base=formula) == ["shifted"]
    for decorator in ("property", "cached_property", "app.command()", "functools.cached_property"):
        assert list_names("nouns", plain=f"@{decorator}\ndef masks(): pass") == []
    assert list_names("nouns", plain="@cache\ndef masks(): pass") == ["masks"]


def test_class_names_of_several_meanings():
    first = "class Report: pass\nclass _Row: pass\nclass Grid: pass\nclass Grid: pass"
    second = "class Report: pass\nclass _Row: pass\nProgress = Callable[[int], None]\nKIND = str"
    third = "Progress = Report\nKIND = str"
    texts = {"a": first, "b": second, "c": third}
    assert list_names("classes", **texts) == ["Report", "Report"]
    assert list_names("aliases", **texts) == ["Progress", "Progress"]
    assert list_names("aliases", a="class Mask: pass", b="Mask = Float[Tensor, 'h w']") == ["Mask"]


def test_functions_of_more_than_80_lines():
    assert list_names("functions", plain=LONG) == ["load"]
    assert list_names("functions", plain=LONG.replace("    row = 1\n", "", 1)) == []


def test_functions_of_more_than_12_ways():
    # 1, if, and, or, x if y, comprehension, for, with, while, except, three cases
    assert list_names("branches", plain=BRANCHED) == ["choose"]
    assert list_names("branches", plain=BRANCHED.replace("or c", "")) == []
    apart = BRANCHED.replace("or c", "") + "    def inner():\n        if rows: pass\n"
    assert list_names("branches", plain=apart) == []


def test_docstrings_of_three_words():
    code = 'def load():\n    """Load the model."""\nclass Row:\n    """A row, [0, 1]."""\n'
    assert list_names("docstrings", plain='"""Files."""\n' + code) == ["module", "load"]


def test_files_of_400_lines():
    assert list_names("files", plain="row = 1\n" * 400, short="row = 1\n" * 399) == ["plain.py"]


def test_folders_and_prefixes():
    full = {f"data__file{number}": "" for number in range(20)}
    small = {f"recipes__{name}": "" for name in "abcdefghijklm"}
    assert list_names("folders", **full, **small) == ["data", "recipes"]
    del full["data__file7"], small["recipes__a"]
    assert list_names("folders", **full, **small) == []
    shared = {f"data__{name}": "" for name in ("layout", "layout_base", "layout_a", "_layout_b")}
    assert list_names("prefixes", **shared) == ["layout_"]
    del shared["data__layout"]
    assert list_names("prefixes", **shared, media__layout_c="") == []


def test_a_tree_is_read_from_disk(tmp_path):
    (tmp_path / "data" / "__pycache__").mkdir(parents=True)
    for name in ("a.py", "data/layout.toml", "data/layout.py", "data/__pycache__/layout.pyc"):
        (tmp_path / name).write_text("found = 1\n")
    tree = read_tree(tmp_path)
    assert tree.files == ["a.py", "data/layout.py", "data/layout.toml"]
    assert [(place.path, place.size) for place in count_folders(tree)] == [(".", 1), ("data", 2)]
    assert [str(place) for place in MEASURES["words"][0](tree)] == [
        "a.py:1: found",
        "data/layout.py:1: found",
    ]
    (tmp_path / "broken.py").write_text("def")
    with pytest.raises(SyntaxError) as error:
        read_tree(tmp_path)
    assert error.value.filename == "broken.py"


def test_the_words_of_a_name():
    assert parts_of("_MasksNotFound") == ["masks", "not", "found"]
    assert parts_of("RGBImage_of2") == ["rgb", "image", "of2"]
    assert not VERBS & {"named", "told", "drawn", "kept"}
