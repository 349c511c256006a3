"""Servers that do not answer as one should: silent ones, ones that drip, and ones that send something else."""

import contextlib
import json
import socket
import threading
import time

import pytest
import yaml

from components.errors import InputError
from pipelines.commands import doctor, job, submit
from pipelines.commands.main import Parser

BOUND_S = 1
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


@contextlib.contextmanager
def listening(behave):
    """Run a server that reads a request from each connection and then behaves in its own way; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk(connection):
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                behave(connection)

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=talk, args=server.accept()[:1], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def silent(connection):
    time.sleep(60)


def dripping(connection):
    """Send a byte now and then, so that a timeout between two bytes never comes."""
    for byte in REPLY % (1000, b" " * 1000):
        connection.sendall(bytes([byte]))
        time.sleep(0.1)


def listing(connection):
    connection.sendall(REPLY % (2, b"[]"))


def page(connection):
    connection.sendall(REPLY % (20, b"<html>Sign in</html>"))


@pytest.fixture
def call(monkeypatch, tmp_path, home):
    """Run a command against a server that stands for the cluster's API and for Kubeflow Pipelines; returns its code."""
    monkeypatch.setenv("AI_VS_REAL_SERVER_TIMEOUT_S", str(BOUND_S))

    def run(url, *arguments):
        entries = {
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {"token": "x"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        document = {"apiVersion": "v1", "kind": "Config", "current-context": "test", **entries}
        (tmp_path / "config").write_text(yaml.safe_dump(document))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        parser = Parser()
        commands = parser.add_subparsers()
        for module in (doctor, job, submit):
            module.add_parser(commands)
        options = parser.parse_args([*arguments])
        return options.run(options)

    return run


@pytest.mark.parametrize("behaviour", [silent, dripping, listing])
def test_job_and_submit_end_in_one_line_and_in_time(call, behaviour):
    with listening(behaviour) as url:
        for words in (["job", "status"], ["job", "stop"], ["submit", "gs://b/m", "--weights", "none", "--host", url]):
            began = time.monotonic()
            with pytest.raises(InputError) as caught:
                call(url, *words)
            assert time.monotonic() - began < 8 * BOUND_S
            assert "\n" not in str(caught.value)
            wanted = "it answers '[]' where an object is expected" if behaviour is listing else "no answer within 1 s"
            assert wanted in str(caught.value)


@pytest.mark.parametrize("behaviour", [silent, dripping, listing])
def test_doctor_reports_such_servers_and_goes_on(call, behaviour, capsys):
    with listening(behaviour) as url:
        began = time.monotonic()
        assert call(url, "doctor", "--json", "--kubernetes", "--host", url) == 1
        assert time.monotonic() - began < 12 * BOUND_S
    findings = {item["what"]: item["ok"] for item in json.loads(capsys.readouterr().out)["findings"]}
    assert (findings["Kubernetes API"], findings["Kubeflow Pipelines"]) == (False, False)


def test_a_login_page_in_front_of_kubeflow_is_recognised(call):
    with listening(page) as url, pytest.raises(InputError, match="answers with a page, not with the API: a login"):
        call(url, "submit", "gs://b/m", "--weights", "none", "--host", url)


def test_waiting_for_a_run_gives_up_when_the_server_is_silent(call):
    with listening(silent) as url, pytest.raises(InputError, match="no answer within 1 s"):
        call(url, "submit", "--host", url, "--run", "x", "--wait", "--interval", "0.1")
