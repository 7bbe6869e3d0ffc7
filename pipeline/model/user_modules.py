"""Modules that lie beside the configuration: found first, and never in the place of what this process needs itself.

A model's file may have any name, those of the standard library's modules and of our own packages included. What is
beside the configuration comes before what is installed. It never comes before the standard library, nor before what is
loaded already. The factory's own module is found whatever its name: one that has a name of these is loaded under
another, so that every ``import`` of the name goes on to mean what it meant.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

ALIAS = "_model_"
"""In front of the name of a factory's module that has another's name."""

NEEDED = frozenset({*sys.stdlib_module_names, "numpy", "pandas", "pyarrow"})
"""Imported by Python or by Arrow whenever they come to it."""


class Beside:
    """Finds top modules in these folders, unless they are installed and needed (``sys.meta_path``)."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = list(folders)
        self.aliased: set[str] = set()
        """The factory's module, under its own name: it would be loaded twice, in the place of another's."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or "." in name or name in NEEDED or name in self.aliased:
            return None
        spec = PathFinder.find_spec(name, self.folders)
        return spec if spec is not None and spec.origin else None  # a folder without __init__.py comes last, as ever


def load(module_name: str, folders: Sequence[str]) -> ModuleType:
    """The factory's module: beside the configuration if it is there, else from where Python finds it.

    Raises whatever importing it raises.
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
    """Whether :func:`load` would find the module, without importing it or any other."""
    if module_name in sys.modules:
        return True
    top, *parts = module_name.split(".")
    try:
        elsewhere = importlib.util.find_spec(top)
    except ValueError:  # loaded, and says not from where
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
    """Before the finder that looks into ``sys.path``; at whose end the folders are, for the model's own processes."""
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, Beside)]
    finder = Beside(folders)
    place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
    sys.meta_path.insert(place, finder)
    sys.path.extend(folder for folder in folders if folder not in sys.path)
    return finder


def _found(top: str, part: str, folders: Sequence[str]) -> ModuleSpec | None:
    """The module, or the package with such a part in it."""
    spec = PathFinder.find_spec(top, folders)
    if spec is None or not part:
        return spec if spec is not None and spec.origin else None
    inside = spec.submodule_search_locations
    return spec if inside and PathFinder.find_spec(part, list(inside)) else None


def _clashes(top: str, spec: ModuleSpec) -> bool:
    """Whether the name means something else in this process, or may come to."""
    if (loaded := sys.modules.get(top)) is not None:
        return not _is_same(loaded.__spec__, spec)
    if top in NEEDED:
        return True
    if spec.submodule_search_locations is not None and spec.origin:
        return False  # its modules may name it
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
