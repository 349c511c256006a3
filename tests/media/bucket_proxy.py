"""A proxy before a bucket's emulator that misbehaves as networks and services do.

Run as `python bucket_proxy.py PORT_OF_THE_EMULATOR DIRECTORY`; prints its own port. DIRECTORY/behaviour, read anew at
every request, holds a JSON object: `fail`: HTTP status of the answer to the first `times` requests of each address;
`reset`: that they break off before an answer; `truncate`: that they break off in the middle of the body; `garbage`:
that they bring other bytes; `after`: that the first so many requests of all are spared; `silent`: that nothing ever
answers; `delay`: seconds before each answer. DIRECTORY/log has a line for each request that was passed on.
"""

import http.client
import json
import socket
import struct
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

EMULATOR, ROOT = int(sys.argv[1]), Path(sys.argv[2])
SEEN: Counter = Counter()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = json.loads((ROOT / "behaviour").read_text()) if (ROOT / "behaviour").exists() else {}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if asked.get("silent"):
            time.sleep(600)
        time.sleep(asked.get("delay", 0))
        key = (json.dumps(asked), self.path)
        spared = SEEN[key[0]] < asked.get("after", 0)
        SEEN[key[0]] += 1
        if not spared and asked.get("only", "") in self.path and SEEN[key] < asked.get("times", 0):
            SEEN[key] += 1
            if "fail" in asked:
                self.answer(asked["fail"], {}, b"{}")
                return
            if "reset" in asked:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                self.close_connection = True
                return
        else:
            asked = {}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        connection = http.client.HTTPConnection("127.0.0.1", EMULATOR, timeout=60)
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        with open(ROOT / "log", "a") as log:
            log.write(f"{self.command} {self.headers.get('Range', '-')} {self.path}\n")
        content = b"<" * len(content) if "garbage" in asked else content
        if answer.getheader("Content-Type", "").startswith("application/json"):  # links of objects, to here as well
            for name in (b"localhost", b"127.0.0.1"):
                content = content.replace(b"%s:%d" % (name, EMULATOR), self.headers["Host"].encode())
        self.answer(answer.status, dict(answer.getheaders()), content, "truncate" in asked)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 (the base class names them)

    def answer(self, status, headers, content, truncate=False):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value.replace(f"localhost:{EMULATOR}", self.headers["Host"]))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if truncate else content)
        if truncate:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
