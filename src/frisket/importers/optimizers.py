"""Which optimizer another trainer's is here: its rate goes to the same one, or nowhere."""

import fnmatch
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from frisket.importers.options import OptionTable

# Of optimizers whose rule is the same wherever their state lies: what only says where and how.
TECHNICAL = (
    "amsgrad_8bit", "args", "block_wise", "bf16_stochastic_round", "capturable", "differentiable",
    "foreach", "fsdp_in_use", "fused", "fused_back_pass", "gradient_release", "is_paged",
    "kahan_sum", "min_8bit_size", "optim_bits", "percentile_clipping", "quant_block_size",
    "stochastic_rounding", "triton", "use_triton",
)  # fmt: skip
OWN_STEP = ("relative_step", "warmup_init")  # Adafactor finds its rate by itself
MODULE = re.compile(r"[\w.]*\.")  # of an import path, which would be tried as one


@cache
def read_optimizers() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """The tables of `optimizers.toml`."""
    text = (resources.files("frisket.importers") / "optimizers.toml").read_text("utf-8")
    return tomllib.loads(text)


def convert_optimizer(
    table: OptionTable,
    option: str,
    written: str,
    *,
    trainer: str,
    rate: float,
    arguments: Mapping[str, Any] | None = None,
    rates: Sequence[tuple[OptionTable, str]] = (),
) -> dict[str, Any]:
    """`[optimizer]` name, lr, weight_decay and options, with a note on `option` of `table`.

    `written` is the name there, `arguments` those of its class that are given, `rates` the options
    that the rate comes from. A name that is here keeps its rate, and all that differs from what
    Frisket does by itself is written out. One that is not here is written with its trainer's title,
    so that nothing trains before another is chosen; its rate and arguments are left out, for they
    mean nothing to another optimizer. An import path stands as it is, with both.
    """
    class_options = dict(arguments or {})
    row: Mapping[str, Any] = {"class": written}
    if written not in read_optimizers()["classes"]:
        row = _find_row(trainer, written) or {}
    if "class" not in row and "." in written:
        return _keep_import_path(table, option, written, rate, class_options)
    here = read_optimizers()["classes"].get(row.get("class", ""))
    if here is None:
        return _ask_for_optimizer(table, option, written, rate, row.get("path", ""), rates)
    options = {**here.get("options", {}), **row.get("options", {}), **class_options}
    if any(options.get(name) for name in OWN_STEP):
        named = f"{written} with its own rate (relative_step)"
        return _ask_for_optimizer(table, option, named, rate, "", rates)
    dropped = [name for name in options if name in TECHNICAL]
    options = {name: value for name, value in options.items() if name not in TECHNICAL}
    rate = 1.0 if rate < row.get("least", 0.0) else rate
    _tell(table, option, here["name"], row.get("said", ""), dropped)
    return _write_section(here["name"], rate, options, decay=row.get("decay", here.get("decay")))


def _keep_import_path(
    table: OptionTable, option: str, path: str, rate: float, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    message = "is optimizer.name here, an import path as there"
    has_decay = "weight_decay" in arguments
    if not has_decay:
        message += "; what it decays by itself is not known: optimizer.weight_decay is 0.01 here"
    table.say(option, "mapped" if has_decay else "no equivalent", message)
    return _write_section(path, rate, arguments, decay=None)


def refuse_whole_model(
    table: OptionTable,
    option: str,
    written: str,
    rate: float,
    rates: Sequence[tuple[OptionTable, str]],
) -> dict[str, Any]:
    """As `convert_optimizer` of one that is not here: for a run that trains a whole model.

    Its rate means nothing to an adapter.
    """
    return _ask_for_optimizer(
        table, option, f"{written or 'adamw'} on the whole model", rate, "", rates
    )


def refuse_other_kind(
    table: OptionTable,
    option: str,
    written: str,
    rate: float,
    rates: Sequence[tuple[OptionTable, str]],
    *,
    kind: str,
) -> dict[str, Any]:
    """As `refuse_whole_model`, for a run that trains another kind of adapter than there is here."""
    return _ask_for_optimizer(table, option, f"{written or 'adamw'} on {kind}", rate, "", rates)


def _find_row(trainer: str, written: str) -> Mapping[str, Any] | None:
    """The row of a trainer's optimizer; None for a name that it does not document."""
    rows = read_optimizers()[trainer]
    name = written.lower() or "adamw"
    if name in rows:
        return rows[name]
    row = next((row for pattern, row in rows.items() if fnmatch.fnmatchcase(name, pattern)), None)
    torch_class = f"torch.optim.{written}"
    if (
        row is None
        and trainer in ("kohya", "musubi")
        and torch_class in read_optimizers()["classes"]
    ):
        return {"class": torch_class}  # any class of torch.optim goes there by its bare name
    if row is None and trainer == "diffusion_pipe":
        return {"path": f"pytorch_optimizer.{written}"}  # as does any class of that package
    return row


def _write_section(
    name: str, rate: float, options: Mapping[str, Any], *, decay: float | None
) -> dict[str, Any]:
    rest = dict(options)
    decay = rest.pop("weight_decay", decay)
    section: dict[str, Any] = {"name": name, "lr": rate}
    if decay is not None:
        section["weight_decay"] = float(decay)
    return section | ({"options": rest} if rest else {})


def _tell(table: OptionTable, option: str, name: str, message: str, dropped: Sequence[str]) -> None:
    text = f"is optimizer.name = {name!r} here" + (f", {message}" if message else "")
    if dropped:
        text += f"; without {', '.join(dropped)}, which change no step here"
    table.say(option, "mapped", text)


def _ask_for_optimizer(
    table: OptionTable,
    option: str,
    written: str,
    rate: float,
    path: str,
    rates: Sequence[tuple[OptionTable, str]],
) -> dict[str, Any]:
    """A name that no optimizer has here; the rate is left out and told."""
    name = f"{MODULE.sub('', written)} of {table.sheet.rules.title}"
    message = (
        f"{written} is not here, and its rate of {rate:g} suits no other: set optimizer.name, and"
        " an optimizer.lr that suits it; nothing trains before"
    )
    if path:
        message += (
            f". The same one: install its package, optimizer.name = {path!r}, optimizer.trust"
        )
    table.say(option, "no equivalent", message, written)
    for owner, rate_option in rates:
        owner.say(
            rate_option, "no equivalent", f"belongs to {written}, which is not here: left out"
        )
    return {"name": name}
