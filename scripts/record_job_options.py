"""Records the options, defaults, optimizers and rates of ai-toolkit and diffusion-pipe.

    python scripts/record_job_options.py ai-toolkit=CHECKOUT diffusion-pipe=CHECKOUT

Checkouts as in record_peer_losses.py (PATH, or PATH@COMMIT). Their own code is run, with stand-ins
for what it imports; names, defaults and numbers go to tests/importers/trainers/peers, and no text
of it.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.peers import jobs, pipes  # noqa: E402
from scripts.peers.text import Commit  # noqa: E402

TO = ROOT / "tests/importers/trainers/peers"
PEERS: dict[str, tuple[str, Callable[[Commit], dict[str, object]]]] = {
    "ai-toolkit": ("ai_toolkit", jobs.record),
    "diffusion-pipe": ("diffusion_pipe", pipes.record),
}


def main(given: list[str]) -> None:
    for each in given:
        name, _, checkout = each.partition("=")
        file, record = PEERS[name]
        commit = Commit(checkout)
        found = {"commit": commit.name} | record(commit) | {"files": sorted(commit.files)}
        text = json.dumps(found, indent=1, sort_keys=True, default=list)
        (TO / f"{file}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
