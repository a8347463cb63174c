"""Writes what presets have to know of each family, so that reading a config loads no torch.

python scripts/preset_families.py          # src/frisket/config/presets/families.json
"""

import json

from frisket.config.presets.facts import SHIPPED, describe_family
from frisket.families.base import FAMILIES


def text() -> str:
    """The table as the shipped file holds it: the families of this package."""
    shipped = [name for name in FAMILIES.names() if _is_ours(name)]
    table = {name: describe_family(FAMILIES.load(name)) for name in shipped}
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def _is_ours(name: str) -> bool:
    return type(FAMILIES.load(name)).__module__.startswith("frisket.")


if __name__ == "__main__":
    SHIPPED.write_text(text(), encoding="utf-8")
