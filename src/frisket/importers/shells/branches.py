"""Which parts of a script count: conditions are looked at, never run."""

from dataclasses import dataclass, field

from frisket.importers.shells.words import combine_and


@dataclass(slots=True)
class _Branch:
    """An open `if`, loop or case. `truth`: whether its present part counts; None: it may."""

    truth: bool | None
    taken: bool | None  # whether an earlier part counted


@dataclass(slots=True)
class Branches:
    """The open blocks around a line."""

    open: list[_Branch] = field(default_factory=list)

    @property
    def active(self) -> bool | None:
        """Whether what stands here counts; None where that cannot be known."""
        truth: bool | None = True
        for branch in self.open:
            truth = combine_and(truth, branch.truth)
        return truth

    def begin(self, truth: bool | None) -> None:
        """Open a block whose first part counts as far as `truth` says; None: it may."""
        self.open.append(_Branch(truth, truth))

    def ask(self) -> None:
        """Come to the condition of an `elif`, which is asked where no part before it counted."""
        if self.open:
            branch = self.open[-1]
            branch.truth = None if branch.taken is None else not branch.taken

    def turn(self, truth: bool | None) -> None:
        """Go on to the next part of the innermost block: `elif`, or `else` with True."""
        if not self.open:
            return
        branch = self.open[-1]
        if branch.taken is True:
            branch.truth = False
        elif branch.taken is None:
            branch.truth = False if truth is False else None
        else:
            branch.truth = truth
        if branch.taken is not True:
            branch.taken = truth if branch.taken is False else (True if truth is True else None)

    def end(self) -> bool | None:
        """Close the innermost block; whether its last part counted."""
        return self.open.pop().truth if self.open else None
