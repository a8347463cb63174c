"""Which methods can act at once: refused by name, before anything is read."""

from collections.abc import Sequence
from dataclasses import dataclass

from frisket.config.identity.tables import Identity
from frisket.config.load import ConfigError
from frisket.inference.methods.plugin import MethodPlugin

# Of what there can be one in a call, and why.
ALONE = {
    "guiding": "each make the guided prediction, and it can be made once: leave one out",
    "rewriting": "each put tokens into the prompt at the same place: leave one out",
}


@dataclass(frozen=True, slots=True)
class MethodAsk:
    """A table with its plugin, and what the method is called in this call."""

    label: str
    table: Identity
    plugin: MethodPlugin


def check_combination(
    methods: Sequence[MethodAsk], *, fuse: str = "", focus: Sequence[str] = ()
) -> None:
    """ConfigError for methods, or ways of sampling LoRAs, that cannot act together.

    `fuse` is that of `--fuse`, `focus` the words that LoRAs act on alone (TARA). Everything else
    adds up: image adapters, the residuals of a ControlNet, LoRAs with and without masks; passes
    that strict methods and guidance make nest (`identity.passes`).
    """
    labels = {
        "guiding": [method.label for method in methods if method.plugin.guides],
        "rewriting": [method.label for method in methods if method.plugin.changes_text],
    }
    for kind, reason in ALONE.items():
        if len(labels[kind]) > 1:
            raise ConfigError(f"generate: {' and '.join(labels[kind])} {reason}")
    if labels["rewriting"] and (fuse or focus):
        words = f"--fuse {fuse}" if fuse else f"a LoRA that acts on {focus[0]!r} alone (lora.focus)"
        raise ConfigError(
            f"generate: {labels['rewriting'][0]} puts tokens into the prompt, so that its words are"
            f" no longer where {words} looks for them: sample with one or the other"
        )
