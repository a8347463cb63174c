"""The recogniser of an InsightFace pack through onnxruntime: raw embeddings, no gradients."""

from typing import Any

import numpy as np
import torch

from frisket.faces.base import (
    SIDE,
    AlignedFaces,
    EmbedderPlugin,
    EmbedderUnusable,
    RawEmbeddings,
)
from frisket.faces.sessions import (
    DEFAULT_PACK,
    PACK_LICENCE,
    PACK_RECOGNISERS,
    PUBLISHED,
    import_runtime,
    locate_model,
    open_session,
    run_session,
)

READER = "the embedder onnx"


class OnnxEmbedder:
    """An ArcFace network (arXiv:1801.07698) that reads RGB in [-1, 1], as all of the packs do."""

    name = "onnx"
    licence = PACK_LICENCE
    trainable_through = False

    def __init__(self, session: Any, width: int) -> None:
        self.session, self.width = session, width

    def embed(self, aligned: AlignedFaces) -> RawEmbeddings:
        """Raw embeddings on the CPU, a face at a time: exported networks may read one alone."""
        faces = np.ascontiguousarray(aligned.detach().float().cpu().numpy())
        rows = [run_session(self.session, face[None])[0].reshape(1, -1) for face in faces]
        return torch.from_numpy(np.concatenate([np.zeros((0, self.width), np.float32), *rows]))


def load(source: str, device: str) -> OnnxEmbedder:
    """A pack's folder or its recogniser; without a source, where insightface unpacks buffalo_l.

    Raises FaceModelNotFound (nothing there, damaged), EmbedderUnusable where the file is another
    network, FaceModelUnusable without onnxruntime.
    """
    import_runtime(READER)
    file = locate_model(source or DEFAULT_PACK, PACK_RECOGNISERS, PUBLISHED, READER)
    session = open_session(file, device, READER)
    reads, outputs = session.get_inputs()[0].shape, session.get_outputs()
    if len(outputs) != 1 or list(reads[1:]) != [3, SIDE, SIDE]:
        raise EmbedderUnusable(
            f"{file} reads {reads} and has {len(outputs)} outputs: it is no face recogniser, which"
            f" reads 3 x {SIDE} x {SIDE} and has one; give {PUBLISHED}"
        )
    (embedding,) = run_session(session, np.zeros((1, 3, SIDE, SIDE), np.float32))
    return OnnxEmbedder(session, embedding.size)


EMBEDDER = EmbedderPlugin(
    summary="the recogniser of an InsightFace pack (buffalo_l, antelopev2); non-commercial",
    licence=PACK_LICENCE,
    load=load,
    commercial=False,
    trainable_through=False,
    files=f"a folder with one of {', '.join(PACK_RECOGNISERS)}, or such a file",
    published=PUBLISHED,
    names=PACK_RECOGNISERS,
    detector="scrfd",
)
