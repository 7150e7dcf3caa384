"""A rhyme from a template."""

from bottle import template

print(template("{{a}} and {{b}} went up the hill.", a="Jack", b="Jill"))
