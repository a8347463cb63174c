"""Records what ConceptAttention's own code gives, for tests/attention/test_concepts.py.

    python scripts/record_concept_attention.py CHECKOUT COMMIT

CHECKOUT is a folder with the files of github.com/helblazer811/ConceptAttention at COMMIT; its
model runs as it is, in a process of its own, on the weights and inputs that
tests/attention/concept_scene.py draws. What it imports and does not need here (plots, metrics) is
stood in for; einops has to be importable. Nothing of its code is kept (it has no licence): the
record holds names and shapes of its weights, and its scores and heat maps, twice. `prompt`: the
concepts are the prompt's own tokens, so that its concept stream is the text stream; `concepts`:
three tokens beside the prompt, as the method is meant.
"""

import json
import subprocess
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from tests.attention import concept_scene as scene  # noqa: E402

TO = ROOT / "tests/attention/peers/concept_attention.json"
FILES = (
    "concept_attention/flux/dit.py",
    "concept_attention/flux/dit_block.py",
    "concept_attention/heatmap_utils.py",
)


class StandIns:
    """Finds modules that are imported and not used: plots and metrics."""

    roots = ("matplotlib", "sklearn")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """A specification for what is stood in for, None for the rest."""
        if name.partition(".")[0] not in self.roots:
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module that has every name."""
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def run_authors(checkout: Path) -> dict[str, Any]:
    """In a process of its own: their model and heat maps."""
    sys.meta_path.insert(0, StandIns())  # type: ignore[arg-type]
    sys.path.insert(0, str(checkout))
    for name in ("concept_attention", "concept_attention.flux"):  # skip what sets up pipelines
        package = ModuleType(name)
        package.__path__ = [str(checkout / name.replace(".", "/"))]
        sys.modules[name] = package
    flux: Any = import_module("concept_attention.flux.dit")
    heatmaps: Any = import_module("concept_attention.heatmap_utils")
    model = flux.ModifiedFluxDiT(
        flux.FluxParams(
            scene.CHANNELS, scene.POOLED, scene.TEXT, scene.HIDDEN, 4.0, scene.HEADS,
            scene.DEPTH, 1, list(scene.AXES), 10_000, True, False,
        )
    )  # fmt: skip
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict(scene.draw_weights(shapes))
    inputs = scene.draw_inputs()

    def compute(concepts: torch.Tensor, pooled: torch.Tensor) -> dict[str, Any]:
        count = concepts.shape[1]
        with torch.no_grad():
            _, layers = model(
                img=inputs["image"],
                img_ids=scene.draw_positions()[None],
                txt=inputs["text"],
                txt_ids=torch.zeros(1, inputs["text"].shape[1], 3),
                concepts=concepts,
                concept_ids=torch.zeros(1, count, 3),
                concept_vec=pooled,
                timesteps=torch.tensor([scene.LEVEL]),
                y=inputs["pooled"],
            )
        height, width = scene.CELLS
        heat = heatmaps.compute_heatmaps_from_attention_dicts(
            [layers], count, 16 * width, 16 * height, list(range(scene.DEPTH)), [0]
        )
        scores = [layer["concept_scores"][0].tolist() for layer in layers]
        return {"scores": scores, "heatmaps": heat.tolist()}

    return {
        "shapes": shapes,
        "prompt": compute(inputs["text"], inputs["pooled"]),
        "concepts": compute(inputs["concepts"], inputs["concept_pooled"]),
    }


def main() -> None:
    """Run theirs in a process of its own and write the record."""
    if sys.argv[1] == "--authors":
        sys.stdout.write(json.dumps(run_authors(Path(sys.argv[2]))))
        return
    checkout, commit = sys.argv[1:]
    command = [sys.executable, __file__, "--authors", checkout]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    record = {
        "repo": "helblazer811/ConceptAttention",
        "commit": commit,
        "files": list(FILES),
        **json.loads(output),
    }
    text = json.dumps(record, separators=(",", ":"), default=float)
    TO.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
