#!/bin/sh
# Numbers the words of a chapter: how often each of them stands there, the most frequent first.
set -eu
tr -cs 'A-Za-z' '\n' <"$1" | tr 'A-Z' 'a-z' | sort | uniq -c | sort -k1,1nr -k2,2 >"$2"
# Enough work for two of these to be seen at the same time.
seq 1 400000 | sort -r | sha256sum >/dev/null
