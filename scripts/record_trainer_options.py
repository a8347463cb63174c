"""Records what OneTrainer and SimpleTuner read of a job, for tests/importers/trainers.

    python scripts/record_trainer_options.py onetrainer=CHECKOUT simpletuner=CHECKOUT

CHECKOUT is a folder of git (`@COMMIT` behind it picks one). Their own code is run: OneTrainer's
classes of configuration, its choice of an optimizer and its schedules; SimpleTuner's command line,
its table of optimizers and its schedules. Kept are names, types, defaults and numbers.
"""

import argparse
import ast
import enum
import importlib.util
import inspect
import io
import json
import logging
import math
import re
import subprocess
import sys
import tarfile
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace as Stub
from typing import Any, ClassVar

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.peers.text import Commit, run  # noqa: E402

TO = ROOT / "tests/importers/trainers/peers"
REPOSITORIES = {"onetrainer": "Nerogar/OneTrainer", "simpletuner": "bghira/SimpleTuner"}


@contextmanager
def unpacked(commit: Commit) -> Iterator[Path]:
    """The whole tree of a commit, importable while it lasts."""
    words = ["git", "-C", commit.folder, "archive", commit.name]
    packed = subprocess.run(words, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            tar.extractall(folder, filter="data")
        sys.path.insert(0, folder)
        yield Path(folder)


def plain(value: Any) -> Any:
    """A value as JSON keeps it."""
    if isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return value


# OneTrainer


def fields(config: Any) -> dict[str, Any]:
    """The options of one of its tables."""
    found = {}
    for name, kind in config.types.items():
        default = config.default_values[name]
        if hasattr(default, "types"):
            found[name] = {"type": "table"}
            continue
        choices = [str(each) for each in kind] if isinstance(kind, enum.EnumMeta) else None
        named = "enum" if choices else getattr(kind, "__name__", "str")
        more = {"choices": choices} if choices else {}
        found[name] = {"type": named, "default": plain(default), **more}
    return found


class Fake(types.ModuleType):
    """A package that is not installed; its classes give their name and what they were called."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def made(*_: Any, **options: Any) -> Any:
            return Stub(built=f"{self.__name__}.{name}", options=options, param_groups=[])

        return made


def onetrainer(commit: Commit) -> dict[str, Any]:
    with unpacked(commit):
        concepts = import_module("modules.util.config.ConceptConfig")
        samples = import_module("modules.util.config.SampleConfig").SampleConfig
        train = import_module("modules.util.config.TrainConfig")
        optimizers = import_module("modules.util.enum.Optimizer").Optimizer

        whole = train.TrainConfig.default_values()
        concept = concepts.ConceptConfig.default_values()
        tables = {
            "config": whole,
            "part": whole.unet,
            "optimizer": whole.optimizer,
            "quantization": whole.quantization,
            "embedding": train.TrainEmbeddingConfig.default_values(),
            "sample": samples.default_values(whole.model_type),
            "concept": concept,
            "image": concept.image,
            "text": concept.text,
        }
        sections = {name: fields(table) for name, table in tables.items()}
        for name in ("seed", "uuid"):  # drawn by chance there
            for section in sections.values():
                section.get(name, {}).pop("default", None)
        build = commit.function(
            "modules/util/create.py", "create_optimizer", **optimizing(optimizers)
        )
        text = commit.text("modules/util/optimizer_util.py")
        names = {"Optimizer": optimizers}
        run(text[text.index("OPTIMIZER_DEFAULT_PARAMETERS = ") :], names)
        forms: dict[Any, Any] = names["OPTIMIZER_DEFAULT_PARAMETERS"]
        shown = {str(kind): plain(form) for kind, form in forms.items()}
        bare, offered = {}, {}
        for kind in optimizers:
            bare[str(kind)] = built(build, train.TrainConfig, {"optimizer": str(kind)})
            form = {"optimizer": str(kind), **shown.get(str(kind), {})}
            offered[str(kind)] = built(build, train.TrainConfig, form)
        kinds = whole.types["model_type"]
        looks = {str(kind): looked(samples.default_values(kind)) for kind in kinds}
    built_ = {"bare": bare, "offered": offered, "form": shown}
    return {"sections": sections, "optimizers": built_, "looks": looks}


def looked(sample: Any) -> dict[str, Any]:
    """How a model's pictures are sampled, unless something else is asked for."""
    return {
        "width": sample.width,
        "height": sample.height,
        "steps": sample.diffusion_steps,
        "guidance": sample.cfg_scale,
    }


def optimizing(kinds: Any) -> dict[str, Any]:
    """What `create_optimizer` looks up."""
    names = {"NamedParameterGroupCollection": Any, "TrainConfig": Any, "Optimizer": kinds}
    no = dict.fromkeys(("patch_adam", "patch_adamw", "patch_adafactor"), lambda *_, **__: None)
    split = {"split_parameters_for_muon": lambda *_, **__: ([], None)}
    world = {"multi": Stub(world_size=lambda: 1), "inspect": inspect}
    return {**names, **no, **split, **world}


FAKED = (
    *("bitsandbytes", "bitsandbytes.optim", "dadaptation", "lion_pytorch", "prodigyopt"),
    *("schedulefree", "prodigyplus", "prodigyplus.prodigy_plus_schedulefree", "muon", "adv_optm"),
    *("came_pytorch", "pytorch_optimizer", "timm.optim.adabelief", "transformers.optimization"),
    *("modules.util.optimizer.CAME", "modules.util.optimizer.muon"),
    *(f"pytorch_optimizer.optimizer.{each}" for each in ("tiger", "aida", "adopt", "yogi")),
)


def built(build: Callable[..., Any], config: Any, options: dict[str, Any]) -> dict[str, Any] | None:
    """The class that an optimizer's table becomes, and its arguments; None where it needs more."""
    given = config.default_values()
    given.optimizer.from_dict(options)
    given.model_part_configs = list
    kept = {name: sys.modules.get(name) for name in FAKED}
    torch_kept = {name: getattr(torch.optim, name) for name in ("Adam", "AdamW", "SGD")}
    sys.modules.update({name: Fake(name) for name in FAKED})
    sys.modules["bitsandbytes"].optim = sys.modules["bitsandbytes.optim"]  # type: ignore[attr-defined]
    for name in torch_kept:
        setattr(torch.optim, name, getattr(Fake("torch.optim"), name))
    try:
        if given.optimizer.stochastic_rounding:  # refused there besides fused, foreach
            given.optimizer.fused = given.optimizer.foreach = False
        made = build(Stub(parameters_for_optimizer=lambda _: []), None, given)
    except Exception as error:
        print(f"{options['optimizer']}: {error!r}")
        return None
    finally:
        for name, module in kept.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})
        for name, kind in torch_kept.items():
            setattr(torch.optim, name, kind)
    left = {
        name: plain(each) for name, each in made.options.items() if name not in ("params", "lr")
    }
    return {"class": made.built, "options": left}


# SimpleTuner


def simpletuner(commit: Commit) -> dict[str, Any]:
    with unpacked(commit) as folder:
        for name in ("", ".server", ".server.services", ".server.utils"):
            package = types.ModuleType(f"simpletuner.simpletuner_sdk{name}")
            package.__path__ = [str(folder / package.__name__.replace(".", "/"))]
            sys.modules[package.__name__] = package  # without the web server in its __init__
        registry = import_module("simpletuner.helpers.models.registry")

        def unread(_: Any, name: str) -> Any:
            raise AttributeError(name)

        registry.LazyModelClass.__getattr__ = unread  # what the models say of themselves
        importlib.util.find_spec = partial(offered, importlib.util.find_spec)
        parser = import_module("simpletuner.helpers.configuration.cmd_args").get_argument_parser()
        kinds = import_module("simpletuner.helpers.training.optimizer_param").optimizer_choices

        options = {}
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                named = getattr(action.type, "__name__", "str")
                kind = "bool" if named.startswith("_parse") else named
                names = [each.removeprefix("--") for each in action.option_strings]
                many = list(map(str, action.choices)) if action.choices else []
                more = {"choices": many} if many and len(many) < 60 else {}
                for name in names:
                    options[name] = {"type": kind, "default": plain(action.default), **more}
        optimizers = {name: plain(each["default_settings"]) for name, each in kinds.items()}
        schedules = dict(scheduled())
    found = {"options": options, "optimizers": optimizers, "schedules": schedules}
    heads = re.findall(r"^#+ `.*$", commit.text("documentation/DATALOADER.md"), re.MULTILINE)
    named = {name for head in heads for name in re.findall(r"`([a-z_]+)`", head)}
    sets = sorted(named - set(MADE))
    return found | {"targets": dict(targeted(commit)), "data_sets": sets}


MADE = (  # heads of its page that name kinds of what is made for a data set, no options
    *("superresolution", "sdr", "jpeg_artifacts", "depth", "depth_midas", "random_masks"),
    *("inpainting", "canny", "edges"),
)


def offered(find: Callable[..., Any], name: str, *rest: Any) -> Any:
    """As `find_spec`, with packages that offer optimizers there, be they installed or not."""
    return find(name, *rest) or (name if name in ("optimi", "prodigyplus", "torchao") else None)


RUN = Stub(lr_warmup_steps=10, lr_end=1e-6, lr_power=0.8, lr_num_cycles=1, max_train_steps=40)


def scheduled() -> Iterator[tuple[str, list[float]]]:
    """Shares of a rate of 1e-4 at the updates of RUN, by the name of its schedule."""
    build = import_module("simpletuner.helpers.training.custom_schedule").get_lr_scheduler
    for name in (
        *("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts"),
        *("sine", "polynomial"),
    ):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
        asked = Stub(lr_scheduler=name, **vars(RUN))
        log = logging.getLogger("peer")
        rates = build(asked, optimizer, Stub(num_processes=1), log, global_step=0)
        shares = []
        for _ in range(RUN.max_train_steps):
            shares.append(round(optimizer.param_groups[0]["lr"] / 1e-4, 5))
            optimizer.step()
            rates.step()
        yield name, shares


def targeted(commit: Commit) -> Iterator[tuple[str, Any]]:
    """Names of the layers that an adapter goes on, by family; of flux by flux_lora_target."""
    for family in ("common", "hunyuanvideo", "flux2", "qwen_image", "sd3", "sdxl", "sd1x", "wan"):
        file = "common" if family == "common" else f"{family}/model"
        tree = ast.parse(commit.text(f"simpletuner/helpers/models/{file}.py"))
        (*_, found) = [
            ast.literal_eval(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and getattr(node.targets[0], "id", "") == "DEFAULT_LORA_TARGET"
        ]
        yield family, found
    layers = commit.function("simpletuner/helpers/models/flux/model.py", "get_lora_target_layers")
    for name in (
        *("mmdit", "context", "context+ffs", "all", "all+ffs", "ai-toolkit", "tiny", "nano"),
        "all+ffs+embedder",
    ):
        config = Stub(flux_lora_target=name, model_type="lora", lora_type="standard")
        config.controlnet = config.control = config.slider_lora_target = False
        model = Stub(config=config, _get_peft_lora_target_modules=lambda: None)
        model.DEFAULT_LORA_TARGET = ["to_k", "to_q", "to_v", "to_out.0", "to_qkv"]
        yield f"flux {name}", layers(model)


def lines(found: Any, depth: int = 0) -> str:
    """JSON with an option a line."""
    deep = isinstance(found, dict) and any(isinstance(each, dict) for each in found.values())
    if not deep:
        return json.dumps(found, ensure_ascii=False, allow_nan=False)
    rows = [f"{json.dumps(name)}: {lines(each, depth + 1)}" for name, each in found.items()]
    inner = ",\n".join(" " * (depth + 1) + row for row in rows)
    return f"{{\n{inner}\n{' ' * depth}}}"


RECORDS = {"onetrainer": onetrainer, "simpletuner": simpletuner}


if __name__ == "__main__":
    for given in sys.argv[1:]:
        trainer, _, checkout = given.partition("=")
        commit = Commit(checkout)
        found = {"repo": REPOSITORIES[trainer], "commit": commit.name, **RECORDS[trainer](commit)}
        TO.mkdir(exist_ok=True)
        (TO / f"{trainer}.json").write_text(f"{lines(found)}\n", encoding="utf-8")
        print(f"{trainer} at {commit.name}")
