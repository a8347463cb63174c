"""Records what the authors' own code of faces gives, for tests/faces/test_peers.py.

    python scripts/record_faces.py INSIGHTFACE INSTANTID UNIID [SKIMAGE]

INSIGHTFACE is a folder of deepinsight/insightface (code MIT; read at 7fadd42), INSTANTID one of
instantX-research/InstantID (Apache-2.0; 2145b67), UNIID one of lyuPang/UniID (MIT; 41cd236) and
SKIMAGE one that scikit-image was installed into (insightface fits its similarity with it). Their
functions are imported and run on what tests/faces/peer_scene.py makes; tests/faces/peers.json gets
the numbers, none of the code is kept.
"""

import ast
import hashlib
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import PIL.Image
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.faces import peer_scene as scene  # noqa: E402

TO = ROOT / "tests/faces/peers.json"


def import_file(file: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def cut_function(file: Path, name: str) -> Any:
    """One function of a file whose other imports are not wanted."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    chosen = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
    space = {"np": np, "cv2": cv2, "math": math, "PIL": PIL}
    exec(compile(ast.Module(chosen, []), str(file), "exec"), space)
    return space[name]


@torch.no_grad()
def record_networks(insightface: Path, uniid: Path) -> dict[str, Any]:
    arcface = import_file(
        insightface / "recognition/arcface_torch/backbones/iresnet.py", "arcface_iresnet"
    )
    branches = import_file(uniid / "modules/insightface_iresnet.py", "uniid_iresnet")
    faces, records = scene.draw_faces(), {}
    for depth in ("18", "34", "50", "100", "200"):
        with torch.device("cpu" if depth == scene.VALUED else "meta"):
            model = getattr(arcface, f"iresnet{depth}")().eval()
        keys = sorted(model.state_dict())
        digest = hashlib.sha256("\n".join(keys).encode()).hexdigest()
        records[depth] = {"keys": digest, "count": len(keys)}
        if depth != scene.VALUED:
            continue
        weights = scene.fill_weights({k: tuple(v.shape) for k, v in model.state_dict().items()})
        model.load_state_dict(weights)
        twin = getattr(branches, f"iresnet{depth}")().eval()
        twin.load_state_dict(weights)
        embeddings, maps = twin(faces)
        records[depth] |= {
            "arcface": scene.summarise(model(faces)),
            "uniid": scene.summarise(embeddings),
            "maps": [scene.summarise(cells) for cells in maps],
            "shapes": [list(cells.shape) for cells in maps],
        }
    return records


def record_alignment(insightface: Path) -> list[Any]:
    source = import_file(insightface / "python-package/insightface/utils/face_align.py", "theirs")
    picture = scene.draw_picture().numpy()
    records = []
    for face in scene.FACES:
        points = np.array(face)
        crop = source.norm_crop(picture, points)
        records.append(
            {"matrix": source.estimate_norm(points).tolist(), "crop": crop[::8, ::8].tolist()}
        )
    return records


def record_drawings(instantid: Path) -> list[str]:
    draw = cut_function(instantid / "pipeline_stable_diffusion_xl_instantid.py", "draw_kps")
    digests = []
    for (height, width), points in scene.DRAWINGS:
        picture = np.array(draw(PIL.Image.new("RGB", (width, height)), points))
        digests.append(hashlib.sha256(picture.tobytes()).hexdigest())
    return digests


def main() -> None:
    insightface, instantid, uniid = (Path(place) for place in sys.argv[1:4])
    sys.path += sys.argv[4:5]
    record = {
        "networks": record_networks(insightface, uniid),
        "alignment": record_alignment(insightface),
        "drawings": record_drawings(instantid),
    }
    TO.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
