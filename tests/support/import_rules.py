"""The contract of ``lint-imports`` for each room; the rooms are listed in ``pyproject.toml``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class Room(Contract):
    """Modules in ``room`` may import each other, and of Penstock's other modules only those in ``may_import``.

    Unlike import-linter's own contracts it names what is allowed, so a new module is covered from its first day.
    """

    room: Any = fields.ListField(subfield=fields.StringField())
    may_import: Any = fields.ListField(subfield=fields.StringField(), required=False, default=[])
    standard_library_only: Any = fields.BooleanField(required=False, default=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        broken = sorted(self._broken(graph))
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for line in check.metadata["broken"]:
            output.print_error(line)

    def _broken(self, graph: ImportGraph) -> Iterator[str]:
        for module in graph.modules:
            if not self._in_room(module):
                continue
            for imported in graph.find_modules_directly_imported_by(module):
                if not self._allowed(imported):
                    yield f"{module} -> {imported}"

    def _in_room(self, module: str) -> bool:
        return any(within(module, part) for part in self.room)

    def _allowed(self, imported: str) -> bool:
        if not any(within(imported, root) for root in self.session_options["root_packages"]):
            return not self.standard_library_only or imported.partition(".")[0] in sys.stdlib_module_names
        return self._in_room(imported) or any(within(imported, allowed) for allowed in self.may_import)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
