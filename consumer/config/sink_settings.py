"""``[[sink]]`` and ``[dead_letter]``: where rows and dead letters are written."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from consumer.config.section import LEAST, Section
from consumer.config.values import WEEK_S, StreamNameText, Url

Seconds = Annotated[float, Field(ge=LEAST, le=WEEK_S)]
GIVE_UP = "how long to retry before the task exits with an error; permission errors are retried for one minute"


class ParquetSettings(Section):
    """``[[sink]]`` with ``type = "parquet"``: a table of Parquet files on S3 or in a folder."""

    type: Literal["parquet"]
    url: Url = Field(description="`s3://bucket/prefix`, or a folder", examples=["s3://bucket/enriched"])
    flush_interval_s: float = Field(
        default=300, ge=LEAST, le=86_400, description="maximum age of a row before its file is written"
    )
    flush_mib: float = Field(
        default=64, ge=LEAST, le=4_096, description="a shard's file is written when it reaches this size"
    )
    give_up_after_s: Seconds = Field(default=3_600, description=GIVE_UP)


class KinesisSinkSettings(Section):
    """``[[sink]]`` with ``type = "kinesis"``: a downstream stream, written at least once."""

    type: Literal["kinesis"]
    stream: StreamNameText = Field(description="the stream to write to", examples=["enriched"])
    give_up_after_s: Seconds = Field(default=3_600, description=GIVE_UP)


class DeadLetterSettings(Section):
    """``[dead_letter]``: where dead letters are written, and how many are too many."""

    url: Url = Field(
        description="where dead letters are written: `s3://bucket/prefix`, or a folder",
        examples=["s3://bucket/dead-letter"],
    )
    give_up_after_s: Seconds = Field(
        default=3_600,
        description=f"{GIVE_UP}; only used without a Parquet sink, which otherwise stores the dead letters",
    )
    max_consecutive: int = Field(
        default=1_000,
        ge=0,
        le=1_000_000,
        description=(
            "the task exits if the model fails on this many consecutive records, of one shard or of all shards "
            "together; the checkpoint stays before them; 0: no limit"
        ),
    )
    max_ratio: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description=(
            "the task exits if the model fails on a larger share of the last `dead_letter.window` records; "
            "applies once there are that many; 1: no limit"
        ),
    )
    window: int = Field(
        default=1_000, ge=1, le=1_000_000, description="number of records that `dead_letter.max_ratio` is computed over"
    )
    limit_on: Literal["failures", "all"] = Field(
        default="failures",
        description=(
            "what counts towards the limits: `failures` of the model, or `all` dead letters, including payloads"
            " that the model rejects on purpose"
        ),
    )


SinkSettings = ParquetSettings | KinesisSinkSettings
SINKS: dict[str, type[ParquetSettings | KinesisSinkSettings]] = {
    "parquet": ParquetSettings,
    "kinesis": KinesisSinkSettings,
}
