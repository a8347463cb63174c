"""The masked loss against torch's plain MSE, forward and backward, and what it keeps between them.

Targets: at most 1.15 times plain MSE on 1 x 16 x 21 x 60 x 104; no full-size tensor kept.
"""

import measure  # first: it sets the number of threads torch starts with
import torch
from torch import Tensor
from torch.nn import functional

import frisket
from frisket.losses.base import weighted_mse

SHAPE = (1, 16, 21, 60, 104)  # 81 frames of 480 x 832 on Wan's latent grid
PIXELS = (1, 81, 480, 832)


def kept_bytes(loss: Tensor, held: list[Tensor], inputs: tuple[Tensor, ...]) -> int:
    """Bytes kept for backward in storages that are not the inputs' own."""
    known = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held
    }
    loss.sum().backward()
    return sum(size for pointer, size in storages.items() if pointer not in known)


def main() -> None:
    measure.title("Masked loss against plain MSE, 1 x 16 x 21 x 60 x 104, forward + backward")
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        made = torch.Generator().manual_seed(0)
        target = torch.randn(SHAPE, generator=made).to(dtype)
        prediction = torch.randn(SHAPE, generator=made).to(dtype).requires_grad_()
        soft = torch.rand(1, 1, *SHAPE[2:], generator=made)
        ones = torch.ones_like(soft)
        pixels = torch.rand(PIXELS, generator=made)
        losses = {
            "plain MSE": functional.mse_loss,
            "plain MSE in float32": lambda p, t: functional.mse_loss(p.float(), t.float()),
            "error map x mask (kohya)": lambda p, t, w=soft: (
                functional.mse_loss(p.float(), t.float(), reduction="none") * w
            ).mean(),
            "weighted_mse": lambda p, t, w=soft: weighted_mse(p, t, w).mean(),
            "weighted_mse, all ones": lambda p, t, w=ones: weighted_mse(p, t, w).mean(),
            "frisket.masked_loss, coverage": lambda p, t, w=soft: frisket.masked_loss(p, t, w),
            "frisket.masked_loss, pixels": lambda p, t, w=pixels: frisket.masked_loss(p, t, w),
        }

        def run(name: str, losses=losses, prediction=prediction, target=target) -> None:
            prediction.grad = None
            losses[name](prediction, target).backward()

        full = prediction.numel() * prediction.element_size()
        for name, loss in losses.items():
            # In pairs: what another case leaves in the caches and the allocator would count too.
            pair = {"plain": lambda run=run: run("plain MSE"), name: lambda n=name, r=run: r(n)}
            seconds = measure.interleaved(pair, repeats=60)
            held: list[Tensor] = []

            def keep(tensor: Tensor, held: list[Tensor] = held) -> Tensor:
                held.append(tensor)
                return tensor

            prediction.grad = None
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                value = loss(prediction, target)
            kept = kept_bytes(value, held, (prediction, target, soft, ones))
            rows.append(
                (
                    str(dtype).removeprefix("torch."),
                    name,
                    measure.spread(seconds[name]),
                    f"{measure.ratio(seconds[name], seconds['plain']):.2f}",
                    f"{kept / 2**20:.2f} ({kept / full:.2f} of the prediction)",
                )
            )
    measure.table(("dtype", "loss", "CPU ms (quartiles)", "/ plain", "MiB kept besides"), rows)


if __name__ == "__main__":
    main()
