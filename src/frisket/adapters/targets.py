"""Which modules of a denoiser an adapter goes on: name endings or a regular expression to names."""

import difflib
import re
from collections.abc import Callable, Sequence

from torch import nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def is_spatial(layer: nn.Module) -> bool:
    """Whether a layer is a convolution larger than 1 x 1."""
    return isinstance(layer, LAYERS[1:]) and any(size > 1 for size in layer.kernel_size)


def resolve(
    model: nn.Module,
    targets: Sequence[str],
    exclude: Sequence[str] = (),
    layers: tuple[type[nn.Module], ...] = LAYERS,
    *,
    dead: Sequence[str] = (),
) -> tuple[str, ...]:
    """Names of the layers of `model` that `targets` hit and `exclude` does not, in model order.

    `dead` are names with `{}` for a block's number: of the layers that fit one, the last block's is
    left out, for what it makes is thrown away (the text stream's end). A gradient never reaches it,
    which DistributedDataParallel takes for an error.

    A target is the end of a module's name at a dot (`to_q`, `attn1.to_out.0`), or one regular
    expression in slashes, searched in the whole name (`/blocks[.]1?[0-9][.]attn/`). ValueError
    where an entry hits no layer, and says which names come near: a target that hits nothing, or
    an exclusion with a typo, must not pass in silence.
    """
    if not targets:
        raise ValueError("lora: no targets, so there is nothing to train")
    known = {name: module for name, module in model.named_modules() if name}
    names = [name for name, module in known.items() if isinstance(module, layers)]
    taken: set[str] = set()
    for target in targets:
        taken |= _hits("targets", target, names, known, layers)
    for target in exclude:
        taken -= _hits("exclude", target, names, known, layers)
    taken -= {name for pattern in dead for name in _last(pattern, names)}
    if not taken:
        raise ValueError(f"lora: exclude = {list(exclude)} leaves no layer of {list(targets)}")
    return tuple(name for name in names if name in taken)


def _hits(
    option: str,
    target: str,
    names: Sequence[str],
    known: dict[str, nn.Module],
    layers: tuple[type[nn.Module], ...],
) -> set[str]:
    fits = _test(option, target)
    matches = {name for name in names if fits(name)}
    if matches:
        return matches
    other = next((name for name in known if fits(name)), None)
    if other is not None:
        kinds = ", ".join(layer.__name__ for layer in layers)
        inside = [name for name in names if name.startswith(f"{other}.")][:3]
        hint = f" Inside it are: {', '.join(inside)}." if inside else ""
        raise ValueError(
            f"lora.{option}: {target!r} hits {other}, a {type(known[other]).__name__}; adapters go"
            f" on {kinds}.{hint}"
        )
    raise ValueError(f"lora.{option}: no module is named {target!r}; {_nearest(target, names)}")


def _last(pattern: str, names: Sequence[str]) -> list[str]:
    """The layer of the highest number that fits `pattern`."""
    expression = re.compile(r"(\d+)".join(re.escape(part) for part in pattern.split("{}")))
    matches = [(int(match[1]), name) for name in names if (match := expression.fullmatch(name))]
    return [max(matches)[1]] if matches else []


def _test(option: str, target: str) -> Callable[[str], bool]:
    if len(target) > 2 and target.startswith("/") and target.endswith("/"):
        try:
            pattern = re.compile(target[1:-1])
        except re.error as error:
            raise ValueError(
                f"lora.{option}: {target} is no regular expression: {error}"
            ) from error
        return lambda name: pattern.search(name) is not None
    return lambda name: name == target or name.endswith(f".{target}")


def _nearest(target: str, names: Sequence[str]) -> str:
    """The endings most like a mistyped one, or all there are (numbers of blocks left out)."""
    endings: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        words = [index for index, part in enumerate(parts) if not part.isdigit()]
        for start in words[-3:]:
            endings[".".join(parts[start:])] = None
    close = difflib.get_close_matches(target, endings, n=3, cutoff=0.5)
    if close:
        return f"near to it: {', '.join(close)}"
    shortest = sorted(
        {ending for ending in endings if sum(map(str.isalpha, ending.split("."))) <= 1}
    )
    return f"endings there are: {', '.join((shortest or sorted(endings))[:16])}"


def unwrap_model(denoiser: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel and torch.compile."""
    inner = getattr(denoiser, "module", denoiser)
    model: nn.Module = getattr(inner, "_orig_mod", inner)
    return model
