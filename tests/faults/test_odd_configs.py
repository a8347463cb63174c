"""What a stranger, or a slip, may put where a configuration should be: one sentence each."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from frisket.config.load import ConfigError, check, read

GOOD = '[model]\nfamily = "pocket"\n[lora]\nrank = 4\n'


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**31)


ODD: dict[str, tuple[Callable[[Path], object] | bytes, str]] = {
    "folder": (folder, "is a folder, not a config file; write one with `frisket init"),
    "pipe": (pipe, "is a pipe, a file is needed"),
    "2 GB": (huge, "has 2048.0 MiB, at most 1 are read; is it the right file?"),
    "nothing": (lambda _: None, "does not exist; `frisket init"),
    "NUL": (b"[lora]\nrank = 4 # \0", "line 2: is UTF-16 or binary (it holds NUL bytes)"),
    "UTF-16": (GOOD.encode("utf-16"), "is UTF-16; save it as UTF-8"),
    "UTF-16 without mark": (GOOD.encode("utf-16-le"), "is UTF-16 or binary"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", "is UTF-16 or binary"),
    "latin-1": ('[run]\noutput = "Gewänder"'.encode("latin-1"), "line 2: byte 0xe4 is not UTF-8"),
    "deep lists": (b"a = " + b"[" * 100_000, "nested too deeply (at most 64"),
    "deep tables": (b"a = " + b"{a = " * 50_000, "nested too deeply (at most 64"),
    "65 levels": (b"a = " + b"[" * 65 + b"]" * 65, "nested too deeply (at most 64"),
    "a long key": (b"a" + b".a" * 200_000 + b" = 1", "line 1, column 1: not valid TOML: a key of"),
    "quoted keys": (b"[" + b'"x" . ' * 90_000 + b"x]", "a key of more than 64 parts"),
    "endless digits": (b"a = " + b"1" * 9000, "a number too large to be one"),
    "a huge number": (b"a = 0x" + b"f" * 9000, "a whole number of more than 64 bits"),
    "endless text": (b'[lora]\nrank = "' + b"x" * 900_000 + b'"', "`lora.rank` should be a whole"),
    "an endless key": (b"[lora]\n" + b"y" * 900_000 + b" = 1", "unknown key `yyy"),
    "an endless list": (b"[lora]\nrank = [" + b"1," * 20_000 + b"]", "got [1, 1, 1"),
    "an endless line": (b'a = "' + b"z" * 900_000 + b"\n", "not valid TOML"),
}


@pytest.mark.parametrize("name", ODD)
def test_it_is_said_in_a_sentence(tmp_path: Path, name: str) -> None:
    made, said = ODD[name]
    path = tmp_path / "run.toml"
    path.write_bytes(made) if isinstance(made, bytes) else made(path)
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("raw", [GOOD.encode("utf-8-sig"), GOOD.replace("\n", "\r\n").encode()])
def test_marks_and_line_ends_are_no_fault(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "run.toml").write_bytes(raw)
    assert read(tmp_path / "run.toml")[0].lora.rank == 4


@pytest.mark.parametrize(
    "override",
    [
        "lora.rank=" + "[" * 5000,
        "lora.rank=" + "9" * 9000,
        "lora.rank=" + "x" * 100_000,
        "x" * 100_000 + "=1",
        "lora" + ".rank" * 30_000 + "=1",
        "data.99999999999999999999.clips=x",
        "data.²=1",
        "lora.rank.x=1",
        "=" * 50_000,
    ],
    ids=range(9),
)
def test_an_override_is_cut_where_it_is_said(tmp_path: Path, override: str) -> None:
    (tmp_path / "run.toml").write_text(GOOD)
    with pytest.raises(ConfigError) as refused:
        read(tmp_path / "run.toml", (override,))
    assert "--set " in str(refused.value)
    assert len(str(refused.value)) < 900


def test_a_home_nobody_has_is_a_path_like_any(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[run]\noutput = "~nobody-of-this-name/x"\n')
    assert read(tmp_path / "run.toml")[0].run.output == tmp_path / "~nobody-of-this-name" / "x"


def optimizer(folder: Path, name: str, more: str = "") -> Path:
    path = folder / "run.toml"
    path.write_text(f'[model]\nfamily = "pocket"\n[optimizer]\nname = "{name}"\n{more}')
    return path


def test_no_module_of_a_configuration_is_run_without_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evilmod.py").write_text("raise RuntimeError('it ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"run.toml line 4: .*optimizer\.trust = true`, else"):
        check(*read(optimizer(tmp_path, "evilmod.Evil")))
    assert "evilmod" not in sys.modules
    with pytest.raises(ConfigError, match=r"evilmod cannot be imported .RuntimeError: it ran"):
        check(*read(optimizer(tmp_path, "evilmod.Evil", "trust = true\n")))


@pytest.mark.parametrize("name", ["adamw", "torch.optim.NAdam", "schedulefree.RAdamScheduleFree"])
def test_aliases_and_the_modules_behind_them_need_no_trust(tmp_path: Path, name: str) -> None:
    check(*read(optimizer(tmp_path, name)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torch.optim.LBFGS", "line 4: optimizer 'torch.optim.LBFGS': its step.* needs the loss"),
        ("torch.optim.SparseAdam", "does not support dense gradients"),
        ("torch.optim.Nothing", "no optimizer class 'Nothing'"),
        ("torch.optim..Adam", "is no import path"),
    ],
)
def test_a_class_that_cannot_step_is_refused_before_any_work(
    tmp_path: Path, name: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        check(*read(optimizer(tmp_path, name, "trust = true\n")))


def test_a_package_that_is_not_here_is_left_to_training(tmp_path: Path) -> None:
    check(*read(optimizer(tmp_path, "not_installed_here.Lion", "trust = true\n")))


@pytest.mark.slow  # a process
def test_the_command_line_says_it_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(b'[lora]\nrank = "\\u001b[31m' + b"x" * 900_000 + b'"')
    done = subprocess.run(
        [sys.executable, "-m", "frisket.cli.app", "inspect", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert len(done.stderr) < 600
