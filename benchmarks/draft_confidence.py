"""Whether the confidence of the `draft` backend tells usable masks from wrong ones; a table.

FOLDER holds photographs that are not in this repository; `draft_labels.json` says where they come
from and what their masks were judged to be by eye. Half of them, by the last bit of the first hex
digit of the file's SHA-256, is what the limits of `maskgen/draft/portrait.py` were set on; the
other half is the test. A picture counts as "done" with a confidence of at least 0.5 and without a
doubt that makes it unsure.

    OMP_NUM_THREADS=1 python benchmarks/draft_confidence.py FOLDER
"""

import hashlib
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from measure import table, title

from frisket.config.maskgen import MaskGeneration, MaskRequest
from frisket.maskgen.files.record import load
from frisket.recipes.masks.make import make_masks

LABELS = Path(__file__).with_name("draft_labels.json")
WRONG = ("outline", "regions", "group")
LONGEST = 1024  # pixels, as the labels were made


def main() -> None:
    """Make the masks and count."""
    folder = Path(sys.argv[1])
    labels: dict[str, str] = json.loads(LABELS.read_text(encoding="utf-8"))["labels"]
    counts: dict[str, Counter[str]] = {"limits set on": Counter(), "test": Counter()}
    with tempfile.TemporaryDirectory() as out:
        options = MaskGeneration(output=Path(out), workers=1, longest=LONGEST)
        made = make_masks(MaskRequest(folder=folder, maskgen=options))
        for path in sorted(folder.iterdir()):
            told = load(made.place.record(path.stem))
            if told is None or path.name not in labels:
                continue
            odd = int(hashlib.sha256(path.read_bytes()).hexdigest()[0], 16) % 2
            sure = told.status == "done" and (told.confidence or 0) >= 0.5
            label = labels[path.name]
            kind = "wrong" if label in WRONG else label
            counts["test" if odd else "limits set on"][f"{kind} {sure}"] += 1
    title(f"confidence of drafts, {sum(map(Counter.total, counts.values()))} photographs")
    table(
        ("half", "photographs", "usable, done", "usable, flagged", "wrong, done", "wrong, flagged"),
        [
            (
                name,
                str(count.total()),
                *(
                    str(count[f"{kind} {sure}"])
                    for kind in ("usable", "wrong")
                    for sure in (True, False)
                ),
            )
            for name, count in counts.items()
        ],
    )


if __name__ == "__main__":
    main()
