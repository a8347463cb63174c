"""Image adapters that act on what others made of the same layers before them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from frisket.attention.base import BranchCall
from frisket.inference.methods.identity.image_attention import (
    ImageAttention,
    RowOwners,
    RowSide,
)


@dataclass(eq=False, slots=True)
class LayeredAttention(ImageAttention):
    """Adapters whose `merge` sees what each layer gives with those of `before` already added.

    A side that is turned is turned for both.
    """

    before: ImageAttention = field(kw_only=True)

    @contextmanager
    def attach_branches(self, find_owners: Callable[[BranchCall], RowOwners]) -> Iterator[None]:
        """Those of `before` first: hooks of one layer run in the order they were put on."""
        with (
            self.before.attach_branches(find_owners),
            ImageAttention.attach_branches(self, find_owners),
        ):
            yield

    @contextmanager
    def turn(self, side: RowSide) -> Iterator[None]:
        """Inside, rows get the tokens of `side`, of both."""
        with self.before.turn(side), ImageAttention.turn(self, side):
            yield
