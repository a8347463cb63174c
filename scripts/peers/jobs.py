"""ai-toolkit: which options its classes ask for, what its optimizers and schedulers do."""

import ast
import os
import random
import sys
import time
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from types import SimpleNamespace as Stub
from typing import Any

import torch
from scripts.peers.text import Commit, run

CONFIG = "toolkit/config_modules.py"
PROCESSES = tuple(
    f"jobs/process/{name}.py" for name in ("BaseSDTrainProcess", "BaseTrainProcess", "BaseProcess")
)
CLASSES = {
    "train": "TrainConfig", "ema": "EMAConfig", "network": "NetworkConfig", "save": "SaveConfig",
    "sample": "SampleConfig", "model": "ModelConfig", "dataset": "DatasetConfig",
}  # fmt: skip
NEEDED = {"model": {"name_or_path": "x"}}
OPTIMIZERS = (
    "adam", "adamw", "adam8", "adamw8", "adam8bit", "adamw8bit", "ademamix8bit", "lion", "lion8bit",
    "adagrad", "adafactor", "prodigy", "prodigyopt", "prodigy8bit", "dadaptation",
    "dadaptationadam", "dadaptationlion", "automagic", "automagic2", "automagic3",
)  # fmt: skip
STEPS = 100
RATES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("constant", {}), ("linear", {}), ("linear", {"start_factor": 1.0, "end_factor": 0.1}),
    ("cosine", {}), ("cosine", {"eta_min": 2e-5}), ("cosine_with_restarts", {}),
    ("cosine_with_restarts", {"T_0": 25, "eta_min": 1e-5}), ("step", {"step_size": 10}),
    ("constant_with_warmup", {"num_warmup_steps": 20}), ("constant_with_warmup", {}),
    ("polynomial", {"num_warmup_steps": 5}),
)  # fmt: skip
LR = 1e-4


class Asked(dict[str, Any]):
    """Options that remember what was asked of them, and with which default."""

    def __init__(self, given: dict[str, Any] | None = None) -> None:
        super().__init__(given or {})
        self.names: dict[str, Any] = {}

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict does; the name and its default are kept."""
        self.names.setdefault(name, default)
        return super().get(name, default)


@contextmanager
def modules(**given: Any) -> Iterator[None]:
    """Modules by name while inside, in place of those there are."""
    there = dict(sys.modules)
    sys.modules.update(given)
    try:
        yield
    finally:
        sys.modules.clear()
        sys.modules.update(there)


def module(name: str, **inside: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(inside)
    return made


def record(commit: Commit) -> dict[str, Any]:
    return {
        "sections": options(commit),
        "optimizers": optimizers(commit),
        "rates": rates(commit),
        "accumulation": accumulation(commit),
    }


def options(commit: Commit) -> dict[str, dict[str, Any]]:
    """Options and defaults of each section, as its classes ask for them."""
    names: dict[str, Any] = {}
    stubs = {
        "torchaudio": module("torchaudio"),
        "toolkit": module("toolkit"), "toolkit.audio": module("toolkit.audio"),
        "toolkit.audio.album_artwork": module("album_artwork", add_album_artwork=None),
        "toolkit.prompt_utils": module("prompt_utils", PromptEmbeds=None),
        "torchao": module("torchao"), "torchao.quantization": module("quantization"),
        "torchao.quantization.quant_primitives": module("q", _DTYPE_TO_BIT_WIDTH={}),
    }  # fmt: skip
    text = commit.text(CONFIG)
    with modules(**stubs):
        run(text, names)
    found = {}
    bodies = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    for section, name in CLASSES.items():
        asked = Asked(NEEDED.get(section))
        # Its __init__, with our dict for **kwargs.
        init = next(n for n in bodies[name].body if isinstance(n, ast.FunctionDef))
        init.args.kwarg, init.args.args = None, [*init.args.args, ast.arg("kwargs")]
        body = ast.fix_missing_locations(ast.Module([init], []))
        inside = {**names, "os": os, "time": time, "random": random, "torch": torch, **vars(typing)}
        exec(compile(body, CONFIG, "exec"), inside)
        inside["__init__"](Stub(), asked)
        asked.names.pop("cache_latents_num_workers", None)  # by the number of cores
        asked.names |= {name: None for name in ("extras_name_or_path",) if name in asked.names}
        found[section] = asked.names
    item = Asked()
    node = next(n for n in bodies["SampleItem"].body if isinstance(n, ast.FunctionDef))
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "kwargs.get":
            item.names[ast.literal_eval(call.args[0])] = None
    found["item"] = item.names
    found["process"] = processes(commit)
    return found


def processes(commit: Commit) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in PROCESSES:
        for call in ast.walk(ast.parse(commit.text(file))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "self.get_conf":
                name = call.args[0]
                if isinstance(name, ast.Constant):
                    default = call.args[1] if len(call.args) > 1 else ast.Constant(None)
                    constant = isinstance(default, ast.Constant)
                    found[str(name.value)] = default.value if constant else None
    return found


def optimizers(commit: Commit) -> dict[str, Any]:
    """The class and the arguments of each optimizer, as its own function builds them."""
    built: dict[str, Any] = {}

    class Anything(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)

            def build(_: Any, **given: Any) -> Any:
                return {"class": f"{self.__name__}.{name}", "given": given}

            return build

    roots = ("bitsandbytes", "prodigyopt", "lion_pytorch", "dadaptation")
    own = ("adam8bit", "adafactor", "automagic", "automagic2", "automagic3", "prodigy_8bit")
    stubs: dict[str, Any] = {name: Anything(name) for name in roots}
    stubs["bitsandbytes"].optim = Anything("bitsandbytes.optim")
    stubs |= {name: Anything(name) for name in ("toolkit", "toolkit.optimizers")}
    stubs |= {f"toolkit.optimizers.{name}": Anything(f"toolkit.optimizers.{name}") for name in own}
    build = commit.function("toolkit/optimizer.py", "get_optimizer")
    build.__globals__["torch"] = Stub(optim=Anything("torch.optim"))
    with modules(**stubs):
        for name in OPTIMIZERS:
            built[name] = {str(rate): build([], name, rate, {}) for rate in (LR, 1.0)}
    return built


def rates(commit: Commit) -> list[Any]:
    """The rate at each step of a run of STEPS, as its own function schedules it; null: it stops."""
    names: dict[str, Any] = {}
    run(commit.text("toolkit/scheduler.py"), names)
    found = []
    for name, params in RATES:
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight], lr=LR)
        values: list[float] | None = []
        try:
            made = names["get_lr_scheduler"](name, optimizer, **(params | {"total_iters": STEPS}))
            for _ in range(STEPS):
                values.append(optimizer.param_groups[0]["lr"] / LR)
                optimizer.step()
                made.step()
        except (TypeError, ValueError):
            values = None
        kept = values and [round(each, 6) for each in values[:: STEPS // 20]]
        found.append({"name": name, "params": params, "shares": kept})
    return found


def accumulation(commit: Commit) -> list[Any]:
    """Of 12 steps, which micro-batches each update was made of: `steps` is the legacy option."""
    file = "jobs/process/BaseSDTrainProcess.py"
    loop = commit.part(file, "# setup accumulation", "# flush()")
    hook = commit.function(
        "extensions_built_in/sd_trainer/SDTrainer.py",
        "hook_train_loop",
        OrderedDict=dict, List=list, Union=Any, DataLoaderBatchDTO=object, CustomAdapter=Stub,
        ClipVisionAdapter=Stub, sync_grad_transfers=lambda: None,
    )  # fmt: skip
    return [_updates(loop, hook, inner, legacy) for inner, legacy in ((1, 1), (4, 1), (1, 4))]


def _updates(loop: str, hook: Any, inner: int, legacy: int) -> dict[str, Any]:
    held: list[int] = []
    updates: list[list[int]] = []

    @contextmanager
    def timer(_: str) -> Iterator[None]:
        yield

    class Loss(float):
        def __truediv__(self, other: float) -> Any:
            return Stub(item=lambda: float(self) / other)

        def __add__(self, other: float) -> "Loss":
            return Loss(float(self) + float(other))

    def one(batch: int) -> Loss:
        held.append(batch)
        return Loss(1.0)

    asked = {"gradient_accumulation": inner, "gradient_accumulation_steps": legacy}
    owner = Stub(
        train_config=Stub(**asked, optimizer="x", max_grad_norm=1),
        optimizer=Stub(zero_grad=lambda **_: held.clear(), step=lambda: updates.append(list(held))),
        accelerator=Stub(clip_grad_norm_=lambda *_: None),
        lr_scheduler=Stub(step=lambda: None),
        sd=Stub(is_multistage=False), model_config=Stub(low_vram=False), steps_this_boundary=0,
        params=[torch.zeros(1)], timer=timer, adapter=None, ema=None, embedding=None,
        train_single_accumulation=one, end_of_training_loop=lambda: None,
        grad_accumulation_step=1, is_grad_accumulation_step=False,
    )  # fmt: skip
    count = 0
    for _ in range(12):
        owner.is_grad_accumulation_step = True
        run(loop, {"self": owner})
        batches = list(range(count, count + inner))
        count += inner
        hook(owner, batches)
        owner.grad_accumulation_step += 1
    return asked | {"updates": updates}
