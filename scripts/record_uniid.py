# ruff: noqa: D102
"""Records what UniID's own code gives, for tests/inference/plugins/test_uniid_peers.py.

    python scripts/record_uniid.py UNIID

UNIID is a checkout of the authors' repository as a folder: github.com/lyuPang/UniID (MIT, head
41cd236). A face goes through their recognition network, both their branches and their pipeline with
a small SDXL; kept are the final latents alone, and the norms that their names' measure gives.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from safetensors.torch import save_file
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.inference.plugins import small_sdxl, uniid_cases  # noqa: E402

TO = ROOT / "tests/inference/plugins/uniid.safetensors"


class Absent:
    """Stands for what only their plots and data sets use."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        known = name.startswith(("matplotlib", "seaborn"))
        return ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__getattr__ = lambda _: MagicMock()  # type: ignore[method-assign]
        module.__path__ = []
        return module

    def exec_module(self, _: ModuleType) -> None:
        """Nothing to run."""


def record_case(case: uniid_cases.Case) -> Tensor:
    """The final latents of one case, whole: network, branches, norms, pipeline."""
    iresnet: Any = import_module("modules.insightface_iresnet")
    network = iresnet.IResNet(iresnet.IBasicBlock, [1, 1, 1, 1])
    small_sdxl.fill(network, "network.")
    features, maps = network.eval()(small_sdxl.draw_crop())
    family, parts = small_sdxl.build_parts()
    module: Any = (
        import_module("modules.uniid")
        .UniID(
            parts.denoiser,
            text_encoder_hidden_size=small_sdxl.HALF,
            text_encoder_2_hidden_size=small_sdxl.HALF,
            num_text_branch_tokens=small_sdxl.TOKENS,
            num_adapter_tokens=uniid_cases.ADAPTER_TOKENS,
            adapter_hidden_dim=uniid_cases.HIDDEN,
            normalize_adapter_output=case.rescale,
        )
        .eval()
    )
    small_sdxl.fill(module.text_branch, "text_branch.")
    small_sdxl.fill(module.adapter_branch, "adapter_branch.")
    words, image = module(features, maps)
    _, nobody = module(torch.zeros_like(features), [torch.zeros_like(plane) for plane in maps])
    call = small_sdxl.draw_call()
    if "text" in case.branches:
        if case.norms:
            words = [
                part / torch.norm(part, dim=-1, keepdim=True) * torch.tensor(norms)[:, None]
                for part, norms in zip(words, uniid_cases.NORMS, strict=True)
            ]
        prompt = call["prompt_embeds"]
        spliced = [prompt[:, :1], torch.cat(list(words), -1), prompt[:, 1 : -small_sdxl.TOKENS]]
        call["prompt_embeds"] = torch.cat(spliced, 1)
    if "adapter" in case.branches:
        call["prompt_embeds"] = torch.cat([call["prompt_embeds"], image], 1)
        call["negative_prompt_embeds"] = torch.cat([call["negative_prompt_embeds"], nobody], 1)
    else:
        # Their UNet always has the adapter's layers: an SDXL without them.
        _, parts = small_sdxl.build_parts()
    pipeline: Any = family.pipeline(parts)
    theirs: Any = import_module("modules.my_pipeline").MyStableDiffusionXLPipeline(
        **{name: part for name, part in pipeline.components.items() if name not in ("safety",)}
    )
    theirs.set_progress_bar_config(disable=True)
    with_text = "text" in case.branches
    return theirs(
        **call,
        start_merge_step=case.start,
        text_branch_scale_before_merge=case.text[0] if with_text else 1.0,
        text_branch_scale=case.text[1] if with_text else 1.0,
        adapter_branch_scale_before_merge=case.adapter[0],
        adapter_branch_scale=case.adapter[1],
        num_text_branch_tokens=small_sdxl.TOKENS if with_text else 0,
    ).images


def record_norms() -> dict[str, Tensor]:
    """Norms of names by their measure, with encoders that take embeddings in place of ids."""
    measure: Any = import_module("utils").get_celeb_names_encoder_output
    text = uniid_cases.build_text()
    encoders = [stand_in(text.text_encoder), stand_in(text.text_encoder_2)]
    uniid_cases.NAMES_FILE.write_text("\n".join(uniid_cases.NAMES), encoding="utf8")
    outputs = measure(
        str(uniid_cases.NAMES_FILE),
        text.tokenizer,
        text.tokenizer_2,
        *encoders,
        n_column=small_sdxl.TOKENS,
    )
    return {f"norms.{index}": torch.norm(rows, dim=1) for index, rows in enumerate(outputs)}


def stand_in(encoder: Any) -> Any:
    """An encoder that reads a whole row of input embeddings, as their own CLIP does."""
    embedding = encoder.get_input_embeddings()

    def run(inputs_embeds: Tensor) -> Any:
        handle = embedding.register_forward_hook(lambda *_: inputs_embeds)
        try:
            ids = torch.zeros(inputs_embeds.shape[:2], dtype=torch.long)
            return encoder(ids, output_hidden_states=True)
        finally:
            handle.remove()

    class Encoder(SimpleNamespace):
        def __call__(self, input_ids: Any = None, **options: Any) -> Any:
            return run(options["inputs_embeds"])

    return Encoder(get_input_embeddings=lambda: embedding)


@torch.no_grad()
def main() -> None:
    sys.meta_path.insert(0, Absent())  # type: ignore[arg-type]
    sys.path.insert(0, sys.argv[1])
    kept = {name: record_case(case) for name, case in uniid_cases.CASES.items()}
    kept |= record_norms()
    save_file({name: value.contiguous() for name, value in kept.items()}, TO)
    print(f"{len(kept)} tensors in {TO}")


if __name__ == "__main__":
    main()
