"""Which methods can act at once: refused by name, before anything is read."""

from collections.abc import Sequence
from dataclasses import dataclass

from frisket.config.identity.tables import Identity
from frisket.config.load import ConfigError
from frisket.inference.methods.plugin import MethodPlugin


@dataclass(frozen=True, slots=True)
class AskedMethod:
    """A table with its plugin, and what the method is called in this call."""

    label: str
    table: Identity
    plugin: MethodPlugin


def check_combination(
    methods: Sequence[AskedMethod], *, fuse: str = "", focus: Sequence[str] = ()
) -> None:
    """ConfigError for methods, or ways of sampling LoRAs, that cannot act together.

    `fuse` is that of `--fuse`, `focus` the words that LoRAs act on alone (TARA). Everything else
    adds up: image adapters, the residuals of a ControlNet, LoRAs with and without masks.
    """
    guiding = [method.label for method in methods if method.plugin.guides]
    strict = [method.label for method in methods if method.table.strict]
    rewriting = [method.label for method in methods if method.plugin.changes_text]
    if len(guiding) > 1:
        raise ConfigError(
            f"generate: {_join_names(guiding)} each make the guided prediction, and it can be made"
            " once: leave one out"
        )
    if guiding and strict:
        raise ConfigError(
            f"generate: {guiding[0]} makes the guided prediction itself, so that nothing can be"
            f" blended outside the mask of {strict[0]}: leave `strict` (--method-strict) out"
        )
    if len(strict) > 1:
        raise ConfigError(
            f"generate: {_join_names(strict)} are strict, and a prediction is blended under one"
            " mask: keep `strict` for one of them; the others stay within their masks at the"
            " attention"
        )
    if len(rewriting) > 1:
        raise ConfigError(
            f"generate: {_join_names(rewriting)} each put tokens into the prompt at the same"
            " place: leave one out"
        )
    if rewriting and (fuse or focus):
        words = f"--fuse {fuse}" if fuse else f"a LoRA that acts on {focus[0]!r} alone (lora.focus)"
        raise ConfigError(
            f"generate: {rewriting[0]} puts tokens into the prompt, so that its words are no longer"
            f" where {words} looks for them: sample with one or the other"
        )


def _join_names(labels: Sequence[str]) -> str:
    return " and ".join(labels)
