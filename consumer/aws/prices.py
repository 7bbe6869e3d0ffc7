"""What AWS charges, from a dated file: the one in this package, or the user's own.

A price that the file does not have for a region is unknown, and so is every sum that needs it. The file in the package,
``prices.json``, names the source and the date of each price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pipeline.errors import UserError


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in one region. ``source``: the file's name and date, as a plan quotes it."""

    region: str
    currency: str
    source: str
    items: Mapping[str, float]

    def of(self, item: str) -> float | None:
        """The price of one unit; None if it is unknown."""
        return self.items.get(item)


def load(region: str, path: Path | None = None) -> Prices:
    """The prices of a region, from ``path`` or from the package.

    :raises UserError: the file cannot be read, or is not of this form; the text names what is wrong.
    """
    import json

    try:
        text = path.read_text() if path else resources.files(__package__).joinpath("prices.json").read_text()
    except OSError as error:
        raise UserError(f"--prices {path}: {error.strerror or error}. Name a file of prices") from None
    name = str(path) if path else "prices.json of this version"
    try:
        return parse(region, name, json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--prices {path}: {error!r}. Take consumer/aws/prices.json as a pattern") from None


def parse(region: str, name: str, said: Any) -> Prices:
    """Return the prices of a region from the contents of a file. Errors say what is missing."""
    items = {item: _price(item, found) for item, found in said["regions"].get(region, {}).items()}
    return Prices(region, str(said["currency"]), f"{name}, {said['collected']}", items)


def _price(item: str, found: Any) -> float:
    price = found["price"]
    if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < float("inf"):
        raise ValueError(f"the price of {item} is {price!r}, but must be a number, 0 or greater")
    return float(price)
