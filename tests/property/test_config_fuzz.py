"""Random configurations: settings, or mistakes that name their keys, and never a traceback."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumer.config.errors import ConfigErrors
from consumer.config.load import parse
from consumer.config.settings import Settings
from consumer.config.sink_settings import SINKS
from pipeline.errors import ConfigError

SECTIONS = [*Settings.model_fields, "bach"]
KEYS = sorted(
    {"type", "zzz"}
    | {key for kind in SINKS.values() for key in kind.model_fields}
    | {key for field in Settings.model_fields.values() for key in getattr(field.annotation, "model_fields", {})}
)
SCALARS = st.one_of(
    st.integers(-2, 2**70),
    st.floats(),
    st.booleans(),
    st.datetimes(),
    st.sampled_from(["", "auto", "parquet", "kinesis", "s3://bucket/x", "string", "LATEST", "a b", "m:C"]),
    st.text(max_size=5),
)
TABLES = st.dictionaries(st.sampled_from(KEYS), st.one_of(SCALARS, st.lists(SCALARS, max_size=2)), max_size=6)
RAW = st.dictionaries(
    st.sampled_from(SECTIONS), st.one_of(SCALARS, TABLES, st.lists(st.one_of(SCALARS, TABLES), max_size=3)), max_size=8
)
VARIABLES = st.dictionaries(
    st.builds(
        lambda *parts: "PENSTOCK_" + "__".join(parts),
        st.sampled_from([section.upper() for section in SECTIONS]),
        st.sampled_from(["0", "1", "x", *(key.upper() for key in KEYS)]),
    )
    | st.just("PENSTOCK_SINK__0__URL")
    | st.just("PENSTOCK___")
    | st.just("PENSTOCK_MODEL__OPTIONS__A__B"),
    st.sampled_from(["1", "x", "[1]", "{a = 1}", "auto", "", "1\nb = 2"]),
    max_size=3,
)


@given(RAW, VARIABLES)
def test_anything_is_settings_or_mistakes(raw: dict[str, Any], env: dict[str, str]) -> None:
    mistakes = told(raw, env)
    assert mistakes is None or all(mistake.key and mistake.problem and mistake.fix for mistake in mistakes)


def told(raw: dict[str, Any], env: dict[str, str]) -> Sequence[ConfigError] | None:
    try:
        parse(raw, env)
    except ConfigErrors as errors:
        return errors.errors
    return None


LEAST = tomllib.loads(
    """
    stream = {name = "events", application = "penstock-events"}
    model = {factory = "m:C", version = "1"}
    sink = [{type = "parquet", url = "out"}]
    dead_letter = {url = "dead"}
    """
)


@given(st.integers(1, 10_000), st.floats(0, 1_000), st.integers(16, 10_000))
def test_settings_read_back_as_they_were_written(records: int, linger_ms: float, mib: int) -> None:
    raw = LEAST | {"batch": {"max_records": records, "linger_ms": linger_ms}, "in_flight": {"total_mib": mib}}
    settings = parse(raw)
    written = settings.model_dump(mode="json")
    assert parse(written).model_dump(mode="json") == written
