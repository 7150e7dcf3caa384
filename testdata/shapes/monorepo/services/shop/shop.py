"""Adds up what is in the basket."""

from pathlib import Path

from money import total

name, *basket = Path("assets/basket.txt").read_text().split()
print(f"{name}: {len(basket)} things for {total(basket)}")
