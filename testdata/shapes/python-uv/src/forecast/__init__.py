"""Tells the weather in a box."""

from wcwidth import wcswidth


def main() -> None:
    text = "晴れ, later rain"
    line = "-" * wcswidth(text)
    print(line, text, line, sep="\n")
