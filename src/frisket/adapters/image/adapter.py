"""An image adapter as modules: what is trained, and what goes back into the public layout."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.image.attention import TRAINED as NAME
from frisket.adapters.image.attention import KeyValues, make_key_values
from frisket.adapters.image.face_maps import ReferenceSizes
from frisket.adapters.image.layouts import ImageAdapterFile, ImageAdapterKind, recognise
from frisket.adapters.image.uniid import UniIdAdapterProjection, UniIdTextProjection
from frisket.adapters.targets import unwrap_model


class ImageAdapterModules(nn.Module):
    """A projection and the keys and values of its tokens.

    The names of its parameters are those of a public `.safetensors`: `image_proj.*` and
    `ip_adapter.{number}.to_k_ip.weight`. FaceID's LoRA is carried along, not trained here. `family`
    is that of an adapter of ours, empty for a public layout. While `is_silent`, a model that it was
    put on is to be the base (`frisket.adapters.attach.frozen`). `sizes` are those of the rows that
    `project_rows` reads, where these hold maps beside an embedding. `identity_net` is InstantID's,
    while that is trained: it is saved by `InstantIdModules`, not by `to_file`.
    """

    is_silent: bool = False
    sizes: ReferenceSizes | None = None
    identity_net: nn.Module | None

    def __init__(
        self,
        kind: ImageAdapterKind,
        projection: nn.Module,
        layers: KeyValues,
        loras: Mapping[str, Tensor] | None = None,
        family: str = "",
    ) -> None:
        super().__init__()
        self.kind, self.family = kind, family
        self.image_proj = projection
        self.ip_adapter = layers
        self.loras = dict(loras or {})
        self.identity_net = None

    @classmethod
    def from_file(cls, file: ImageAdapterFile) -> "ImageAdapterModules":
        """An adapter with the weights of a file; raises as `ImageAdapterFile.build_layers`.

        UniID's text branch has no layers of its own.
        """
        is_text = file.kind == "uniid-text"
        layers = KeyValues(sum(file.width), {}) if is_text else file.build_layers()
        return cls(file.kind, file.build_projection(), layers, file.loras, file.family)

    @classmethod
    def start_for_model(
        cls, kind: ImageAdapterKind, projection: nn.Module, model: nn.Module
    ) -> "ImageAdapterModules":
        """A new adapter for a UNet: keys and values begin as the text's, as the authors train it.

        Raises as `frisket.adapters.image.attention.make_key_values`.
        """
        return cls(kind, projection, make_key_values(model))

    def project_rows(self, rows: Float[Tensor, "b *_"]) -> Float[Tensor, "b t c"]:
        """Tokens of what was read of pictures, a row each; those of UniID's words side by side."""
        projection = self.image_proj
        if self.sizes is not None and isinstance(projection, UniIdTextProjection):
            embeddings, maps = self.sizes.unpack(rows)
            return torch.cat(projection(embeddings, maps[-1]), dim=-1)
        if self.sizes is not None and isinstance(projection, UniIdAdapterProjection):
            _, maps = self.sizes.unpack(rows)
            return torch.as_tensor(projection(maps))
        return torch.as_tensor(projection(rows))

    def to_file(self) -> ImageAdapterFile:
        """Copies of its weights, to be written; AdapterMismatch where the parts do not fit."""
        projection = {key: value.clone() for key, value in self.image_proj.state_dict().items()}
        layers = {**self.ip_adapter.state_dict(), **self.loras}
        layers = {key: value.clone() for key, value in layers.items()}
        return recognise(projection, layers, kind=self.kind, family=self.family)


def install_adapter(denoiser: nn.Module, adapter: ImageAdapterModules) -> None:
    """Make an adapter a part of a frozen denoiser: in float32, on its device, to be trained.

    Nothing is computed by it yet. ValueError where one is there already.
    """
    model = unwrap_model(denoiser)
    if find_image_adapter(model) is not None:
        raise ValueError("the denoiser has an image adapter already")
    model.requires_grad_(False)
    adapter.to(next(model.parameters()).device, torch.float32).requires_grad_(True)
    model.add_module(NAME, adapter)


@contextmanager
def silence_pictures(model: nn.Module) -> Iterator[None]:
    """Inside, image adapters that were put on a model (or on parts of it) add nothing."""
    adapters = [module for module in model.modules() if isinstance(module, ImageAdapterModules)]
    before = [adapter.is_silent for adapter in adapters]
    try:
        for adapter in adapters:
            adapter.is_silent = True
        yield
    finally:
        for adapter, is_silent in zip(adapters, before, strict=True):
            adapter.is_silent = is_silent


def find_image_adapter(denoiser: nn.Module) -> ImageAdapterModules | None:
    """The adapter that was put on a denoiser, None where there is none."""
    adapter = getattr(unwrap_model(denoiser), NAME, None)
    return adapter if isinstance(adapter, ImageAdapterModules) else None
