"""``penstock audit``."""

from __future__ import annotations

import click

SHOWN = 20


@click.command()
@click.argument("url")
@click.option("--generation", type=click.IntRange(1), default=1, show_default=True, help="Which v= to audit.")
@click.option("--dead-letter", metavar="URL", help="Where its dead letters lie, to be held against the files.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def audit(ctx: click.Context, url: str, generation: int, dead_letter: str | None, as_json: bool) -> None:
    """Walk every shard's files of a Parquet table and say what is wrong with it.

    URL is that of the sink: s3://bucket/prefix, or a folder. Exit code 1 if there is a gap, an overlap, a record
    twice, a wrong count, a missing dead letter, a broken or a stray file. Reads only, and may run at any time.
    """
    from consumer.aws import Aws
    from pipeline.errors import UserError
    from pipeline.sinks.audit import audit as walk
    from pipeline.sinks.store import open_store

    aws = Aws()
    stores = [open_store(each, lambda: aws.client("s3")) if each else None for each in (url, dead_letter)]
    table, letters = stores
    assert table is not None
    report = walk(table, generation, letters)
    if not report.files and not report.problems:
        raise UserError(f"{url}: no files of generation {generation}. Name the URL of the sink, without v= or dt=.")
    if as_json:
        import dataclasses
        import json

        said = dataclasses.asdict(report)
        said["reached"] = {name: str(position) for name, position in report.reached.items()}
        click.echo(json.dumps({**said, "shards": report.shards}))
    else:
        for problem in report.problems[:SHOWN]:
            click.echo(f"{problem.kind}: {problem.key}: {problem.detail}")
        if len(report.problems) > SHOWN:
            click.echo(f"… and {len(report.problems) - SHOWN} more")
        click.echo(
            f"{report.files:,} files of {report.shards} shards, {report.rows:,} rows, "
            f"{report.dead_letters:,} dead letters: {len(report.problems) or 'no'} problems"
        )
    ctx.exit(1 if report.problems else 0)
