"""``python -m examples.reference_1gb``: write the reference model's weights in advance, for example into an image."""

from __future__ import annotations

import argparse
import sys

from examples.reference_1gb import Options
from examples.reference_1gb.weights import check, write
from pipeline.errors import PenstockError

MIB = 1024 * 1024


def main() -> int:
    """Parse the options, write the weights and print their path. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.reference_1gb", description="Write the weights once.")
    parser.add_argument("--weights", help="the file (default: in the user's cache folder)")
    parser.add_argument("--layers", type=int, help="encoder layers (default: 21)")
    parser.add_argument("--width", type=int, help="their width, a multiple of 64 (default: 1024)")
    parser.add_argument("--seed", type=int, help="of the random weights (default: 0)")
    parser.add_argument("--dtype", help="float32, bfloat16 or int8 (default: float32)")
    try:
        options = Options({name: value for name, value in vars(parser.parse_args()).items() if value is not None})
        make(options)
    except PenstockError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{options.path}\n")
    return 0


def make(options: Options) -> None:
    """Write the weights, or check those that are there."""
    plan = options.plan()
    if options.path.exists():
        check(options.path, plan, whole=True)
        sys.stderr.write("the weights exist and are complete\n")
        return

    def progress(written_bytes: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if written_bytes == plan.size_bytes else ""
            sys.stderr.write(f"\r{written_bytes / MIB:,.0f} of {plan.size_bytes / MIB:,.0f} MiB{end}")

    digest = write(options.path, plan, progress)
    sys.stderr.write(f"{plan.parameters:,} parameters, SHA-256 {digest}\n")


if __name__ == "__main__":
    sys.exit(main())
