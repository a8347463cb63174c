"""Records what the authors' own projections give, for tests/adapters/image/test_projections.py.

    python scripts/record_image_projections.py IP-ADAPTER INSTANTID UNIID

Folders of tencent-ailab/IP-Adapter (Apache-2.0; read at 62e4af9), instantX-research/InstantID
(Apache-2.0; 2145b67) and lyuPang/UniID (MIT; 41cd236). Their modules are imported, each repository
in a process of its own, given the weights of tests/adapters/image/scene.py by their own
`load_state_dict`, and run. `peer.safetensors` there gets the outputs, `peer_keys.json` the names
of UniID's tensors on a tiny UNet; none of the code is kept.
"""

import importlib.abc
import importlib.machinery
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.adapters.image import scene  # noqa: E402

FOLDER = ROOT / "tests/adapters/image"
ABSENT = ("torchvision", "insightface", "seaborn", "matplotlib", "einops")


class EmptyPackages(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers for packages that the projections never call."""

    def find_spec(self, name, path=None, target=None):
        """A specification of what is absent here."""
        if name.split(".")[0] in ABSENT:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        """An empty package whose every name is a mock."""
        module = ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = lambda _: MagicMock()
        return module

    def exec_module(self, module):
        """Nothing to run."""


def run_ip_adapter(modules, inputs):
    from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel  # noqa: PLC0415
    from diffusers.pipelines import controlnet  # noqa: PLC0415

    controlnet.MultiControlNetModel = MultiControlNetModel
    sys.meta_path.insert(0, EmptyPackages())
    from ip_adapter import ip_adapter, ip_adapter_faceid, resampler  # noqa: PLC0415

    w, c = scene.WIDTH, scene.CLIP
    plus = resampler.Resampler(
        dim=64, depth=4, dim_head=64, heads=2, num_queries=8, embedding_dim=c, output_dim=w
    )
    theirs = {
        "base": ip_adapter.ImageProjModel(w, c, 4),
        "plus": plus,
        "full": ip_adapter.MLPProjModel(w, c),
        "faceid": ip_adapter_faceid.MLPProjModel(w, scene.FACE, 4),
        "faceid-plus": ip_adapter_faceid.ProjPlusModel(w, scene.FACE, c, 4),
    }
    outputs = {}
    for kind, module in theirs.items():
        module.load_state_dict(modules[kind].state_dict())
        outputs[kind] = module(*scene.list_inputs(kind, inputs))
    unit, states = inputs["unit"], inputs["states"]
    twin = theirs["faceid-plus"]
    outputs["faceid-plusv2"] = twin(unit, states, shortcut=True, scale=0.7)
    outputs["base/negative"] = theirs["base"](torch.zeros_like(inputs["pooled"]))
    outputs["faceid/negative"] = theirs["faceid"](torch.zeros_like(unit))
    outputs["faceid-plus/negative"] = twin(torch.zeros_like(unit), states[:1].expand(2, -1, -1))
    return outputs, {}


def run_instantid(modules, inputs):
    sys.meta_path.insert(0, EmptyPackages())
    from ip_adapter.resampler import Resampler  # noqa: PLC0415

    module = Resampler(
        dim=64, depth=4, dim_head=64, heads=2, num_queries=16,
        embedding_dim=scene.FACE, output_dim=scene.WIDTH,
    )  # fmt: skip
    module.load_state_dict(modules["instantid"].state_dict())
    face = inputs["face"][:, None]
    return {
        "instantid": module(face),
        "instantid/negative": module(torch.zeros_like(face)),
    }, {}


def run_uniid(modules, inputs):
    from tests.adapters.image.pipelines import build_unet  # noqa: PLC0415

    sys.meta_path.insert(0, EmptyPackages())
    from modules.uniid import UniID  # noqa: PLC0415

    unet = build_unet()
    model = UniID(
        unet, text_encoder_hidden_size=64, text_encoder_2_hidden_size=128,
        num_text_branch_tokens=3, num_adapter_tokens=5, adapter_hidden_dim=64,
    )  # fmt: skip
    text, adapter = model.text_branch, model.adapter_branch
    text.load_state_dict(modules["uniid-text"].state_dict())
    adapter.load_state_dict(modules["uniid-adapter"].state_dict(), strict=False)
    (maps,) = scene.list_inputs("uniid-adapter", inputs)
    first, second = text(inputs["face"], maps[-1])
    return {
        "uniid-text/1": first,
        "uniid-text/2": second,
        "uniid-adapter": adapter(maps),
        "uniid-adapter/negative": adapter([torch.zeros_like(plane) for plane in maps]),
    }, {key: list(value.shape) for key, value in model.state_dict().items()}


RUNS = {"ip_adapter": run_ip_adapter, "instantid": run_instantid, "uniid": run_uniid}


def record_one(name: str, checkout: Path, to: Path) -> None:
    """One repository, in this process."""
    sys.path.insert(0, str(checkout))
    with torch.no_grad():
        outputs, keys = RUNS[name](scene.build_projections(), scene.draw_inputs())
    save_file({key: value.contiguous() for key, value in outputs.items()}, to)
    if keys:
        (FOLDER / "peer_keys.json").write_text(json.dumps(keys, indent=0) + "\n")


def main(checkouts: list[str]) -> None:
    outputs = {}
    for name, checkout in zip(RUNS, checkouts, strict=True):
        to = FOLDER / f"{name}.part.safetensors"
        subprocess.run([sys.executable, __file__, "--one", name, checkout, str(to)], check=True)
        outputs |= load_file(to)
        to.unlink()
    metadata = {"commits": "IP-Adapter 62e4af9, InstantID 2145b67, UniID 41cd236"}
    save_file(dict(sorted(outputs.items())), FOLDER / "peer.safetensors", metadata)
    print(f"{len(outputs)} outputs, {(FOLDER / 'peer.safetensors').stat().st_size} bytes")


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        record_one(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main(sys.argv[1:])
