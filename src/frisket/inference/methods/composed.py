"""Several methods at once: each is put on the pipeline inside the one before."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from frisket.inference.methods.base import Method
from frisket.inference.sample_specs import SampleSpec


@dataclass(frozen=True, slots=True)
class ComposedMethod:
    """Methods in the order they are attached; none is the bare pipeline.

    A method that samples beforehand (FreeFuse's first phase) comes first: what it looks at is then
    without the others. They are taken off in the reverse order, and all of them where one fails.
    """

    methods: Sequence[Method]

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        """Inside, all of them act."""
        with ExitStack() as stack:
            for method in self.methods:
                stack.enter_context(method.attach(pipeline, call, specs))
            yield
