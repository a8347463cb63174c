"""What a run says of itself before its first step, in a file of its folder for pages that watch."""

import json
from pathlib import Path

from frisket.config.tree import Config
from frisket.data.records import Prepared
from frisket.disk.atomic import replacing
from frisket.runs import banner
from frisket.runs.epochs import epoch_of

BANNER = "banner.json"


def write_banner(config: Config, prepared: Prepared, folder: Path) -> Path:
    """Write `folder`/banner.json: what the run teaches, in rows and warnings; returns the path.

    `epoch` is the number of batches, of all processes, in one pass over the clips.
    """
    content = {
        "rows": banner.rows(config, prepared),
        "warnings": banner.warnings(config, prepared),
        "epoch": epoch_of(config, prepared.items),
    }
    path = folder / BANNER
    with replacing(path) as draft:
        text = json.dumps(content, ensure_ascii=False)
        draft.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return path
