"""``python -m consumer.local``: ``penstock local up`` for a parent process, such as :class:`LocalAWS`."""

from __future__ import annotations

import argparse
import sys

from pipeline.errors import UserError
from pipeline.extras import require
from pipeline.machine import frugal


def main() -> int:
    """Parse the command line and serve until a signal; returns the exit code. Prints one JSON line when ready."""
    frugal.begin()
    parser = argparse.ArgumentParser(prog="python -m consumer.local", description="Serve a local AWS.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--limits", choices=("on", "off"), default="on")
    parser.add_argument("--allow-remote", action="store_true")
    parser.add_argument("--until-stdin-closes", action="store_true")
    given = parser.parse_args()
    try:
        require("local")
        from consumer.local.server import up

        up(given.host, given.port, given.limits == "on", given.allow_remote, given.until_stdin_closes)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
