"""What docs/security.md promises of the source: nothing in it runs a stranger's file as code."""

import ast
import importlib.metadata
import re
import sysconfig
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "frisket"

# What may run code, unpickle or download, and the files that may call it, each with its reason.
POWERS = {
    r"(builtins\.)?(eval|exec|compile|__import__)": (),
    r"(importlib\.)?import_module": (
        "__init__.py",  # the library's own names, when they are first used
        "registry.py",  # plugins: our own modules
        "studio/app.py",  # and the modules of routes and operations, by our own names
        "recipes/serve/answer.py",
        "training/optim.py",  # optimizer.name: behind the aliases, or with optimizer.trust
        "data/formats/parquet.py",  # and others: packages by fixed names
        "families/quantise.py",
        "faces/sessions.py",  # onnxruntime
        "maskgen/text/spacy_chunks.py",
        "media/stills/readers.py",
    ),
    r"(os\.(system|popen|exec\w*|spawn\w*)|subprocess\.\w+|pty\.\w+|Popen)": (
        "studio/live/cards.py",  # nvidia-smi
        "studio/jobs/processes.py",  # our own commands, sealed by who opened the studio
        "studio/live/graphics_cards.py",  # nvidia-smi with fixed words, for memory and load
    ),
    r"(pickle|cPickle|dill|joblib|shelve|marshal|cloudpickle)\.\w+": (),
    r"yaml\.(load|load_all|unsafe_load|full_load|Loader|UnsafeLoader|FullLoader)": (),
    r"(np|numpy)\.(load|fromfile|memmap)": (),
    r"torch\.jit\.load": ("maskgen/backends/sapiens.py",),  # a program, of a file the user named
    r"torch\.(load|hub\.load)": (  # weights_only: see below
        "training/checkpoint.py",
        "adapters/image/pickles.py",  # published image adapters are .bin files
        "faces/embedders/iresnet.py",  # and its backbones .pth files
    ),
    r"(hf_hub_download|snapshot_download|huggingface_hub\.\w+)": (
        "families/weights.py",
        "maskgen/vision/loading.py",
    ),
    r"(urlopen|urllib\.request\.\w+|requests\.\w+|httpx\.\w+|socket\.(socket|create_\w+))": (
        "cli/studio/command.py",  # listens on 127.0.0.1, and nowhere else
    ),
    r"(tempfile\.mktemp|\w+\.extractall)": (),
    r"(ElementTree|etree|minidom|sax)\.(parse|fromstring|iterparse|XML)": (),
}


@cache
def calls() -> list[tuple[str, str, ast.Call]]:
    """Every call in the source: its file, the dotted name of what is called, and the call."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        file = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found.append((file, dotted(node.func), node))
    return found


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_nothing_runs_unpickles_or_downloads_but_where_it_is_meant_to() -> None:
    found = [
        f"{file} line {call.lineno}: {name}"
        for file, name, call in calls()
        for power, allowed in POWERS.items()
        if re.fullmatch(power, name) and file not in allowed
    ]
    assert not found, f"say in docs/security.md what this is for, and list it here: {found}"


def test_what_is_loaded_is_data_and_no_code_of_the_hub() -> None:
    for file, name, call in calls():
        given = {each.arg: ast.unparse(each.value) for each in call.keywords}
        if name == "torch.load":
            assert given.get("weights_only") == "True", file
        assert given.get("trust_remote_code", "False") == "False", file
        assert given.get("allow_pickle", "False") == "False", file


def test_pages_escape_what_they_are_given() -> None:
    environments = [call for _, name, call in calls() if name.endswith("Environment")]
    assert environments
    for call in environments:
        assert "autoescape" in {each.arg for each in call.keywords}
    # Markup of our own may be marked safe; a value of a stranger's never is.
    safe = re.compile(r"\{\{([^}]*)\|\s*safe")
    for template in SOURCE.rglob("*.j2"):
        for value in safe.findall(template.read_text(encoding="utf-8")):
            assert not re.search(r"caption|name|path|prompt|region|trigger|note|told|said", value)


def test_the_notice_names_every_wheel_that_bundles_libraries() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8").lower()
    site = Path(sysconfig.get_paths()["purelib"])
    for needed in importlib.metadata.requires("frisket") or ():
        name = re.match(r"[\w.-]+", needed)[0]  # type: ignore[index]
        if (site / f"{name.replace('-', '_').lower()}.libs").is_dir():
            assert f"{name.lower()} " in notice, f"NOTICE is silent on {name}"
    encoders = {path.name.partition("-")[0] for path in (site / "av.libs").glob("libx26*")}
    assert all(name in notice for name in encoders)


@pytest.mark.parametrize("name", ["optimizer.trust", "optimizer.name", "run.trackers", "run.cache"])
def test_the_page_names_settings_that_are_there(name: str) -> None:
    from frisket.config.tree import Config

    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    assert f"`{name}" in page
    section, _, key = name.partition(".")
    assert key in Config.model_fields[section].annotation.model_fields
