"""Sums without rounding."""

from decimal import Decimal


def total(amounts: list[str]) -> Decimal:
    return sum(map(Decimal, amounts), Decimal())
