"""What stands for something else in an ai-toolkit job: `${VARIABLE}`, and `[name]`."""

import os
import re
from dataclasses import replace
from typing import Any

from frisket.importers.base import BadImport
from frisket.importers.files import Written

VARIABLE = re.compile(r"\$\{([^}]+)\}")


def expand(document: Written) -> Written:
    """The tree with `${VARIABLE}` from the environment, and `[name]` the name of the job.

    Raises BadImport for a variable that the environment has not.
    """
    tree = document.tree
    config = tree.get("config") if isinstance(tree, dict) else None
    name = str(config.get("name", "")) if isinstance(config, dict) else ""

    def replace_variable(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value is None:
            message = f"the environment has no {match[1]}: set it, or write its value"
            raise BadImport(f"{document.path}: {match[0]}: {message}")
        return value

    def expand_value(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: expand_value(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [expand_value(entry) for entry in value]
        if isinstance(value, str):
            return VARIABLE.sub(replace_variable, value.replace("[name]", name))
        return value

    return replace(document, tree=expand_value(tree))
