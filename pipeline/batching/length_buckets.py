"""Batches of similar lengths, for models that pad every item to the longest. Pure.

Padding costs time and produces nothing: a batch of one item with three tokens and one with three hundred costs six
hundred. So the records of a bounded look-ahead are sorted by cost, and a batch is a range of that order around one
record that must go.
"""

from __future__ import annotations

from collections.abc import Sequence

PADDING = 0.1
"""Padding that a batch may have, as a share of its records' costs. More only where another call would cost more."""


def stretch(costs: Sequence[int], anchor: int, *, most: int, budget: int, call_cost: int = 0) -> tuple[int, int]:
    """Return the range (first, last + 1) that goes together with ``costs[anchor]``. ``costs`` must be in ascending
    order.

    It has at most ``most`` items, whose padded cost is at most ``budget`` (0: no limit). ``call_cost``: the cost of a
    call itself, in the same unit. An item that is much longer than the others goes alone.
    """
    low, high = anchor, anchor + 1
    count, peak, total = 1, costs[anchor], costs[anchor]

    def fits(cost: int) -> bool:
        dearest = max(peak, cost)
        padded = dearest * (count + 1)
        spare = max(PADDING * (total + cost), call_cost)
        return (not budget or padded <= budget) and padded - total - cost <= spare

    while count < most:
        down = peak - costs[low - 1] if low else None
        up = (costs[high] - peak) * count if high < len(costs) else None
        sides = sorted((waste, side) for waste, side in ((down, 0), (up, 1)) if waste is not None)
        for _, side in sides:
            cost = costs[high] if side else costs[low - 1]
            if fits(cost):
                low, high = low - (not side), high + side
                count, peak, total = count + 1, max(peak, cost), total + cost
                break
        else:
            break
    return low, high
