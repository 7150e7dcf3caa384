"""Answers with a line from a file, and says who asks to be run as whom."""

import os
import sys
import urllib.request
from pathlib import Path

import bottle

PORT = int(os.environ["PORT"])


@bottle.route("/")
def index():
    return Path("words.txt").read_text()


@bottle.route("/user")
def user():
    return {"uid": os.getuid(), "gid": os.getgid(), "bottle": bottle.__version__}


if sys.argv[1:] == ["--check"]:
    urllib.request.urlopen(f"http://127.0.0.1:{PORT}/")
else:
    bottle.run(host="0.0.0.0", port=PORT)
