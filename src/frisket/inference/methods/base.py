"""The contract of a method: what it does to a pipeline for one call, and undoes afterwards."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from frisket.inference.sample_specs import SampleSpec


@runtime_checkable
class Method(Protocol):
    """A way to sample."""

    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> AbstractContextManager[None]:
        """Inside, one call of the pipeline samples `specs` by this method; after, it is as before.

        `call` makes what the pipeline is called with, with fresh generators every time: a method
        that calls it beforehand starts from the very noise that the call inside starts from.
        Entering raises ValueError for samples that the method was not prepared for.
        """
        ...
