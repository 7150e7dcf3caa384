"""Answers with a line from a file, and tells as whom it runs."""

import os
import sys
import urllib.request
from pathlib import Path
from wsgiref.simple_server import make_server

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
    server = make_server("0.0.0.0", PORT, bottle.default_app())
    print(f"listening on port {PORT}", file=sys.stderr)
    server.serve_forever()
