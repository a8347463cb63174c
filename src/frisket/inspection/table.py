"""The findings of `frisket inspect` as a table for a terminal: a kind a row, examples below."""

from collections.abc import Iterator, Sequence

from frisket.inspection.findings import Finding
from frisket.inspection.pages import group_findings

EXAMPLES = 3  # clips that are told of each kind; the page has all


def tabulate_findings(findings: Sequence[Finding]) -> Iterator[str]:
    """Lines, gravest first; where every finding of a kind has the same fix it is said once."""
    groups = group_findings(findings)
    wide = max((len(kind) for _, kind, _ in groups), default=0)
    for level, kind, group in groups:
        fixes = {finding.fix for finding in group}
        clips = "" if len(group) == 1 else f"{len(group)} times"
        yield f"{level:<8} {kind:<{wide}}  {clips}".rstrip()
        for finding in group[:EXAMPLES]:
            own_fix = f" {finding.fix}" if len(fixes) > 1 else ""
            yield f"{'':8} {finding.clip or 'data set'}: {finding.sentence}{own_fix}"
        if len(group) > EXAMPLES:
            yield f"{'':8} and {len(group) - EXAMPLES} more"
        if len(fixes) == 1:
            yield f"{'':8} fix: {group[0].fix}"
