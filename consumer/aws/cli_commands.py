"""Commands of the AWS CLI that messages name. Penstock does not include it, so the text says that it is needed."""

from __future__ import annotations

import shlex

from botocore import xform_name


def aws_command(service: str, operation: str, **members: str) -> str:
    """Return an instruction with the command for one operation, quoted for a shell.

    ``operation`` and ``members`` have the names of the API: ``aws_command("kinesis", "DeleteStream", StreamName="s")``
    is ``with the AWS CLI: aws kinesis delete-stream --stream-name s``.
    """
    options = [word for name, value in members.items() for word in (f"--{xform_name(name, '-')}", value)]
    return f"with the AWS CLI: {shlex.join(['aws', service, xform_name(operation, '-'), *options])}"
