"""Options of a LoRA where none is trained."""

from collections.abc import Iterator

from frisket.config.lora import Lora
from frisket.config.provenance import Key
from frisket.config.tree import Config


def find_lora_options(config: Config, setting: str) -> Iterator[tuple[Key, str]]:
    """Every option of [lora], or for one, that was set: under `setting` no LoRA is there for it."""
    for name, field in Lora.model_fields.items():
        if getattr(config.lora, name) != field.default:
            yield (
                ("lora", name),
                f"`lora.{name}` is of a LoRA, and with {setting} there is none: leave it out, or"
                ' set model.train = "lora"',
            )
    if config.optimizer.lora_plus:
        yield (
            ("optimizer", "lora_plus"),
            f"`optimizer.lora_plus` is of a LoRA's B, and with {setting} there is none: leave it"
            " out",
        )
