import pytest

from frisket.importers.base import BadImport
from frisket.importers.files import format_key, locate, peek, read_config


@pytest.fixture
def write(tmp_path):
    def write(text, name="set.toml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path):
    with pytest.raises(BadImport) as caught:
        read_config(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", "[[sets]]\npath = 'x'\n[[sets]]\n\npath = 'y'\n"),
        ("a.json", '{"sets": [\n\t{"path": "x"},\n\t{\n\t\t"path": "y"}\n]}'),
        ("a.yaml", "sets:\n  - path: x\n  -\n\n    path: y\n"),
    ],
)
def test_lines_of_every_format(write, name, text):
    config = read_config(write(text, name))
    assert [each["path"] for each in config.tree["sets"]] == ["x", "y"]
    line = text[: text.index("y", 12)].count("\n") + 1
    assert config.line(("sets", 1, "path")) == line
    assert config.line(("sets", 1, "gone")) in (3, 4, 5)  # the table it would stand in
    assert config.line(("gone",)) is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "a = 1\nb = \n", "a.toml line 2, column 5: not valid TOML"),
        ("a.toml", 'a = "C:\\data"\n', "write paths with / or in 'single quotes'"),
        ("a.json", '{"a": 1,\n "b": }', "a.json line 2, column 7: not valid JSON"),
        ("a.json", '{"a": "C:\\data"}', "write paths with / or with \\\\"),
        ("a.yaml", "a: 1\nb: [1, 2\n", "a.yaml line 3, column 1: not valid YAML"),
        ("a.yaml", "a: !!python/object/apply:os.system ['x']\n", "not valid YAML"),
        ("a.toml", b"\xff\xfea\0", "is UTF-16; save it as UTF-8"),
        ("a.toml", b"a = 1\nb = 'caf\xe9'\n", "line 2, column 9: byte 0xe9 is not UTF-8"),
        ("a.ini", "a = 1", "a configuration ends in one of .toml, .json, .yaml, .yml"),
        ("a.json", "[" * 100_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_faults_have_a_place_and_a_fix(write, name, text, said):
    path = write(text, name)
    assert said in refusal(path)
    assert peek(path) is None


def test_a_missing_and_a_huge_file(tmp_path, write):
    assert "there is no such file" in refusal(tmp_path / "none.toml")
    huge = write("", "huge.toml")
    with huge.open("wb") as file:
        file.truncate(2**34)  # sparse: reading it would take minutes
    assert "has 16384.0 MiB, at most 1 are read" in refusal(huge)


def test_a_byte_order_mark_and_windows_lines_are_no_fault(write):
    config = read_config(write(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n"))
    assert config.tree == {"a": 1, "b": 2}
    assert config.line(("b",)) == 2


def test_aliases_of_yaml_neither_explode_nor_run_in_circles(write):
    rows = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 30))
    assert "line 7, column 1: not valid YAML: holds more than 200,000 values" in refusal(
        write("k0: &k0 [x]\n" + rows, "a.yaml")
    )
    assert "a table or list holds itself" in refusal(write("a: &a [*a]\n", "b.yaml"))
    merged = "a: &a {x: 1}\nb: &b {<<: [*a, *a], y: 2}\nc: {<<: *b, on: 3, 1: 4, ~: 5}\n"
    config = read_config(write(merged, "c.yaml"))
    assert config.tree["c"] == {"x": 1, "y": 2, "on": 3, "1": 4, "~": 5}
    assert config.line(("c", "on")) == 3


def test_paths_of_here_and_of_elsewhere(tmp_path, monkeypatch):
    base = tmp_path / "config"
    (base / "set" / "clips").mkdir(parents=True)
    (tmp_path / "home" / "clips").mkdir(parents=True)
    (tmp_path / "here" / "other").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    clips = base / "set" / "clips"
    for written in ("set/clips", "set\\clips", r"C:\data\set\clips", "D:/set/clips", str(clips),
                    "/home/somebody/set/clips", r"\\server\share\set\clips"):  # fmt: skip
        assert locate(written, base)[0] == clips
    assert locate("~/clips", base)[0] == tmp_path / "home" / "clips"
    assert locate("other", base)[0] == tmp_path / "here" / "other"
    found, tried = locate("x" * 5000, base)
    assert found is None
    assert len(tried) == 2


def test_keys_as_they_are_said():
    assert (
        format_key(("datasets", 0, "subsets", 1, "image_dir")) == "datasets[0].subsets[1].image_dir"
    )
