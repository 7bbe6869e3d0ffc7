"""The type that each reader gives to each column of a file. The file is read completely."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path


def of_pyarrow(file: Path) -> dict[str, str]:
    schema = import_module("pyarrow.parquet").read_table(file).schema
    return {field.name: str(field.type) for field in schema}


def of_pandas(file: Path) -> dict[str, str]:
    """Without ``dtype_backend``, and with nulls in every column."""
    return {name: str(dtype) for name, dtype in import_module("pandas").read_parquet(file).dtypes.items()}


def of_duckdb(file: Path) -> dict[str, str]:
    found = import_module("duckdb").read_parquet(str(file))
    found.fetchall()
    return {name: str(kind).replace('"', "") for name, kind in zip(found.columns, found.types, strict=True)}


def of_polars(file: Path) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in import_module("polars").read_parquet(file).schema.items()}


READERS: Mapping[str, Callable[[Path], dict[str, str]]] = {
    "pyarrow": of_pyarrow,
    "pandas": of_pandas,
    "DuckDB": of_duckdb,
    "Polars": of_polars,
}
"""The types by the names that ``docs/reading.md`` uses."""
