"""What token routing came to in a run that has ended: steps, tokens, operations."""

from pathlib import Path

from frisket.config.tree import Config
from frisket.routing.flops import StepCost
from frisket.routing.router import find_window
from frisket.runs.memory.step_cost import count_training
from frisket.runs.methods.token_routing import is_routed
from frisket.training.metrics_log import BadMetricsLog, read


def summarise_routing(config: Config, metrics: Path) -> str:
    """In one sentence, from the run's metrics.jsonl; "" of a run without routing.

    Operations are the formula's, of the largest clip. Nothing that fails here costs a run: it says
    what is not known.
    """
    if not is_routed(config):
        return ""
    try:
        shares = [line["kept"] for line in read(metrics) if isinstance(line.get("kept"), float)]
    except (BadMetricsLog, OSError) as error:
        return f"not known: {error}"
    routed = [share for share in shares if share < 1]
    if not routed:
        return f"none of {len(shares)} steps was routed: every one carried all tokens"
    sentence = (
        f"{len(routed)} of {len(shares)} steps were routed, with"
        f" {sum(routed) / len(routed):.0%} of the image's tokens;"
    )
    try:
        cost = count_training(config)
    except Exception as error:  # whatever a model's code makes of shapes alone: the run is done
        return f"{sentence} operations not counted ({error})"
    return (
        f"{sentence} by the formula {_share_operations(config, cost, shares):.0%} of the operations"
    )


def _share_operations(config: Config, cost: StepCost, shares: list[float]) -> float:
    """Of what as many full steps take."""
    start, end = find_window(config.routing.start, config.routing.end, len(cost.blocks))
    operations = (cost.count_routed(share * cost.tokens, start, end) for share in shares)
    return sum(operations) / len(shares) / cost.count()
