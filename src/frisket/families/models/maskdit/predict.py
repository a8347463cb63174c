"""From the network's output to the clean latents: EDM's preconditioning around one call."""

from torch import Tensor, nn

from frisket.families.routes import get_kept_tokens
from frisket.objectives.edm import precondition
from frisket.shapes import Latents, PerSample


def predict_clean(denoiser: nn.Module, noisy: Latents, t: PerSample, text: Tensor) -> Latents:
    """D = c_skip x + c_out F(c_in x), float32.

    The encoder is told of the tokens that `families.routes.keep_tokens` names, of all where it
    names none.
    """
    weight = next(denoiser.parameters())
    t, kept_tokens = t.to(noisy.device), get_kept_tokens()
    scales = precondition(t)
    states = (scales.in_ * noisy.float()).to(weight.dtype)
    output: Tensor = denoiser(
        states,
        t * 1000,
        text.to(noisy.device, weight.dtype),
        kept_tokens=None if kept_tokens is None else kept_tokens.to(noisy.device),
        return_dict=False,
    )[0]
    return scales.skip * noisy.float() + scales.out * output.float()
