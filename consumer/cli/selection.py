"""``--where`` selects records with JMESPath, the language of the AWS CLI's ``--query``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

Selects = Callable[[Mapping[str, Any]], bool]


class Where(click.ParamType[Selects]):
    """An expression over a record's fields; it selects the records for which it is true, as JMESPath defines truth."""

    name = "expression"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Selects:
        """A function that says whether the record is selected; :raises click.BadParameter: not an expression."""
        if not isinstance(value, str):
            selects: Selects = value
            return selects
        import jmespath
        from jmespath.exceptions import JMESPathError

        try:
            compiled = jmespath.compile(value)
        except JMESPathError as error:
            reason = " ".join(str(error).split())
            self.fail(f'{reason}. Write JMESPath, for example "data.score > `0.5`"', param, ctx)

        def matches(fields: Mapping[str, Any]) -> bool:
            try:
                found = compiled.search(fields)
            except JMESPathError:  # a function that does not accept this record's type: the record is not selected
                return False
            return found is not None and found is not False and found not in ("", [], {})

        return matches


WHERE = Where()
