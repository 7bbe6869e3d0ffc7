"""What may be the URL of a store; a mistyped S3 URL is never the name of a folder."""

from __future__ import annotations

import click
import pytest

from consumer.cli import main
from consumer.cli.options import StoreUrl
from consumer.config.section import Section
from consumer.config.values import Url
from pipeline.errors import UserError
from pipeline.stores import open_store
from pipeline.stores.urls import S3, mistake_in
from tests.cli.test_output import commands

URLS = [
    *("s3://bucket", "s3://bucket/", "s3://bucket/a/b", "s3://my.bucket-1/tables/enriched/", "s3://bucket/dt=1/a b"),
    *("out", "./out", "../out", "/data/out/", "out/../x", "My Tables/out (1)", "été/テーブル/e\u0301", "a.b/c+d@e=f,g"),
    *("s3", "s3/out", "buckets/s3.d", "a.penstock", "#1/[x]"),
]

NO_URLS = [
    *(
        "",
        " ",
        "/",
        "//",
        ".",
        "..",
        "./",
        "out/..",
        "out/.",
        " out",
        "out ",
        "out/ x",
        "out\n",
        "out\r",
        "a\tb",
        "a\0b",
    ),
    *("s3:/b/p", "s3:bucket", "s3:///p", "s3://", "s3:bucket/p", "s3//bucket/p", "s3a//bucket/p", "//bucket/p", "a//b"),
    *(
        "S3://bucket/p",
        "s3a://bucket/p",
        "s3n://bucket/p",
        "gs://bucket/p",
        "file:///out",
        "http://bucket",
        "://bucket",
    ),
    *("arn:aws:s3:::bucket/p", "bucket.s3.amazonaws.com/p", "s3.eu-west-1.amazonaws.com/bucket/p", "s3:"),
    *("~/out", "~", "~user/out", "a/~b", "$HOME/out", "${HOME}/out", "%TEMP%/out", "{bucket}/out", "<folder>", "`pwd`"),
    *(
        "C:\\x",
        "C:/x",
        "a\\b",
        "a:b",
        "a|b",
        "a*b",
        "a?b",
        'a"b',
        "a;b",
        "a\u202eb",
        "a\u200bb",
        "a\ud800b",
        "\ufeffout",
    ),
    *("/proc/x", "/proc", "/dev/null", "/dev/shm/x", "/sys/x", "/tmp/../dev/x", "/dev/../dev/x"),
    *("s3://a..b/p", "s3://192.168.1.1/p", "s3://ab/p", "s3://B/x", "s3://-ab/p", "s3://ab-/p", "s3://a_b/p"),
    *("s3://bucket/p\n", "s3://bucket\n", "s3://bucket /p", "s3:// bucket/p", "s3://bucket/$X", "s3://bucket/~/p"),
    *(
        "s3://bucket//p",
        "s3://bucket/p//",
        "s3://bucket/./p",
        "s3://bucket/p/..",
        "s3://bucket/{x}",
        "s3://user@bucket/p",
    ),
    *("s3://bucket/p?versionId=1", "s3://bucket:80/p", "s3://bucket/p\\q", "s3://bucket/a\0", f"s3://{'a' * 64}/p"),
]


@pytest.mark.parametrize("url", URLS)
def test_an_s3_url_or_a_folder_is_accepted(url: str) -> None:
    assert mistake_in(url) is None


@pytest.mark.parametrize("url", NO_URLS)
def test_all_else_is_refused_and_the_text_says_what_to_write(url: str) -> None:
    found = mistake_in(url)
    assert found is not None and found.problem and found.fix[0].isupper()
    with pytest.raises(UserError) as raised:
        open_store(url, lambda: pytest.fail("no client is needed"))
    assert str(raised.value).isprintable()


def test_an_s3_url_with_one_typing_mistake_is_never_a_folder() -> None:
    right = "s3://bucket/prefix"
    for place in range(len(S3) + 1):
        edits = [right[:place] + right[place + 1 :], right[: place + 1] + right[place:]]
        for other in "sS3:/ \\.,;$~x0-\n":
            edits += [right[:place] + other + right[place + 1 :], right[:place] + other + right[place:]]
        for edited in edits:
            assert edited.startswith(S3) or mistake_in(edited) is not None, edited


def test_a_link_to_a_device_is_no_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("links") / "out"
    link.symlink_to("/dev")
    assert mistake_in(str(link)) is not None and mistake_in(f"{link}/x") is not None


def test_every_setting_and_every_option_that_takes_a_url_follows_the_rule() -> None:
    sections = _below(Section)
    urls = [(kind, field) for kind in sections for name, field in kind.model_fields.items() if "url" in name]
    check = Url.__metadata__[0]  # type: ignore[attr-defined]
    assert len(urls) == 2 and all(check in field.metadata for _, field in urls)
    options = [
        (path, each)
        for path, command in commands()
        for each in command.params
        if each.metavar == "URL" or (isinstance(each, click.Argument) and "url" in (each.name or ""))
    ]
    assert len(options) >= 9
    assert [(path, each.name) for path, each in options if not isinstance(each.type, StoreUrl)] == []


def _below(kind: type[Section]) -> list[type[Section]]:
    return [each for below in kind.__subclasses__() for each in (below, *_below(below))]


@pytest.mark.parametrize(
    "command", ["audit", "diff out", "dead-letters list --url", "replay --stream s --from-parquet"]
)
def test_a_command_refuses_a_wrong_url_in_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "s3:/bucket/p"], prog_name="penstock")
    [line] = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and '"s3:/bucket/p" contains' in line and "Write s3://bucket/prefix" in line
