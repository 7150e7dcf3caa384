#!/bin/sh
set -eu
echo "6 * 7 = $(echo '6 * 7' | bc)"
file --brief --mime-type /usr/local/bin/report
