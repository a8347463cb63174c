"""`frisket doctor`, memory: will this configuration fit, and which switch makes it."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from frisket.config.tree import Config

if TYPE_CHECKING:
    from frisket.runs.memory.estimate import Prediction

MIB = 2**20
CARDS = (8, 12, 16, 24, 32, 48, 80, 141)  # GiB that cards come with
CONTEXT = (
    700.0  # MiB that CUDA and its libraries take for themselves; it differs by card and driver
)
SLACK = 1.06  # what the allocator cannot use of what it holds
DEEP = 4  # of a denoiser's blocks are swapped at first, then twice as many, and so on

Change = tuple[str, dict[str, Any]]


class MemoryReport(NamedTuple):
    """What the memory of a configuration comes to."""

    verdict: Literal["ok", "note", "missing"]
    message: str
    fix: str


def memory(config: Config) -> MemoryReport:
    """Whether a configuration fits the card at hand; without a card, which one it asks for."""
    import torch  # noqa: PLC0415 - seconds to import

    from frisket.families.base import WeightsNotFound  # noqa: PLC0415
    from frisket.runs.memory.estimate import Unpredictable  # noqa: PLC0415
    from frisket.runs.memory.routing_report import predict_run  # noqa: PLC0415
    from frisket.training.memory.plan import MemoryPlan, check  # noqa: PLC0415

    plan = MemoryPlan(**config.memory.model_dump())
    try:
        check(plan, adapter=config.lora.kind)
        prediction = predict_run(config)
    except WeightsNotFound as error:
        return MemoryReport("note", f"not predicted: {error}", "fetch the weights, then ask again")
    except (ValueError, ImportError) as error:
        return MemoryReport("missing", str(error), "change the configuration as it says")
    except Unpredictable as error:
        return MemoryReport("note", f"not predicted: {error}", "watch the first steps of the run")
    if not torch.cuda.is_available() or config.model.device in ("cpu", "mps"):
        return MemoryReport("ok", f"{describe(prediction)}. It takes {card(prediction)}", "")
    at = torch.device(config.model.device if config.model.device != "auto" else "cuda")
    return against(config, torch.cuda.mem_get_info(at)[0] / MIB, predict_run)


def against(config: Config, room: float, predict: Callable[[Config], "Prediction"]) -> MemoryReport:
    """A configuration against `room` MiB of a card."""
    prediction = predict(config)
    need = f"needs {format_gib(estimate_need(prediction))} of the {format_gib(room)} that are free"
    changes = fits(config, room, predict)
    if not changes:
        return MemoryReport("ok", f"{describe(prediction)}. It {need}", "")
    if changes[-1][1] == {}:
        fix = (
            f"nothing in [memory] is enough: lower [[data]] resolution or frames, or take"
            f" {card(predict(_all(config, changes)))}"
        )
        return MemoryReport("missing", f"{describe(prediction)}. It {need}", fix)
    fix = " ".join(f"{format_change(change)} ({cost})" for cost, change in changes)
    return MemoryReport("missing", f"{describe(prediction)}. It {need}", fix)


def _all(config: Config, changes: list[Change]) -> Config:
    for _, change in changes:
        config = with_change(config, change)
    return config


def estimate_need(prediction: "Prediction") -> float:
    """MiB a card must have free for a predicted run."""
    return prediction.total * SLACK + CONTEXT


def describe(prediction: "Prediction") -> str:
    """A prediction in one sentence."""
    training = (
        f"training peaks at {format_gib(prediction.training)}:"
        f" weights {format_gib(prediction.weights)},"
        f" {'adapter and its' if prediction.adapter else 'gradients and'} optimizer"
        f" {format_gib(prediction.adapter + prediction.gradients + prediction.optimizer)},"
        f" activations {format_gib(prediction.activations)}"
    )
    encoders = {"the VAE": prediction.vae, "the text encoder": prediction.text}
    known = [f"{name} {format_gib(value)}" for name, value in encoders.items() if value is not None]
    lost = [name for name, value in encoders.items() if value is None]
    prepare = f"; while preparing {', '.join(known)}" if known else ""
    prepare += f"; not known here: {' and '.join(lost)}" if lost else ""
    waiting = (
        f"; {format_gib(prediction.waiting)} waits in main memory"
        if prediction.waiting >= 1
        else ""
    )
    return f"{training}{prepare}{waiting}"


def fits(config: Config, room: float, predict: Callable[[Config], "Prediction"]) -> list[Change]:
    """The switches to flip, the cheapest first, until a run needs at most `room` MiB.

    Each is kept once flipped, but for those a later one replaces. Empty where it fits as it is;
    ends with ("", {}) where nothing is enough.
    """
    if estimate_need(predict(config)) <= room:
        return []
    taken: list[Change] = []
    changed = config
    for name, change in list_switches(config, predict(config)):
        following = with_change(changed, change)
        if following == changed:
            continue
        taken = [switch for switch in taken if not set(switch[1]) & set(change)]
        taken.append((name, change))
        changed = following
        if estimate_need(predict(changed)) <= room:
            return taken
    return [*taken, ("", {})]


def card(prediction: "Prediction") -> str:
    """The smallest card there is for a prediction, in words."""
    need = estimate_need(prediction) / 1024
    size = next((size for size in CARDS if need <= size), None)
    return f"a card of {size} GB or more" if size else f"more than one card: {need:.0f} GB"


def list_switches(config: Config, prediction: "Prediction") -> Iterator[Change]:
    """Settings by what they cost: nothing, time, a little of the result, more of it."""
    memory, trains_all = config.memory, config.model.train == "all"
    yield from _halve_precision(config)
    if not memory.checkpointing:
        yield "a third more time a step", {"memory.checkpointing": True}
    if config.run.batch > 1:
        many = config.optimizer.accumulate * config.run.batch
        yield "as many clips a step, one by one", {"run.batch": 1, "optimizer.accumulate": many}
    yield from _round_to_8_bits(config)
    if prediction.vae is not None and not memory.tile_vae and prediction.vae > prediction.training:
        yield "seams between tiles, blended", {"memory.tile_vae": True}
    if trains_all:
        return  # the rest is for frozen weights
    yield from _swap_deeper(prediction.blocks, memory.swap_blocks)
    if memory.quantise != "nf4" and config.lora.kind in ("lora", "dora"):
        small = {"memory.quantise": "nf4", "memory.storage": "same", "memory.swap_blocks": 0}
        yield "a quarter of the weights, rounded to 4 bits", small
        yield from _swap_deeper(prediction.blocks, 0)


def _halve_precision(config: Config) -> Iterator[Change]:
    if config.model.train == "all":
        if config.run.precision == "float32":
            yield "half the activations, no loss to speak of", {"run.precision": "bfloat16"}
    elif config.model.dtype == "float32":
        half = {"model.dtype": "bfloat16", "run.precision": "bfloat16"}
        yield "half the weights, no loss to speak of", half


def _round_to_8_bits(config: Config) -> Iterator[Change]:
    """The optimizer of weights that are trained, or weights that are frozen."""
    memory = config.memory
    if config.model.train == "all":
        if config.optimizer.name == "adamw":
            yield "a quarter of the optimizer, in 8 bits", {"optimizer.name": "adamw8bit"}
    elif memory.quantise == "none" and memory.storage == "same":
        yield "half the weights, rounded to 8 bits", {"memory.storage": "float8"}


def _swap_deeper(blocks: int, depth: int) -> Iterator[Change]:
    """Swap more of a denoiser's blocks than `depth`: twice as many each time, at last all."""
    for deeper in (*(DEEP << index for index in range(12) if DEEP << index < blocks), blocks):
        if deeper > depth:
            yield "time, by the speed of the bus", {"memory.swap_blocks": deeper}


def with_change(config: Config, change: dict[str, Any]) -> Config:
    """A configuration with some of its options set otherwise."""
    tree = config.model_dump()
    for path, value in change.items():
        section, name = path.split(".")
        tree[section][name] = value
    return Config.model_validate(tree)


def format_change(change: dict[str, Any]) -> str:
    """A change as it is given on the command line."""
    return " ".join(f"--set {name}={_toml(value)}" for name, value in change.items())


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def format_gib(mib: float) -> str:
    """Memory in MiB as it is read."""
    return f"{mib / 1024:.1f} GiB" if mib >= 100 else f"{mib:.0f} MiB"
