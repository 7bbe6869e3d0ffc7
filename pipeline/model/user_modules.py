"""Imports modules that lie next to the configuration, without replacing modules that this process itself needs.

A model's file may have any name, also that of a module of the standard library or of our packages. Modules next to the
configuration take precedence over installed ones, but not over the standard library or anything already loaded. The
factory's own module is found under any name: if its name is taken, it is loaded under an alias, so that every
``import`` of that name keeps its meaning.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

ALIAS = "_model_"
"""Prefix of the name under which a factory's module is loaded if its own name is taken."""

NEEDED = frozenset({*sys.stdlib_module_names, "numpy", "pandas", "pyarrow"})
"""Top-level modules that Python or Arrow may import at any time."""


class Beside:
    """An import finder (``sys.meta_path``) for top-level modules in ``folders``, except for modules in
    :data:`NEEDED`.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = list(folders)
        self.aliased: set[str] = set()
        """Name of the factory's module if it was loaded under an alias: finding it here would load it twice."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's spec, or None to leave it to the next finder (``importlib.abc.MetaPathFinder``)."""
        if path is not None or "." in name or name in NEEDED or name in self.aliased:
            return None
        spec = PathFinder.find_spec(name, self.folders)
        return spec if spec is not None and spec.origin else None  # folders without __init__.py come last, as in Python


def load(module_name: str, folders: Sequence[str]) -> ModuleType:
    """Import the factory's module: from next to the configuration if it is there, else from where Python finds it.

    Raises whatever the import raises.
    """
    finder = _installed(folders)
    importlib.invalidate_caches()
    top, _, rest = module_name.partition(".")
    spec = _found(top, rest.partition(".")[0], folders)
    if spec is None or not _clashes(top, spec):
        return importlib.import_module(module_name)
    finder.aliased.add(top)
    _load_as(ALIAS + top, spec)
    return importlib.import_module(ALIAS + module_name)


def exists(module_name: str, folders: Sequence[str]) -> bool:
    """Whether :func:`load` would find the module. Imports nothing."""
    if module_name in sys.modules:
        return True
    top, *parts = module_name.split(".")
    try:
        elsewhere = importlib.util.find_spec(top)
    except ValueError:  # the module is loaded and has no spec
        elsewhere = None
    return any(_leads_to(spec, top, parts) for spec in (PathFinder.find_spec(top, list(folders)), elsewhere))


def _leads_to(spec: ModuleSpec | None, name: str, parts: Sequence[str]) -> bool:
    for part in parts:
        if spec is None or spec.submodule_search_locations is None:
            return False
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec is not None and spec.has_location


def _installed(folders: Sequence[str]) -> Beside:
    """Insert the finder before the one for ``sys.path``, and append the folders to ``sys.path`` for processes of the
    model.
    """
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, Beside)]
    finder = Beside(folders)
    place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
    sys.meta_path.insert(place, finder)
    sys.path.extend(folder for folder in folders if folder not in sys.path)
    return finder


def _found(top: str, part: str, folders: Sequence[str]) -> ModuleSpec | None:
    """Find the module; for a package, only if it also has the submodule ``part``."""
    spec = PathFinder.find_spec(top, folders)
    if spec is None or not part:
        return spec if spec is not None and spec.origin else None
    inside = spec.submodule_search_locations
    return spec if inside and PathFinder.find_spec(part, list(inside)) else None


def _clashes(top: str, spec: ModuleSpec) -> bool:
    """Whether the name means, or may come to mean, another module in this process."""
    if (loaded := sys.modules.get(top)) is not None:
        return not _is_same(loaded.__spec__, spec)
    if top in NEEDED:
        return True
    if spec.submodule_search_locations is not None and spec.origin:
        return False  # the modules of a package may import it by its name
    elsewhere = PathFinder.find_spec(top, [folder for folder in sys.path if folder not in _folders_of(spec)])
    return elsewhere is not None and elsewhere.origin is not None and not _is_same(elsewhere, spec)


def _folders_of(spec: ModuleSpec) -> set[str]:
    return {spec.origin.rpartition("/")[0]} if spec.origin else set()


def _is_same(one: ModuleSpec | None, other: ModuleSpec) -> bool:
    if one is None:
        return False
    if one.origin or other.origin:
        return one.origin == other.origin
    return list(one.submodule_search_locations or ()) == list(other.submodule_search_locations or ())


def _load_as(alias: str, spec: ModuleSpec) -> None:
    if (loaded := sys.modules.get(alias)) is not None and _is_same(loaded.__spec__, spec):
        return
    for name in [name for name in sys.modules if name == alias or name.startswith(f"{alias}.")]:
        del sys.modules[name]
    own = _renamed(alias, spec)
    module = importlib.util.module_from_spec(own)
    sys.modules[alias] = module
    try:
        if own.loader is not None and own.origin:
            own.loader.exec_module(module)
    except BaseException:
        del sys.modules[alias]
        raise


def _renamed(alias: str, spec: ModuleSpec) -> ModuleSpec:
    inside = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    if spec.origin:
        own = importlib.util.spec_from_file_location(alias, spec.origin, submodule_search_locations=inside)
    else:
        own = ModuleSpec(alias, None, is_package=True)
        own.submodule_search_locations = inside
    assert own is not None
    return own
