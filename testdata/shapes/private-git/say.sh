#!/bin/sh
set -eu
echo "Today's words: $(sort /usr/share/words.txt | paste -sd ' ')."
