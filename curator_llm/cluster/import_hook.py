"""Do something once another package is imported: ``ddf.llm`` exists without our importing Dask's dataframes.

Loads no Dask itself. The hook looks for one name, and takes itself away when that is imported.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def after(module: str, ours: str) -> None:
    """Import `ours`, whose import has an effect, once `module` is imported: now, or when somebody does so.

    Parameters
    ----------
    module, ours : str
        Names of modules.
    """
    if module in sys.modules:
        importlib.import_module(ours)
    else:
        sys.meta_path.insert(0, _Finder(module, ours))


class _Finder(MetaPathFinder):
    """Finds the module as usual, and has ours imported behind it."""

    def __init__(self, module: str, ours: str) -> None:
        self._module = module
        self._ours = ours
        self._looking = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the one module; every other name is not this finder's."""
        del path, target
        if fullname != self._module or getattr(self._looking, "now", False):
            return None
        self._looking.now = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking.now = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec

    def imported(self) -> None:
        """Import ours; once is enough."""
        with suppress(ValueError):
            sys.meta_path.remove(self)
        importlib.import_module(self._ours)


class _Loader(Loader):
    """Loads the module as usual, and tells the finder."""

    def __init__(self, loader: Loader, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Make the module as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module and give it its own loader back. If that fails, the next import tries again."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._finder.imported()
