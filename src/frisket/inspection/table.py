"""The findings of `frisket inspect` as a table for a terminal: a kind a row, examples below."""

from collections.abc import Iterator, Sequence

from frisket.inspection.findings import Finding
from frisket.inspection.pages import grouped

EXAMPLES = 3  # clips that are told of each kind; the page has all


def table(findings: Sequence[Finding]) -> Iterator[str]:
    """Lines, gravest first; where every finding of a kind has the same fix it is said once."""
    groups = grouped(findings)
    wide = max((len(kind) for _, kind, _ in groups), default=0)
    for level, kind, found in groups:
        fixes = {one.fix for one in found}
        clips = "" if len(found) == 1 else f"{len(found)} times"
        yield f"{level:<8} {kind:<{wide}}  {clips}".rstrip()
        for one in found[:EXAMPLES]:
            own = f" {one.fix}" if len(fixes) > 1 else ""
            yield f"{'':8} {one.clip or 'data set'}: {one.sentence}{own}"
        if len(found) > EXAMPLES:
            yield f"{'':8} and {len(found) - EXAMPLES} more"
        if len(fixes) == 1:
            yield f"{'':8} fix: {found[0].fix}"
