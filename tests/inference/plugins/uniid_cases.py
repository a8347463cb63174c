"""Cases of UniID that the authors' code and ours are both run on, and files for ours."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from safetensors.torch import save_file
from tests.inference.plugins import small_sdxl

from frisket.adapters.image.adapter import ImageAdapterModules
from frisket.adapters.image.branches import ADAPTER, TEXT, write_branch
from frisket.adapters.image.layouts import recognise
from frisket.adapters.image.uniid import UniIdAdapterProjection, UniIdTextProjection
from frisket.faces.base import FaceEmbedding
from frisket.faces.iresnet import IResNet, IResNetShape
from frisket.families import tiny
from frisket.families.base import Source
from frisket.families.shared.clip_prompts import ClipText
from frisket.inference.methods.identity.uniid.name_norms import write_name_norms
from frisket.inference.methods.identity.uniid.reading import UniIdOptions
from frisket.inference.methods.plugin import MethodRequest, ReferencePicture

ADAPTER_TOKENS, HIDDEN = 5, 64
NORMS = ((5.0, 6.0, 7.0), (8.0, 9.0, 10.0))
NAMES = ("Ada Lovelace", "Bo Li", "Jo", "Maximilian of Nowhere", "Zoe")
NAMES_FILE = Path(gettempdir()) / "frisket-uniid-names.txt"


@dataclass(frozen=True, slots=True)
class Case:
    start: int = 2
    text: tuple[float, float] = (0.5, 1.8)
    adapter: tuple[float, float] = (0.8, 1.2)
    rescale: bool = True
    norms: bool = True
    branches: tuple[str, ...] = ("text", "adapter")


CASES = {
    "whole": Case(),
    "from the start": Case(start=0),
    "plain": Case(rescale=False, norms=False),
    "text": Case(branches=("text",)),
    "adapter": Case(branches=("adapter",)),
}


def write_network(folder: Path) -> Path:
    """The recognition network, one block a stage."""
    network = IResNet(IResNetShape((1, 1, 1, 1), small_sdxl.STAGES))
    small_sdxl.fill(network, "network.")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), folder / "backbone.safetensors")
    return folder


def write_branches(folder: Path) -> Path:
    """Both branches as the authors' scripts save them, and norms of names beside."""
    text = UniIdTextProjection((small_sdxl.HALF, small_sdxl.HALF), small_sdxl.TOKENS)
    small_sdxl.fill(text, "text_branch.")
    write_branch(folder / TEXT, recognise(text.state_dict(), {}))
    _, parts = small_sdxl.build_parts()
    projection = UniIdAdapterProjection(small_sdxl.WIDTH, tokens=ADAPTER_TOKENS, hidden=HIDDEN)
    assert parts.denoiser is not None
    adapter = ImageAdapterModules.start_for_model("uniid-adapter", projection, parts.denoiser)
    small_sdxl.fill(adapter.image_proj, "adapter_branch.")
    small_sdxl.fill(adapter.ip_adapter, "adapter_branch.adapter_modules.")
    write_branch(folder / ADAPTER, adapter.to_file())
    write_name_norms(folder, [torch.tensor(norms) for norms in NORMS])
    return folder


def build_text() -> Any:
    """Two small CLIP encoders with tokenizers of bytes."""
    torch.manual_seed(0)
    parts = {
        "tokenizer": tiny.tokenizer(77, begin=True),
        "text_encoder": tiny.clip_text(16),
        "tokenizer_2": tiny.tokenizer(77, begin=True),
        "text_encoder_2": tiny.clip_text(16, projection=16),
    }
    for name in ("text_encoder", "text_encoder_2"):
        small_sdxl.fill(parts[name], f"{name}.")  # type: ignore[arg-type]
    return ClipText(Source("sdxl"), **parts)  # type: ignore[arg-type]


def write_files(folder: Path) -> Path:
    """All that a request reads, once for many."""
    write_branches(folder / "uniid")
    write_network(folder / "network")
    return folder


def make_request(folder: Path, case: Case, **settings: Any) -> MethodRequest:
    """A request with the files in a folder."""
    face = FaceEmbedding(20 * torch.ones(512) / 512**0.5, small_sdxl.draw_crop()[0])
    frame = torch.zeros(4, 4, 3, dtype=torch.uint8)
    options = UniIdOptions(
        start=case.start,
        text=case.text,
        adapter=case.adapter,
        rescale=case.rescale,
        norms="names" if case.norms else "none",
        branches="both" if len(case.branches) == 2 else case.branches[0],  # type: ignore[arg-type]
    )
    given: dict[str, Any] = {
        "source": folder / "uniid",
        "encoder": folder / "network",
        "references": (ReferencePicture(Path("ada.jpg"), frame, face),),
        "options": options,
    }
    return MethodRequest(**given | settings)
