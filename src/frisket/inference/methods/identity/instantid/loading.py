"""InstantID's files in memory once, however many people are sampled with them."""

from pathlib import Path
from weakref import WeakValueDictionary

from torch import Tensor

from frisket.adapters.image.instantid import InstantIdModules

# By folder and its files' times: those that a method still has, as the files hold them.
_MODULES: WeakValueDictionary[tuple[Path, tuple[int, ...]], InstantIdModules] = (
    WeakValueDictionary()
)


def share_modules(folder: Path) -> InstantIdModules:
    """A folder's modules for sampling, the same ones for all who read it; nobody may train them.

    The public ones are 4 GB. Raises as `InstantIdModules.from_folder`.
    """
    folder = folder.resolve()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    key = folder, tuple(path.stat().st_mtime_ns for path in files)
    modules = _MODULES.get(key)
    if modules is None:
        modules = _MODULES[key] = InstantIdModules.from_folder(folder)
    return modules


def place_modules(modules: InstantIdModules, like: Tensor) -> None:
    """Bring modules to a tensor's device and dtype, in place.

    Rounded ones are no longer the file's: who reads the folder after that gets modules of his own.
    """
    if next(modules.parameters()).dtype != like.dtype:
        for key, shared in list(_MODULES.items()):
            if shared is modules:
                del _MODULES[key]
    modules.to(like.device, like.dtype)
