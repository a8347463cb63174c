"""What is sampled side by side: the base, its LoRA, each method, all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from frisket.inference.methods.base import Method
from frisket.inference.methods.composed import ComposedMethod


@dataclass(frozen=True, slots=True)
class SampledVersion:
    """One way the same prompts and seeds are sampled.

    `name` says it in file names and labels; `methods` are labels of a MethodPlan's.
    """

    name: str
    lora: bool = False
    methods: tuple[str, ...] = ()

    def choose_method(self, fused: Method | None, methods: Mapping[str, Method]) -> Method | None:
        """What is put on the pipeline: `fused` is the LoRAs' own method. None is nothing."""
        acting = [methods[label] for label in self.methods]
        if self.lora and fused is not None:
            acting.insert(0, fused)  # what it looks at first is without the others
        return ComposedMethod(acting) if len(acting) > 1 else next(iter(acting), None)


def list_versions(
    methods: Sequence[str], *, lora: bool, without: bool
) -> tuple[SampledVersion, ...]:
    """The one with everything; `without` puts before it the base and each part alone."""
    names = [*(["lora"] if lora else []), *methods]
    everything = SampledVersion("+".join(names) or "base", lora, tuple(methods))
    if not without or not names:
        return (everything,)
    parts = []
    if len(names) > 1:
        parts = [SampledVersion("lora", lora=True)] if lora else []
        parts += [SampledVersion(label, methods=(label,)) for label in methods]
    return (SampledVersion("base"), *parts, everything)
