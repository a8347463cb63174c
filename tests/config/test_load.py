"""Config files: values, overrides, paths, and what a mistake is told."""

import subprocess
import sys
from pathlib import Path

import pytest

from frisket.config.load import ConfigError, check, load, read
from frisket.config.provenance import lines_of


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "run.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def understand(path, overrides, deep):
    config, origin = read(path, overrides)
    if deep:
        check(config, origin)


def message(path, *overrides, deep=False):
    """What a config is refused with."""
    with pytest.raises(ConfigError) as caught:
        understand(path, overrides, deep)
    return str(caught.value)


def test_values_and_defaults(write):
    config = load(write('[model]\nfamily = "wan"\n[regions]\nface = 2\nbackground = 0.1\n'))
    assert config.model.family == "wan"
    assert config.regions == {"face": 2.0, "background": 0.1}
    assert config.lora.rank == 16
    assert config.losses.terms == {"denoise": {"strength": 1.0}}


def test_an_empty_file_is_a_config(write):
    assert load(write("")).data == ()


def test_a_byte_order_mark_is_no_key(tmp_path):
    (tmp_path / "run.toml").write_bytes(b"\xef\xbb\xbf[lora]\r\nrank = 4\r\n")
    assert load(tmp_path / "run.toml").lora.rank == 4


def test_relative_paths_start_at_the_file(write, tmp_path, monkeypatch):
    text = """
[[data]]
clips = "clips"
masks = { face = "m/face", hair = "/abs/hair" }
captions = "../words"
[swap]
path = "backs"
[run]
output = "out"
[regions]
face = 1
hair = 1
"""
    monkeypatch.chdir("/")
    config = load(write(text))
    (data,) = config.data
    assert data.clips == tmp_path / "clips"
    assert data.masks.regions == {"face": tmp_path / "m/face", "hair": Path("/abs/hair")}
    assert data.captions == tmp_path.parent / "words"
    assert config.swap.path == tmp_path / "backs"
    assert config.run.output == tmp_path / "out"
    assert config.run.cache == tmp_path / ".frisket-cache"


def test_a_source_is_a_path_only_where_it_looks_or_is_one(write, tmp_path):
    path = write('[model]\nsource = "org/name"\n')
    assert load(path).model.source == "org/name"
    assert load(path, ["model.source=./weights"]).model.source == str(tmp_path / "weights")
    (tmp_path / "org/name").mkdir(parents=True)
    assert load(path).model.source == str(tmp_path / "org/name")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("lora.rank=8", 8),
        ("lora.rank = 8", 8),
        ('lora.targets=["q", "k"]', ("q", "k")),
        ("lora.kind=dora", "dora"),
        ("lora.alpha=0.5", 0.5),
    ],
)
def test_overrides_are_toml_values_and_bare_words(write, override, value):
    config = load(write("[lora]\nrank = 4\n"), [override])
    assert getattr(config.lora, override.split("=")[0].split(".")[1].strip()) == value


def test_overrides_reach_entries_of_lists_and_add_one(write, tmp_path):
    path = write('[[data]]\nclips = "a"\n')
    config = load(path, ["data.0.clips=b", "data.1.clips=c", "data.1.trigger=sks"])
    assert [each.clips.name for each in config.data] == ["b", "c"]
    assert config.data[1].trigger == "sks"
    assert load(write(""), ["data.0.clips=x"]).data[0].clips == tmp_path / "x"


def test_an_override_opens_a_bare_strength_into_its_table(write):
    config = load(write("[losses]\nprior = 0.2\n"), ["losses.prior.t_power=2"])
    assert config.losses.terms["prior"] == {"strength": 0.2, "t_power": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "\n\n[curve]\n\ngama = 1\n",
            "run.toml line 5: unknown key `gama` in [curve], did you mean `gamma`?",
        ),
        ("rank = 4\n", "run.toml line 1: unknown key `rank`; it belongs in [lora]"),
        (
            "[lora]\nrank = 0\n",
            "run.toml line 2: `lora.rank` should be greater than or equal to 1, got 0",
        ),
        (
            '[lora]\nrank = "big"\n',
            "run.toml line 2: `lora.rank` should be a whole number, got 'big'",
        ),
        (
            '[model]\ndtype = "bf16"\n',
            "run.toml line 2: `model.dtype` should be 'float32', 'bfloat16' or 'float16',"
            " got 'bf16', did you mean `bfloat16`?",
        ),
        ('[[data]]\nmasks = "alpha"\n', "run.toml line 1: [[data]] needs `clips`"),
        (
            '[[data]]\nclips = "a"\n[[data]]\nclips = "b"\nflop = true\n',
            "run.toml line 5: unknown key `flop` in [[data]], did you mean `flip`?",
        ),
        (
            '[[data]]\nclips = "a"\nresolution = "big"\n',
            "run.toml line 3: `data.0.resolution` should be a whole number or a list, got 'big'",
        ),
        (
            '[[data]]\nclips = "a"\n[data.masks]\nsource = "folder"\n',
            'run.toml line 3: masks: source = "folder" needs `path`',
        ),
        ("[swap]\nrate = 0.5\n", 'run.toml line 1: swap: source = "bank" needs `prompts`'),
        ("[regions]\nbackground = 1\n", "run.toml line 1: regions: name at least one region"),
        ("[losses]\nnormalize = 'batch'\n", "did you mean `normalise`?"),
        (
            '[[data]]\nclips = "C:\\foo"\n',
            "line 2: `data.0.clips` = 'C:\\x0coo' holds a control character",
        ),
    ],
)
def test_a_mistake_names_line_value_and_fix(write, text, said):
    assert said in message(write(text))


def test_every_mistake_is_named_at_once(write):
    said = message(write("[lora]\nrank = 0\n[curve]\ngamma = -1\n"))
    assert "line 2" in said
    assert "line 4" in said


def test_a_mistaken_override_names_itself(write):
    path = write("[lora]\nrank = 4\n")
    assert message(path, "lora.rank=0").startswith("--set lora.rank=0: `lora.rank` should be")
    assert message(path, "lora.rang=8") == (
        "--set lora.rang=8: unknown key `rang` in [lora], did you mean `rank`?"
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("lora.rank", "write it as key=value"),
        ("lora..rank=3", "is no key"),
        ("data.3.clips=x", "has 1 entries, numbered from 0; not '3'"),
        ("data.x.clips=y", "not 'x'"),
        ("model.family.x=3", "model.family is 'wan', no table"),
        ("preview.seeds=[1, 2", "is no TOML value"),
    ],
)
def test_a_malformed_override_says_how(write, override, said):
    path = write('[model]\nfamily = "wan"\n[[data]]\nclips = "a"\n')
    assert said in message(path, override)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model]\nfamily = wan\n", "run.toml line 2, column 10: not valid TOML: "),
        ("[model]\nfamily = wan\n", "text stands in quotes\n    family = wan"),
        ("[lora]\nrank = 4\nrank = 5\n", "not valid TOML: Cannot overwrite a value"),
        ("[lora\n", "line 1"),
        ("[[data]]\nflip = True\n", "TOML writes true and false"),
        ('[[data]]\nclips = "C:\\data"\n', "write paths with / or in 'single quotes'"),
        ('[[data]]\nmasks = { a = "x",\n', "an inline { table } stands on one line"),
    ],
)
def test_a_syntax_error_names_line_and_remedy(write, text, said):
    assert said in message(write(text))


def test_a_missing_file_tells_of_init(tmp_path):
    said = message(tmp_path / "none.toml")
    assert "none.toml does not exist" in said
    assert "frisket init" in said


def test_a_folder_tells_what_it_holds(write, tmp_path):
    write("")
    assert "it holds run.toml" in message(tmp_path)


def test_another_encoding_is_named(tmp_path):
    (tmp_path / "run.toml").write_bytes('trigger = "Gewänder"'.encode("latin-1"))
    assert "run.toml line 1: byte 0xe4 is not UTF-8; save the file as UTF-8" in message(
        tmp_path / "run.toml"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[model]\nfamily = "wam"\n',
            "run.toml line 2: no family is named 'wam', did you mean `wan`?",
        ),
        (
            '[model]\nvariant = "imag"\n',
            "line 2: pocket has no variant 'imag', did you mean `image`?",
        ),
        ("[losses]\nprio = 0.2\n", "line 2: no loss term is named 'prio', did you mean `prior`?"),
        (
            "[losses]\nprior = { strength = 0.2, thresh = 0.5 }\n",
            "line 2: prior has no option 'thresh', did you mean `threshold`?",
        ),
        ('[losses]\ndenoise = { kind = "mae" }\n', "`losses.denoise.kind` should be 'mse', 'l1'"),
        ('[losses]\ndenoise = { delta = "x" }\n', "`losses.denoise.delta` should be a number"),
        ("[losses]\ndenoise = { delta = -1 }\n", "delta must be > 0, got -1"),
        ('[losses]\nprior = { strength = "x" }\n', "`losses.prior.strength` should be a number"),
    ],
)
def test_what_the_shelves_know_is_checked(write, text, said):
    path = write(text)
    load(path)  # reading alone is not concerned with the shelves
    assert said in message(path, deep=True)


def test_a_good_config_passes_the_check(write):
    path = write("[losses]\nprior = { strength = 0.2, t_min = 0.4 }\n[model]\nvariant = 'image'\n")
    check(*read(path))


def test_lines_of_every_kind_of_statement():
    text = """# a comment
top = 1
[a.b]
c.d = 2
list = [
  1, # [not.a.header]
  2,
]
words = '''
[nor.this]
'''
[[e]]
x = { y = 1, z = [{ w = 2 }] }
[[e]]
[e.f]
x = 1
[[e.g]]
"quoted.key" = 1
"""
    lines = lines_of(text)
    assert lines["top",] == 2
    assert lines["a", "b"] == 3
    assert lines["a", "b", "c", "d"] == 4
    assert lines["a", "b", "words"] == 9
    assert lines["e", 0] == 12
    assert lines["e", 0, "x", "z", 0, "w"] == 13
    assert lines["e", 1] == 14
    assert lines["e", 1, "f", "x"] == 16
    assert lines["e", 1, "g", 0, "quoted.key"] == 18
    assert not {"not", "nor"} & {key[0] for key in lines}


def test_reading_a_config_imports_no_torch(write):
    code = (
        f"from frisket.config.load import load; load({str(write(''))!r});"
        "import sys; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PERSON = {"face": 1.0, "body": 0.502, "hair": 0.314, "background": 0.0}


def test_regions_by_preset(write):
    assert load(write('regions = "person"\n')).regions == PERSON
    greys = {name: round(255 * weight) for name, weight in PERSON.items()}
    assert greys == {"face": 255, "body": 128, "hair": 80, "background": 0}
    changed = load(write('[regions]\npreset = "person"\nhair = 0.5\nhat = 0.1\n')).regions
    assert changed == PERSON | {"hair": 0.5, "hat": 0.1}
    assert load(write(""), ["regions=person"]).regions == PERSON
    assert "no preset is named 'persn', did you mean 'person'?" in message(
        write('regions = "persn"\n')
    )


def test_the_legend_beside_label_maps_is_taken(write, tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "legend.json").write_text('{"face": 1, "hair": 2}')
    text = '[[data]]\nclips = "clips"\nmasks = "masks"\n'
    config = load(write(text + '[regions]\npreset = "person"\n'))
    assert config.data[0].masks.legend == {"face": 1, "hair": 2}
    assert "gives hair no weight" in message(write(text + "[regions]\nface = 1\n"))
    own = '[[data]]\nclips = "clips"\nmasks = { source = "folder", path = "masks", %s }\n'
    told = load(write(own % "levels = { face = 255 }" + "[regions]\nface = 1\n"))
    assert told.data[0].masks.legend == {}


def test_a_broken_legend_is_named(write, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "legend.json").write_text('{"face": "one"}')
    text = '[[data]]\nclips = "clips"\nmasks = "sidecar"\n[regions]\nface = 1\n'
    assert "legend.json: should be a table of region to index" in message(write(text))
