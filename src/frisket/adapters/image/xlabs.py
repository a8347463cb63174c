"""The names that XLabs' own files for FLUX have, beside those that diffusers gave them."""

import re
from collections.abc import Mapping

from torch import Tensor

PROJECTION = "ip_adapter_proj_model."
_DOUBLE = re.compile(
    r"double_blocks\.(\d+)\.processor\.ip_adapter_double_stream_([kv])_proj\.(weight|bias)"
)


def rename_tensors(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]] | None:
    """Projection and attention of a file with XLabs' own names, in the common ones; else None.

    `ip_adapter_proj_model.*` is the projection, `double_blocks.N.processor.
    ip_adapter_double_stream_{k,v}_proj.*` are keys and values of double block N (x-flux,
    `XFluxPipeline.set_ip`). A tensor that is neither keeps its name, and is refused as such.
    """
    if not any(key.startswith(PROJECTION) for key in tensors):
        return None
    projection, layers = {}, {}
    for key, value in tensors.items():
        if key.startswith(PROJECTION):
            projection[key.removeprefix(PROJECTION)] = value
        elif match := _DOUBLE.fullmatch(key):
            layers[f"{match[1]}.to_{match[2]}_ip.{match[3]}"] = value
        else:
            layers[key] = value
    return projection, layers
