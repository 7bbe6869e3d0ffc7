"""``penstock config check``: whether the model exists, and with ``--load`` whether a task can use it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from consumer.config import drain
from pipeline.errors import ConfigError
from pipeline.model import user_modules

if TYPE_CHECKING:
    import pyarrow as pa

    from consumer.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Loaded:
    """``took_s``: duration of the model's start with its warm-up. ``example_s``: of one call with its example, if any.

    ``warnings``: what ``penstock run`` would log about it.
    """

    took_s: float
    example_s: float | None
    warnings: tuple[str, ...]
    rows: pa.Schema | None = None
    """The columns that the model returns for an item."""


def missing_module(settings: Settings) -> ConfigError | None:
    """The mistake if the module in ``model.factory`` does not exist. Imports nothing."""
    name = settings.model.factory.partition(":")[0]
    if user_modules.exists(name, [str(settings.folder)]):
        return None
    file = f"{name.replace('.', '/')}.py"
    return ConfigError(
        "model.factory", f"there is no module {name}", f"Put {file} beside the configuration, or install it"
    )


def load(settings: Settings) -> Loaded:
    """Load the model in a separate replica, predict its example, and make the checks of a task's start.

    :raises UserError: the model, its columns or its speed do not suit a task: ``ModelError``, ``ConfigError``.
    :raises Fatal: its process ended.
    """
    return asyncio.run(_load(settings))


async def _load(settings: Settings) -> Loaded:
    from consumer import build
    from pipeline.replicas.host import ModelHost
    from pipeline.table.schema import TableSchema

    began = asyncio.get_running_loop().time()
    host = ModelHost(replace(build.model_settings(settings), replicas=1))
    try:
        spec = await host.start()
    finally:
        await host.stop()
    took_s = asyncio.get_running_loop().time() - began
    drain.check(settings, spec.example_s)
    told = drain.check_timeout(settings, spec.example_s)
    schema = TableSchema(spec.row_schema, settings.stream.name, settings.model.version, settings.model.passthrough)
    is_table = any(entry.type == "parquet" for entry in settings.sink)
    warnings = (*filter(None, [told]), *(schema.warnings if is_table else ()))
    return Loaded(took_s, spec.example_s, warnings, spec.row_schema)
