"""Records how controlnet_aux draws poses and edges, for tests/control/test_peers.py.

    python scripts/record_control_pictures.py FOLDER

FOLDER is huggingface/controlnet_aux at b1aac31. `draw_bodypose` is taken out of its text and run
on drawn joints, `cv2.Canny` is called as its CannyDetector does; none of the text is kept.
tests/control/peers.json gets the sum of every block of each picture.
"""

import ast
import json
import math
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.control.scenes import SCENES, draw_joints, sum_blocks  # noqa: E402

TO = ROOT / "tests/control/peers.json"


def main() -> None:
    text = (Path(sys.argv[1]) / "src/controlnet_aux/open_pose/util.py").read_text(encoding="utf-8")
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    node = next(node for node in nodes if node.name == "draw_bodypose")
    lines = "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])
    names: dict[str, Any] = {"np": np, "cv2": cv2, "math": math, "List": list, "Keypoint": object}
    exec(compile(textwrap.dedent(lines), "peer", "exec", dont_inherit=True), names)
    rows = []
    for seed, size in SCENES:
        points, there = draw_joints(seed, size)
        joints = [
            SimpleNamespace(x=x / size[1], y=y / size[0]) if known else None
            for (x, y), known in zip(points, there, strict=True)
        ]
        canvas = names["draw_bodypose"](np.zeros((*size, 3), np.uint8), joints)
        rows.append({"seed": seed, "size": list(size), "blocks": sum_blocks(canvas)})
    TO.write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
