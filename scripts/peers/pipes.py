"""diffusion-pipe: which options its text asks for, what its optimizers and schedulers do."""

import ast
import re
import textwrap
import tomllib
from collections.abc import Iterator
from typing import Any

import torch
from scripts.peers.text import Commit, run

FILES = ("train.py", "utils/dataset.py", "utils/saver.py", "utils/common.py")
OWNERS = {  # how its text calls the table of an option
    "config": "main", "self.config": "main",
    "model_config": "model", "self.model_config": "model", "config['model']": "model",
    "self.config['model']": "model", "adapter_config": "adapter", "config['adapter']": "adapter",
    "self.config['adapter']": "adapter", "optim_config": "optimizer",
    "config['optimizer']": "optimizer", "self.config['optimizer']": "optimizer",
    "directory_config": "directory", "self.directory_config": "directory",
    "dataset_config": "directory", "self.dataset_config": "directory",
}  # fmt: skip
NOT_OPTIONS = {"lora", "size_bucket", "directory"}  # read and never set, or the tables themselves
OPTIMIZERS = (
    "adamw", "AdamW8bit", "adamw_optimi", "stableadamw", "sgd", "AdamW8bitKahan", "offload",
    "automagic", "genericoptim", "Prodigy", "Lion", "CAME", "Adafactor", "Muon",
)  # fmt: skip
ROOTS = (
    "torch", "bitsandbytes", "optimi", "adamw_8bit", "automagic", "generic_optim",
    "pytorch_optimizer", "torchao",
)  # fmt: skip
LR, EPOCHS, EPOCH = 1e-4, 4, 25  # rate, epochs, steps of an epoch
RATES: tuple[dict[str, Any], ...] = (
    {}, {"lr_scheduler": "linear"}, {"lr_scheduler": "cosine"}, {"warmup_steps": 20},
    {"lr_scheduler": "linear", "warmup_steps": 20}, {"lr_scheduler": "cosine", "warmup_steps": 20},
    {"lr_scheduler": "polynomial"},
)  # fmt: skip


def record(commit: Commit) -> dict[str, Any]:
    return {
        "sections": options(commit),
        "optimizers": optimizers(commit),
        "rates": {"epochs": EPOCHS, "epoch": EPOCH, "lr": LR, "runs": list(rates(commit))},
    }


def options(commit: Commit) -> dict[str, dict[str, Any]]:
    """Options and defaults of each table: those its code reads, and those its pages show."""
    found: dict[str, dict[str, Any]] = {name: {} for name in OWNERS.values()}
    models = commit.files_in("models", ".py")
    for file in (*FILES, *models):
        for owner, name, default in _read(ast.parse(commit.text(file))):
            if file in models and owner == "config":
                continue  # there the word stands for many tables
            kept = found[OWNERS[owner]]
            if name not in NOT_OPTIONS and kept.get(name) is None:
                kept[name] = default
    for file in commit.files_in("examples", ".toml"):
        _shown(commit.text(file), found)
    blocks = commit.text("docs/supported_models.md").split("```")[1::2]
    for block in blocks:
        if "[model]" in block:
            _shown(block, found)
    return found


def _read(tree: ast.AST) -> Iterator[tuple[str, str, Any]]:
    """Table, option and default of each place that asks for one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, way = ast.unparse(node.func.value), node.func.attr
            if owner in OWNERS and way in ("get", "setdefault", "pop") and node.args:
                name = node.args[0]
                default = node.args[1] if len(node.args) > 1 else None
                if isinstance(name, ast.Constant):
                    yield owner, str(name.value), _value(default)
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) in OWNERS:
            if isinstance(node.slice, ast.Constant):
                yield ast.unparse(node.value), str(node.slice.value), None
        elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant):
            owner = ast.unparse(node.comparators[0])
            if owner in OWNERS and isinstance(node.ops[0], ast.In | ast.NotIn):
                yield owner, str(node.left.value), None


def _value(node: ast.AST | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None  # another option's value, or one that depends on the machine


def _shown(text: str, found: dict[str, dict[str, Any]]) -> None:
    """Options that an example shows, those in comments too; as null where no code has a default."""
    section = "main" if "[model]" in text else "directory"
    for line in text.splitlines():
        table = re.match(r"#?\s*\[+(\w+)\]+\s*$", line)
        option = re.match(r"#?\s*(\w+) = \S", line)
        if table:
            section = table[1] if table[1] in found else "monitoring"
        elif option and section in found:
            try:
                tomllib.loads(line.lstrip("# "))
            except tomllib.TOMLDecodeError:
                if "[" not in line:
                    continue
            found[section].setdefault(option[1], None)


def optimizers(commit: Commit) -> dict[str, Any]:
    """The class of each optimizer by its type, as the lines of its training script choose it."""
    text = commit.text("train.py").splitlines()
    start = next(n for n, line in enumerate(text) if "if optim_type_lower == 'adamw':" in line)
    stop = next(n for n, line in enumerate(text) if "klass = getattr(pytorch_optimizer" in line)
    choice = textwrap.dedent("\n".join(text[start : stop + 1]))
    chosen = {}
    for name in OPTIMIZERS:
        source = re.sub(r"^(\s*)(from|import) .*$", r"\1pass", choice, flags=re.MULTILINE)
        source = source.replace("CPUOffloadOptimizer", "torchao.CPUOffloadOptimizer")
        given = {"optim_type": name, "optim_type_lower": name.lower(), "args": [], "kwargs": {}}
        local: dict[str, Any] = given | {root: _Path(root) for root in ROOTS}
        run(source, local)
        chosen[name] = str(local["klass"])
    return chosen


class _Path:
    """A module or class that remembers its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> "_Path":
        return _Path(f"{self._name}.{name}")

    def __str__(self) -> str:
        return self._name


def rates(commit: Commit) -> Iterator[dict[str, Any]]:
    """The rate at each step as its own lines schedule it; null where they stop."""
    end = "model_engine.lr_scheduler = lr_scheduler"
    part = commit.part("train.py", "scheduler_type = config.get", end)
    for options_ in RATES:
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight], lr=LR)
        config = {"epochs": EPOCHS, "warmup_steps": 0} | options_
        names = {"torch": torch, "optimizer": optimizer, "config": config, "steps_per_epoch": EPOCH}
        values: list[float] | None = []
        try:
            run(part, names)
            for _ in range(EPOCHS * EPOCH):
                values.append(optimizer.param_groups[0]["lr"] / LR)
                optimizer.step()
                names["lr_scheduler"].step()
        except NotImplementedError:
            values = None
        yield {"options": options_, "shares": values and [round(v, 6) for v in values[::5]]}
