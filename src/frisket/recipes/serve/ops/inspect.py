"""What `frisket inspect --fix` would mend."""

from pathlib import Path
from typing import Any

from frisket.config.load import load
from frisket.inspection.fix import plan_fixes
from frisket.recipes.serve.session import Answer, Session


def plan(session: Session, args: dict[str, Any]) -> Answer:
    """The repairs of a configuration, of all clips or `only` some: clip, file, then, note."""
    session.check()
    repairs = plan_fixes(load(Path(args["config"])), only=args.get("only"))
    return Answer(
        {
            "repairs": [
                {"clip": r.clip, "file": r.path.name, "then": r.now.name, "note": r.note}
                for r in repairs
            ]
        }
    )


OPS = {"inspect.plan": plan}
