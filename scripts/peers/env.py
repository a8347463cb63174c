"""Records which options SimpleTuner's own code makes of the variables of a config.env.

    python scripts/peers/env.py SIMPLETUNER COMMIT > tests/importers/sources/simpletuner_env.json

SIMPLETUNER is a folder with the repository's text. Every variable it knows is set, a switch and a
value, and `load_env_config` turns them into arguments.
"""

import contextlib
import importlib.util
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from options import Finder


def module(file: Path) -> Any:
    """One file as a module; all that it imports of others is stood in for."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def main(root: Path, commit: str) -> None:
    """Print the record."""
    sys.meta_path.insert(0, Finder([]))
    folder = root / "simpletuner" / "helpers" / "configuration"
    name = "simpletuner.helpers.configuration.template_vars"
    sys.modules[name] = module(folder / "template_vars.py")
    env_file = module(folder / "env_file.py")

    cases = []
    for name in sorted(env_file.env_to_args_map):
        for value in ("2e-6", "true"):
            os.environ[name] = value
            with contextlib.redirect_stdout(io.StringIO()):
                made = env_file.load_env_config()
            del os.environ[name]
            cases.append([name, value, made])
    rows = ",\n".join(map(json.dumps, cases))
    print(f'{{"source": "bghira/SimpleTuner {commit}",\n"cases": [\n{rows}\n]}}')


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
