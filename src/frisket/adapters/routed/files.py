"""Adapters that act by noise level, and their files: what would be lost, what is turned around."""

from pathlib import Path
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from frisket.adapters.layers import Layers
from frisket.adapters.routed.orthogonal import export_layer, import_layer, pair_ranks
from frisket.adapters.spec import ADAPTER, AdapterMismatch, LoraSpec


def check_schedule(path: Path, spec: LoraSpec, run_spec: LoraSpec) -> None:
    """A schedule that would be lost without a word; a plain LoRA may go on under one."""
    if spec.rank_schedule and not run_spec.rank_schedule:
        raise AdapterMismatch(
            f"{path} acts by noise level ({spec.rank_schedule}), the adapter on this denoiser does"
            f' not. Set lora.rank_schedule = "{spec.rank_schedule}" to continue from it, or write a'
            " plain LoRA with frisket convert --drop-schedule"
        )
    if run_spec.orthogonal and not spec.rank_pairs:
        raise AdapterMismatch(f"{path} had no orthogonal start: set lora.orthogonal = false")
    paired_spec = pair_ranks(run_spec)
    if spec.rank_pairs and not (paired_spec.rank_pairs and spec.rank == paired_spec.rank):
        raise AdapterMismatch(
            f"{path} had an orthogonal start: set lora.orthogonal = true and lora.rank ="
            f" {spec.rank // 2} to continue from it"
        )


def export_layers(model: nn.Module, spec: LoraSpec) -> Layers:
    """The orthogonal adapter on a bare model as plain LoRA layers, of twice the rank."""
    return {name: export_layer(layer, ADAPTER, spec) for name, layer in _find_tuned(model).items()}


def fill_orthogonal(model: nn.Module, path: Path, layers: Layers) -> None:
    """Fill the orthogonal adapter on a bare model with a file's layers; all or AdapterMismatch."""
    tuned = _find_tuned(model)
    unmatched_layers = sorted(tuned.keys() ^ layers.keys())
    if unmatched_layers:
        raise AdapterMismatch(
            f"{path} and the adapter on this denoiser cover different modules: only one of them has"
            f" {unmatched_layers[0]}. Check lora.targets."
        )
    for name, layer in layers.items():
        size = (
            tuned[name].lora_A[ADAPTER].weight[0].numel(),
            len(tuned[name].lora_B[ADAPTER].weight),
        )
        if (layer.low[0].numel(), len(layer.high)) != size:
            raise AdapterMismatch(f"{path} was made for another base: {name} is of another size")
    for name, layer in layers.items():
        import_layer(tuned[name], ADAPTER, layer)


def _find_tuned(model: nn.Module) -> dict[str, Any]:
    return {
        name: layer for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)
    }
