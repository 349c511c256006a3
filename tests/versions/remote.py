"""A data remote as DVC's HTTP remotes are: files under names, HEAD, GET, PUT and POST, basic authentication.

Run as `python remote.py DIRECTORY USER PASSWORD`; prints its port. What the file DIRECTORY/behaviour holds, read anew
at every request, makes it misbehave: `cut N` breaks off in the middle of every upload after N of them, `die N` ends the
process there, `silent N` stops answering after N requests, `garbage` answers every download with other bytes.
"""

import base64
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT, USER, PASSWORD = Path(sys.argv[1]), *sys.argv[2:4]
EXPECTED = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    uploads = requests = 0

    def behaves(self):
        Handler.requests += 1
        what, _, number = (
            (ROOT / "behaviour").read_text().partition(" ") if (ROOT / "behaviour").exists() else ("",) * 3
        )
        if what == "silent" and Handler.requests > int(number):
            time.sleep(600)
        if self.headers.get("Authorization") != EXPECTED:
            self.answer(401, b"")
            return None
        return what, int(number or 0)

    def answer(self, code, content):
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self):
        if (behaviour := self.behaves()) is None:
            return
        path = ROOT / "files" / self.path.strip("/").replace("/", "_")
        if self.path.strip("/") == "" or not path.is_file():
            self.answer(200 if self.path.strip("/") == "" else 404, b"")
            return
        content = path.read_bytes()
        self.answer(200, bytes(len(content)) if behaviour[0] == "garbage" and self.command == "GET" else content)

    do_HEAD = do_GET  # noqa: N815 (the base class names it)

    def do_POST(self):
        if (behaviour := self.behaves()) is None:
            self.close_connection = True
            return
        what, number = behaviour
        Handler.uploads += 1
        if what in ("cut", "die") and Handler.uploads > number:
            if what == "die":
                os._exit(9)
            self.connection.close()
            return
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers["Content-Length"]))
        (ROOT / "files").mkdir(exist_ok=True)
        (ROOT / "files" / self.path.strip("/").replace("/", "_")).write_bytes(content)
        with open(ROOT / "log", "a") as log:
            log.write(f"{self.path}\n")
        self.answer(200, b"")

    do_PUT = do_POST  # noqa: N815

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[4]) if len(sys.argv) > 4 else 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
