"""Records what insightface's own classes give on a tiny pack, for tests/faces/test_pack_peers.py.

    python scripts/record_face_sessions.py INSIGHTFACE

INSIGHTFACE is a folder of deepinsight/insightface (code MIT; read at 7fadd42). Its ArcFaceONNX and
SCRFD are imported and run on the pack of tests/maskgen/tiny/people.py; the numbers are kept, none
of the code is. scikit-image, which neither calls here, may be missing.
"""

import json
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.faces import pack_scene as scene  # noqa: E402
from tests.maskgen.tiny import people  # noqa: E402

TO = ROOT / "tests/faces/pack_peers.json"


def open_package(root: Path) -> None:
    """Its modules importable without its __init__, which imports more than is wanted."""
    for name in ("insightface", "insightface.model_zoo", "insightface.utils"):
        package = ModuleType(name)
        package.__path__ = [str(root / "python-package" / name.replace(".", "/"))]
        sys.modules[name] = package
    for name in ("skimage", "skimage.transform"):
        sys.modules.setdefault(name, MagicMock())
    sys.modules["insightface.utils"].face_align = import_module("insightface.utils.face_align")


def record_pack(folder: Path) -> dict[str, Any]:
    """Raw embedding of an aligned face, and the faces of a picture."""
    people.faces(folder, scene.FACES)
    recogniser = import_module("insightface.model_zoo.arcface_onnx").ArcFaceONNX(
        str(folder / "w600k_r50.onnx")
    )
    detector = import_module("insightface.model_zoo.scrfd").SCRFD(str(folder / "det_10g.onnx"))
    detector.prepare(-1)
    face = np.ascontiguousarray(scene.draw_face().numpy()[..., ::-1])  # it reads BGR
    picture = np.ascontiguousarray(scene.draw_picture().numpy()[..., ::-1])
    boxes, points = detector.detect(picture, input_size=(people.FACE_SIDE, people.FACE_SIDE))
    return {
        "embedding": recogniser.get_feat(face)[0].tolist(),
        "boxes": boxes.tolist(),
        "points": points.tolist(),
    }


def main() -> None:
    open_package(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        record = record_pack(Path(folder))
    TO.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
