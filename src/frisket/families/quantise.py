"""Frozen weights in fewer bits: the linear layers of a denoiser's blocks in nf4, int8 or fp8."""

from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from frisket.families.blocks import blocks_of

QuantiseKind = Literal["none", "nf4", "int8", "fp8"]
PACKAGES = {"nf4": "bitsandbytes", "int8": "torchao", "fp8": "torchao"}
RECORD = "frisket_quantised"  # attribute of a quantised model: its kind


class PackageMissing(ImportError):
    """The library that a kind of quantisation needs is not installed; the message says which."""


def require(kind: QuantiseKind) -> None:
    """Raise PackageMissing, with the command that installs it, where `kind` cannot be made here."""
    package = PACKAGES.get(kind)
    if package is None:
        return
    try:
        import_module(package)
    except ImportError as error:
        raise PackageMissing(
            f'memory.quantise = "{kind}" needs {package}, which does not load here ({error}):'
            f" pip install {package}"
            + (', or choose memory.quantise = "nf4"' if package == "torchao" else "")
        ) from error


def layers_of(model: nn.Module) -> dict[str, nn.Linear]:
    """The layers that are quantised: all linear ones of the blocks, in order.

    What stands before and after the blocks (patches, text, time, the output) stays as it is: it is
    a few percent of the weights and most of the error. So do modules that diffusers keeps in
    float32 (`_keep_in_fp32_modules`).
    """
    exact = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    layers: dict[str, nn.Linear] = {}
    for name, block in blocks_of(model).items():
        for inner, layer in block.named_modules():
            path = f"{name}.{inner}"
            if isinstance(layer, nn.Linear) and not exact & set(path.split(".")):
                layers[path] = layer
    return layers


def find_kind(model: nn.Module) -> QuantiseKind:
    """How a model's frozen weights are held: the kind it was quantised to, or "none"."""
    kind: QuantiseKind = getattr(model, RECORD, "none")
    return kind


@torch.no_grad()
def quantise(model: nn.Module, kind: QuantiseKind, *, dtype: torch.dtype, device: str) -> nn.Module:
    """Turn the layers of `layers_of` into `kind`, one after the other, each freed when done.

    Done after loading and not by diffusers while it loads: its nf4 refuses machines without a GPU,
    and its lists of exceptions match by the end of a name, so that `proj_out` would spare those of
    FLUX's blocks as well. Weights of the dtype they have on disk are mapped from the file and cost
    no memory until they are read here. The arithmetic is done on the GPU where there is one, the
    results lie on `device`; layers compute in `dtype`. On the meta device only shapes are made
    (for the memory prediction) and no library is needed. PackageMissing, and ValueError where the
    model is quantised already.
    """
    if kind == "none":
        return model
    if find_kind(model) != "none":
        raise ValueError(f"{type(model).__name__} is quantised already ({find_kind(model)})")
    shapes_only = device == "meta"
    if not shapes_only:
        require(kind)
    at = "cuda" if device == "cpu" and torch.cuda.is_available() else device
    for name, layer in layers_of(model).items():
        parent, _, child = name.rpartition(".")
        setattr(
            model.get_submodule(parent), child, quantise_layer(layer, kind, dtype, at).to(device)
        )
    setattr(model, RECORD, kind)
    return model


def quantise_layer(
    layer: nn.Linear, kind: QuantiseKind, dtype: torch.dtype, device: str
) -> nn.Module:
    """One layer in `kind`, on the device; the layer it was is not to be used any more."""
    if kind == "nf4":
        output = _nf4(layer, dtype, device)
    elif device == "meta":
        output = EightBit(layer, torch.int8 if kind == "int8" else torch.float8_e4m3fn, dtype)
    else:
        output = _torchao(layer, kind, dtype, device)
    output.register_forward_pre_hook(_as_autocast)
    return output


def _as_autocast(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The input in autocast's precision, as a plain layer takes it.

    The libraries answer in the precision of the input. One norm that autocast runs in float32 would
    turn all that follows to float32, at twice the memory.
    """
    for device in ("cuda", "cpu"):
        if torch.is_autocast_enabled(device):
            return (args[0].to(torch.get_autocast_dtype(device)), *args[1:])
    return args


def _nf4(layer: nn.Linear, dtype: torch.dtype, device: str) -> nn.Module:
    """4 bits a weight, by bitsandbytes: blocks of 64, scales in 8 bits (QLoRA, 2305.14314)."""
    bnb: Any = import_module("bitsandbytes")
    output = bnb.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    weight = layer.weight.to(device, dtype)
    if device == "meta":
        bnb.functional.quantize_blockwise(torch.zeros(1))  # its table is cached where first made
    packed, state = bnb.functional.quantize_4bit(
        weight, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    output.weight = bnb.nn.Params4bit(
        packed,
        requires_grad=False,
        quant_state=state,
        blocksize=64,
        compress_statistics=True,
        quant_type="nf4",
        bnb_quantized=True,
        module=output,
    )
    output.quant_state = state
    if layer.bias is not None:  # the layer would cast it to its input's dtype in the first call
        output.bias = nn.Parameter(layer.bias.to(device, dtype), requires_grad=False)
    # In eval mode on a CPU it would repack its weights into a form that cannot be trained on.
    output.support_avx512bf16_for_cpu = False
    return output.train(layer.training)


def _torchao(layer: nn.Linear, kind: QuantiseKind, dtype: torch.dtype, device: str) -> nn.Module:
    """8 bits a weight, by torchao: one scale a row, the product in the layer's own dtype."""
    ao: Any = import_module("torchao.quantization")
    moved = layer.to(device, dtype).requires_grad_(False)
    config = ao.Int8WeightOnlyConfig() if kind == "int8" else ao.Float8WeightOnlyConfig()
    ao.quantize_(moved, config)
    moved.weight.requires_grad_(False)
    return moved


class EightBit(nn.Linear):
    """What torchao's weight-only layer keeps and makes, as shapes: for the memory prediction."""

    def __init__(self, layer: nn.Linear, stored: torch.dtype, dtype: torch.dtype) -> None:
        """Shapes of `layer`, on the meta device."""
        super().__init__(
            layer.in_features, layer.out_features, layer.bias is not None, "meta", dtype
        )
        self.weight = nn.Parameter(self.weight.to(stored), requires_grad=False)
        self.scale = nn.Parameter(torch.empty(layer.out_features, 1, device="meta"), False)
        self.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        """The weights are widened for the product, and autograd keeps the wide ones."""
        wide = functional.linear(input, self.weight.to(input.dtype))
        scaled = wide * self.scale.to(input.dtype).flatten()
        return scaled if self.bias is None else scaled + self.bias
