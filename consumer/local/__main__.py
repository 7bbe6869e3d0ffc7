"""``python -m consumer.local``: as ``penstock local up``, on a leash: it stops when its stdin ends."""

from __future__ import annotations

import argparse
import sys

from pipeline.errors import UserError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m consumer.local", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--limits", choices=("on", "off"), default="on")
    asked = parser.parse_args()
    from consumer.local.server import up

    try:
        return up(asked.host, asked.port, asked.limits == "on", leash=True)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
