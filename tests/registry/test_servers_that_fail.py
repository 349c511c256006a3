"""One bound from a server's first failure to the line, whatever the server does."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from servers import _free_port, running_mlflow

from components import servers, tracking
from components.errors import InputError

BOUND_S = 3
CODE = """
import sys
from components.errors import InputError
from components import registry, tracking
try:
    registry.find("detector") if sys.argv[1:] else tracking.TrackedRun()
except InputError as error:
    print(error)
"""


@pytest.fixture
def dripping():
    """The address of a server whose answers come a byte at a time and never end."""

    def answer(connection):
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
            try:
                while True:
                    connection.sendall(b" ")
                    time.sleep(0.3)
            except OSError:
                pass

    def listen():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=[connection], daemon=True).start()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        threading.Thread(target=listen, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def garbage():
    """The address of a server whose every answer is a page, as a portal before the real one gives it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Please log in</html>")

        do_POST = do_GET  # noqa: N815 (the base class names it)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def nobody():
    """An address where nothing listens."""
    return f"127.0.0.1:{_free_port()}"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "server",
    [
        "dripping",
        "silent_address",
        pytest.param("garbage", marks=pytest.mark.servers),
        pytest.param("nobody", marks=pytest.mark.servers),
    ],
)
def test_a_command_ends_with_one_line_and_without_the_password(request, server, home):
    address = request.getfixturevalue(server)
    uri = f"http://someone:p@ss/w?rd#@{address}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, servers.VARIABLE: str(BOUND_S)}
    ended = subprocess.run([sys.executable, "-c", CODE, "find"], capture_output=True, text=True, env=environment)
    assert ended.stdout.count("\n") == 1
    assert "MLFLOW_TRACKING_URI" in ended.stdout
    assert "ss/w" not in ended.stdout + ended.stderr
    assert ended.stderr == ""


@pytest.mark.timeout(60)
def test_what_is_bounded_returns_raises_or_is_given_up():
    assert servers.bounded(int, "7", seconds=5) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        servers.bounded(int, "x", seconds=5)
    with pytest.raises(TimeoutError, match="0"):
        servers.bounded(time.sleep, 1000, seconds=0.1)


@pytest.mark.servers
@pytest.mark.timeout(280)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "stops answering"])
def test_a_server_that_fails_in_mid_run(number, home, tmp_path, monkeypatch):
    (tmp_path / "mlflow").mkdir()
    with running_mlflow(sys.executable, tmp_path / "mlflow") as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", "//someone:secret@"))

        def train():
            with tracking.TrackedRun() as run:
                run.log(metrics={"loss": 1.0})
                monkeypatch.setenv(servers.VARIABLE, str(BOUND_S))
                server.send(number)
                run.log(metrics={"loss": 0.5}, step=1)

        with pytest.raises(servers.ServerError) as caught:
            train()
        server.send(signal.SIGKILL)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI"):
        tracking.connect()
