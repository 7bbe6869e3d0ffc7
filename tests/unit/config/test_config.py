"""Every kind of mistake in a configuration, and its message."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from consumer.config.errors import ConfigErrors
from consumer.config.load import parse
from consumer.config.sink_settings import KinesisSinkSettings, ParquetSettings
from tests.support.least_configuration import LEAST, told


def test_the_least_configuration_is_valid_and_the_rest_has_defaults() -> None:
    settings = parse(tomllib.loads(LEAST))
    assert settings.stream.start == "TRIM_HORIZON"
    assert settings.model.replicas == "auto"
    assert (settings.batch.max_records, settings.batch.linger_ms) == (64, 20)
    assert (settings.kcl.shutdown_grace_s, settings.drain.budget_s) == (80, 100)
    assert settings.sink == (ParquetSettings(type="parquet", url="s3://bucket/enriched"),)


def test_each_sink_is_read_by_its_type() -> None:
    settings = parse(tomllib.loads(LEAST + '[[sink]]\ntype = "kinesis"\nstream = "enriched"\n'))
    assert settings.sink[1] == KinesisSinkSettings(type="kinesis", stream="enriched")


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [
        ("model.carry", {"text": "string"}, "model.passthrough"),
        ("model.patience_s", 60, "model.give_up_after_s"),
        ("sink.0.patience_s", 60, "sink.0.give_up_after_s"),
        ("dead_letter.patience_s", 60, "dead_letter.give_up_after_s"),
        ("batch.learn", False, "batch.adaptive"),
        ("batch.look_ahead", 64, "batch.bucket_records"),
        ("window.records", 100, "in_flight.records_per_shard"),
        ("window.mib", 64, "in_flight.total_mib"),
        ("drain.batch_s", 2, "drain.longest_batch_s"),
    ],
)
def test_a_former_name_is_refused_with_the_name_of_today(old: str, value: object, new: str) -> None:
    section, _, key = old.rpartition(".")
    settings = tomllib.loads(LEAST)
    place = settings["sink"][0] if section == "sink.0" else settings.setdefault(section, {})
    place[key] = value
    with pytest.raises(ConfigErrors) as caught:
        parse(settings)
    assert [str(error) for error in caught.value.errors] == [f"{old}: is now called {new}. Rename it"]

    variable, today = (f"PENSTOCK_{name.upper().replace('.', '__')}" for name in (old, new))
    with pytest.raises(ConfigErrors) as caught:
        parse(tomllib.loads(LEAST), {variable: '{text = "string"}' if key == "carry" else str(value).lower()})
    assert str(caught.value).splitlines()[1:] == [
        f"  {old}: is now called {new}. Rename it (set by {variable}; set {today} instead)"
    ]


def test_a_former_section_is_refused_with_any_content() -> None:
    for held in ({}, {"mibs": 1}, 3):
        with pytest.raises(ConfigErrors, match=r"window.*is now called in_flight"):
            parse({**tomllib.loads(LEAST), "window": held})
    with pytest.raises(ConfigErrors, match=r"CARRY__TEXT; set PENSTOCK_MODEL__PASSTHROUGH__TEXT instead\)"):
        parse(tomllib.loads(LEAST), {"PENSTOCK_MODEL__CARRY__TEXT": "string"})


def test_a_removed_generation_asks_for_a_new_url() -> None:
    [said] = told(least=LEAST.replace('enriched"\n', 'enriched"\ngeneration = 2\n'))
    assert said.startswith("sink.0.generation") and "each url is one table" in said
    assert "new url" in said and "new stream.application" in said


def test_no_table_is_where_dead_letters_are_staged() -> None:
    [said] = told(least=LEAST.replace("bucket/enriched", "bucket/dead-letter.staged"))
    assert "are the same or one contains the other" in said


def test_settings_cannot_be_changed() -> None:
    settings = parse(tomllib.loads(LEAST))
    with pytest.raises(ValueError, match="frozen"):
        settings.batch.max_records = 1


MISTAKES = {
    "[batch]\nmax_recrods = 1": "batch.max_recrods: unknown key. Did you mean max_records?",
    "[batch]\nzzz = 1": "batch.zzz: unknown key. Known here: max_records, max_cost, linger_ms, adaptive, "
    "target_latency_ms, bucket_records",
    "[bach]\nmax_records = 1": "bach: unknown section. Did you mean batch?",
    "[batch]\nmax_records = 0": "batch.max_records: 0 is too small. Write at least 1",
    "[batch]\nmax_records = 10001": "batch.max_records: 10001 is too large. Write at most 10000",
    '[batch]\nmax_records = "64"': 'batch.max_records: "64" is not a whole number. For example: max_records = 64',
    "[batch]\nmax_records = true": "batch.max_records: true is not a whole number. For example: max_records = 64",
    "[batch]\nmax_records = 1.5": "batch.max_records: 1.5 is not a whole number. For example: max_records = 64",
    '[batch]\nlinger_ms = "x"': 'batch.linger_ms: "x" is not a number. For example: linger_ms = 20',
    "[batch]\nlinger_ms = nan": "batch.linger_ms: nan is not a number. For example: linger_ms = 20",
    "batch = 3": "batch: 3 is not a table. Write [batch]",
    "[model]\nversion = 3": "model.version: 3 is not a string in quotes. "
    'For example: version = "all-MiniLM-L6-v2@1110a24"',
    '[model]\nversion = ""': 'model.version: is empty. For example: version = "all-MiniLM-L6-v2@1110a24"',
    '[model]\nfactory = "examples.minilm"': 'model.factory: "examples.minilm" is not of the form module:attribute. '
    'For example: "examples.minilm:MiniLM"',
    "[model]\nreplicas = 0": 'model.replicas: 0 is not a count. Write "auto" or a whole number of at least 1',
    "[model]\nmemory_mib = -1": "model.memory_mib: -1 is not a memory size. "
    'Write "auto", a whole number of MiB, or 0 for no limit',
    '[model]\nthreads = "all"': 'model.threads: "all" is not a count. Write "auto" or a whole number of at least 1',
    "[model]\ntimeout_s = 0": "model.timeout_s: 0 is too small. Write at least 0.001",
    '[model.passthrough]\ntext = "str"': 'model.passthrough: text = "str" is not a type. '
    "Write one of string, int64, float64, bool, timestamp, timestamp[s], timestamp[ms], timestamp[us], timestamp[ns]",
    '[model.passthrough]\n_text = "string"': 'model.passthrough: "_text" cannot be a column. '
    "Rename it: Parquet readers skip names that start with _",
    '[stream]\nname = "my stream"': 'stream.name: "my stream" is not a valid stream name. '
    "Write 1 to 128 letters, digits, '.', '_' or '-'",
    '[stream]\nname = "arn:aws:kinesis:eu-west-1:123456789012:stream/events"': "stream.name: "
    '"arn:aws:kinesis:eu-west-1:123456789012:stream/events" is an ARN, not a name. '
    'Write "events"; AWS_REGION sets the region',
    f'[stream]\nname = "{"x" * 200}"': f'stream.name: "{"x" * 80} … (200 characters)" is not a valid stream name. '
    "Write 1 to 128 letters, digits, '.', '_' or '-'",
    f"[batch]\nmax_records = {2**63}": "batch.max_records: the number has more than 64 bits. Write a smaller number",
    f"[model.options]\nn = [{-(2**63) - 1}]": "model.options.n.0: the number has more than 64 bits. "
    "Write a smaller number, or a string in quotes",
    f"[batch]\nmax_records = 0x{'f' * 5000}": "batch.max_records: the number has more than 64 bits. "
    "Write a smaller number",
    "[batch]\nlinger_ms = 1e999": "batch.linger_ms: inf is not a number. For example: linger_ms = 20",
    f"[model.options]\nn = {'[' * 40}{']' * 40}": f"model.options.n{'.0' * 30}: the value is nested more than "
    "32 levels deep. Use fewer levels",
    '[stream]\napplication = "a b"': 'stream.application: "a b" is not a valid name of a DynamoDB table. '
    "Write 3 to 238 letters, digits, '.', '_' or '-'; no spaces",
    '[stream]\nstart = "NEWEST"': 'stream.start: "NEWEST" is not a position in a stream. '
    'Write "TRIM_HORIZON", "LATEST" or a time such as "2026-11-23T08:00:00Z"',
    "[stream]\nstart = 1969-12-31T23:59:59Z": 'stream.start: "1969-12-31 23:59:59+00:00" is before 1970, which Kinesis '
    'cannot read from. Write "TRIM_HORIZON" for the oldest record',
    '[stream]\nstart = "0001-01-01T00:00:00+14:00"': 'stream.start: "0001-01-01T00:00:00+14:00" is before 1970, which '
    'Kinesis cannot read from. Write "TRIM_HORIZON" for the oldest record',
    "[stream]\nstart = 2999-01-01T00:00:00Z": 'stream.start: "2999-01-01 00:00:00+00:00" is in the future. '
    'Write "LATEST" to start now, or a time in the past',
    "[stream]\nstart = 2026-11-23T08:00:00": 'stream.start: "2026-11-23 08:00:00" has no time zone. '
    'Write "TRIM_HORIZON", "LATEST" or a time such as "2026-11-23T08:00:00Z"',
    '[dead_letter]\nurl = "gs://bucket/x"': 'dead_letter.url: "gs://bucket/x" is not an S3 URL or a folder. '
    "Write s3://bucket/prefix, or the path of a folder",
    '[dead_letter]\nurl = "s3://B/x"': 'dead_letter.url: "s3://B/x" has no valid bucket name. '
    "Write s3://bucket/prefix; a bucket's name has 3 to 63 of a-z, 0-9, '-' and single '.'",
    '[dead_letter]\nurl = ""': 'dead_letter.url: "" is not an S3 URL or a folder. '
    "Write s3://bucket/prefix, or the path of a folder",
    "sink = []": 'sink: missing. Write [[sink]] with type = "parquet" and url = "s3://bucket/enriched"',
    '[sink]\ntype = "parquet"': 'sink: must be a list of tables. Write [[sink]] with type = "parquet" and '
    'url = "s3://bucket/enriched"',
    '[[sink]]\ntype = "parquett"': 'sink.0.type: "parquett" is not a type of sink. Write "parquet" or "kinesis"',
    '[[sink]]\nurl = "out"': 'sink.0.type: missing. Write "parquet" or "kinesis"',
    '[[sink]]\ntype = "parquet"': 'sink.0.url: missing. For example: url = "s3://bucket/enriched"',
    '[[sink]]\ntype = "kinesis"\nurl = "x"\nstream = "y"': "sink.0.url: unknown key. "
    "Known here: type, stream, give_up_after_s",
    '[log]\nlevel = "LOUD"': 'log.level: "LOUD" is not known. Write "DEBUG", "INFO", "WARNING" or "ERROR"',
    "[health]\nport = 70000": "health.port: 70000 is too large. Write at most 65535",
    "[kcl.properties]\nmaxRecords = [1]": "kcl.properties.maxRecords: [1] is not allowed here. "
    "Write a string, a whole number, true or false",
    "[kcl.properties]\nmaxRecrods = 1": "kcl.properties.maxRecrods: KCL has no such property. Did you mean maxRecords?",
    "[kcl.properties]\nstreamName = 'x'": "kcl.properties.streamName: Penstock has a setting for it. "
    "Set [stream] name instead",
    "[drain]\nlongest_batch_s = 0": 'drain.longest_batch_s: 0 is not a number of seconds. Write "auto" or a number '
    "of at least 0.001",
    "[model]\ntimeout_s = 1e-320": "model.timeout_s: 1e-320 is too small. Write at least 0.001",
    "[[kcl]]\nname = 'q'": "kcl: a list of tables is not a table. Write [kcl]",
    "kcl = [[1], [2]]": "kcl: a list of lists is not a table. Write [kcl]",
    "[batch]\nmax_records = {a = 1}": "batch.max_records: a table is not a whole number. For example: max_records = 64",
    '[batch]\nmax_records = ["x", true]': 'batch.max_records: ["x", true] is not a whole number. '
    "For example: max_records = 64",
    '[model.passthrough]\n"" = "string"': "model.passthrough: the empty name cannot be a column. "
    "Write the name of a field, or remove the line",
    f"[kcl]\nfailover_ms = {2**63 - 1}": f"kcl.failover_ms: {2**63 - 1} is too large. Write at most 86400000",
    f"[model]\nmemory_mib = {2**63 - 1}": f"model.memory_mib: {2**63 - 1} is too large. Write at most 16777216",
    "[model]\nstart_timeout_s = 1e300": "model.start_timeout_s: 1e+300 is too large. Write at most 86400",
    "[kcl.properties]\nmaxRecords = 3000000000": "kcl.properties.maxRecords: 3000000000 is too large. "
    "Write at most 2147483647",
    "[drain]\nlongest_batch_s = 1e300": "drain.longest_batch_s: 1e+300 is too large. Write at most 86400",
    "[drain]\nbudget_s = 121": "drain.budget_s: 121 is too large. Write at most 120",
}


@pytest.mark.parametrize("changes", MISTAKES)
def test_each_mistake_names_key_value_and_fix(changes: str) -> None:
    assert told(changes) == [MISTAKES[changes]]


ACROSS = {
    "[kcl]\nshutdown_grace_s = 100": "drain.budget_s: kcl.shutdown_grace_s 100 s + 5 s to exit = 105 s, "
    "but the limit is 100 s. Lower kcl.shutdown_grace_s, or raise drain.budget_s (at most 120)",
    "[drain]\nlongest_batch_s = 40": "kcl.shutdown_grace_s: a drain may take 2 batches of 40 s (drain.longest_batch_s) "
    "+ drain.flush_s 5 s + checkpoint 2 s = 87 s, but the limit is 80 s. Raise it (and drain.budget_s, at most 120 s), "
    "or lower batch.max_records and drain.longest_batch_s",
    "[kcl]\nshutdown_grace_s = 6": "kcl.shutdown_grace_s: a drain may take 2 batches of 0 s (drain.longest_batch_s) + "
    "drain.flush_s 5 s + checkpoint 2 s = 7 s, but the limit is 6 s. Raise it (and drain.budget_s, at most 120 s), "
    "or lower batch.max_records and drain.longest_batch_s",
    "[health]\nstuck_after_s = 120": "health.stuck_after_s: 120 s must be more than model.timeout_s (120 s). "
    "Raise it, because one batch may take up to model.timeout_s",
    "[kcl]\nfailover_ms = 1000\nidle_between_reads_ms = 500": "kcl.failover_ms: 1000 ms must be more than twice "
    "kcl.idle_between_reads_ms (500 ms). Raise it, because leases would expire between two reads",
    '[dead_letter]\nurl = "s3://bucket/enriched/dead"': 'dead_letter.url: "s3://bucket/enriched/dead" and sink.0.url '
    '"s3://bucket/enriched" are the same or one contains the other. Use separate prefixes',
    '[dead_letter]\nurl = "s3://bucket/"': 'dead_letter.url: "s3://bucket/" and sink.0.url '
    '"s3://bucket/enriched" are the same or one contains the other. Use separate prefixes',
    '[[sink]]\ntype = "kinesis"\nstream = "events"': 'sink.0.stream: "events" is also the input stream, which would '
    "be an endless loop. Name another stream",
    '[[sink]]\ntype = "kinesis"\nstream = "a"\n[[sink]]\ntype = "kinesis"\nstream = "a"': "sink.1.stream: sink.0 "
    'already writes to "a". Remove one of them',
    '[[sink]]\ntype = "parquet"\nurl = "out"\n[[sink]]\ntype = "parquet"\nurl = "./out/x"': 'sink.1.url: "./out/x" and '
    'sink.0.url "out" are the same or one contains the other. Use separate prefixes',
}


@pytest.mark.parametrize("changes", ACROSS)
def test_mistakes_between_sections_show_their_sum_or_their_clash(changes: str) -> None:
    assert told(changes) == [ACROSS[changes]]


@pytest.mark.parametrize(
    ("table", "dead"),
    [
        ("out", "../cwd/out/dead"),
        ("out", "x/../out"),
        ("dead.staged", "dead"),
        ("dead.suspects/t", "dead"),
        ("dead.penstock", "dead"),
        ("dead.staged.penstock/tmp", "dead"),
        ("alias/t", "out"),
        ("out", "alias"),
    ],
)
def test_folders_inside_each_other_are_reported_for_any_form_of_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, dead: str
) -> None:
    (tmp_path / "cwd" / "out").mkdir(parents=True)
    (tmp_path / "cwd" / "alias").symlink_to("out")
    monkeypatch.chdir(tmp_path / "cwd")
    [said] = told(f'[[sink]]\ntype = "parquet"\nurl = "{table}"\n[dead_letter]\nurl = "{dead}"')
    assert "are the same or one contains the other" in said


@pytest.mark.parametrize("url", ["s3://bucket/a//b", "s3://bucket/./a", "s3://bucket/a/../b", "s3://bucket//a"])
def test_a_url_on_s3_is_written_as_readers_understand_it(url: str) -> None:
    [said] = told(f'[dead_letter]\nurl = "{url}"')
    assert said.startswith("dead_letter.url") and "an empty part, '.' or '..'" in said


@pytest.mark.parametrize(
    ("carry", "why"),
    [
        ('DT = "string"', "the name of the table's folders"),
        ('Record_ID = "string"', "Penstock's own"),
        ('a = "string"\nA = "int64"', "is there twice"),
        ('"a b" = "string"', "a character that Spark"),
        ('"a\\u202eb" = "string"', "a character that Spark"),
    ],
)
def test_a_carried_field_that_no_table_can_have_is_reported_before_the_model_loads(carry: str, why: str) -> None:
    [said] = told(f"[model.passthrough]\n{carry}")
    assert said.startswith("model.passthrough") and why in said


@pytest.mark.parametrize(
    ("factory", "meant"),
    [
        ("sentiment.py:Sentiment", "sentiment:Sentiment"),
        ("./sentiment.py:Sentiment", "sentiment:Sentiment"),
        ("models/sentiment.py:Sentiment", "models.sentiment:Sentiment"),
        ("models.sentiment.py:a.B", "models.sentiment:a.B"),
        ("sentiment.py", "sentiment:CLASS"),
        ("sentiment.py::Sentiment", "sentiment:Sentiment"),
    ],
)
def test_a_file_in_place_of_a_module_is_named_with_the_module(factory: str, meant: str) -> None:
    assert told(f'[model]\nfactory = "{factory}"') == [
        (
            f'model.factory: "{factory}" names a file, not a module. '
            f'Write "{meant}", the module without .py, as an import names it'
        )
    ]


def test_prefixes_side_by_side_are_fine_even_if_one_name_begins_the_other() -> None:
    assert told('[dead_letter]\nurl = "s3://bucket/enriched-dead"') == []


def test_all_missing_settings_are_reported_at_once() -> None:
    keys = [line.partition(":")[0] for line in told(least="")]
    expected = ["stream.name", "stream.application", "model.factory", "model.version", "sink", "dead_letter.url"]
    assert keys == expected


def test_mistakes_within_and_between_sections_are_reported_together() -> None:
    changes = '[log]\nlevel = "LOUD"\n[kcl]\nshutdown_grace_s = 110\n[bach]\n'
    assert [line.partition(":")[0] for line in told(changes)] == ["bach", "log.level", "drain.budget_s"]


def test_a_time_becomes_an_instant_with_its_zone() -> None:
    raw = tomllib.loads(LEAST.replace("[model]", "start = 2026-11-23T08:00:00Z\n[model]"))
    assert parse(raw).stream.start == "2026-11-23T08:00:00+00:00"
