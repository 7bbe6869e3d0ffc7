"""Every number in the settings tree has a maximum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import pytest
from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from consumer.config.kcl_properties import check
from consumer.config.settings import Settings
from consumer.config.sink_settings import SINKS
from pipeline.errors import ConfigError

FREE = {"model.options": "the model's own", "kcl.properties": "checked by the type of KCL's property"}
"""Tables whose keys are not settings."""


def is_number(kind: Any) -> bool:
    """Whether a value of this type may be a number, alone or in a union or table."""
    return kind in (int, float) or any(map(is_number, get_args(kind)))


def has_maximum(field: FieldInfo) -> bool:
    return any(getattr(each, name, None) is not None for each in field.metadata for name in ("le", "lt"))


def unlimited(name: str, section: type[BaseModel]) -> Iterator[str]:
    for key, field in section.model_fields.items():
        place = f"{name}.{key}"
        if place not in FREE and is_number(field.annotation) and not has_maximum(field):
            yield place


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation
    yield from SINKS.items()


def test_every_number_has_a_maximum() -> None:
    found = list(sections())
    assert len(found) == len(Settings.model_fields) - 1 + len(SINKS)
    assert [place for name, section in found for place in unlimited(name, section)] == []


def test_a_number_without_a_maximum_is_found() -> None:
    class Section(BaseModel):
        bare: int = 0
        least: float = Field(default=1, ge=0)
        either: int | Literal["auto"] = "auto"
        table: dict[str, str | int] = Field(default_factory=dict)
        good: int = Field(default=0, le=5)
        text: str = ""
        flag: bool = False

    assert list(unlimited("x", Section)) == ["x.bare", "x.least", "x.either", "x.table"]


@pytest.mark.parametrize("name", ["maxRecords", "parentShardPollIntervalMillis"])
def test_a_number_that_kcl_would_clip_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="too large"):
        check({name: 2**63 - 1})
