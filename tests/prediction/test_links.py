import socket
import threading
import time

import pytest

from components.errors import InputError
from components.prediction.links import LinkLimits, fetch, is_public

HERE = LinkLimits(seconds=5, megabytes=0.1, private=True)


@pytest.fixture
def server():
    """A server on a real socket: `answer` is sent, piece by piece, to whoever connects; None waits 50 ms."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        answers: dict[str, list] = {}
        asked: list[bytes] = []

        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    request = connection.recv(4096)
                    asked.append(request)
                    path = request.split(b" ")[1].decode()
                    try:
                        for piece in answers[path]:
                            time.sleep(0.05) if piece is None else connection.sendall(piece)
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", answers, asked
        listening.shutdown(socket.SHUT_RDWR)


def test_a_file_is_fetched_after_redirects_and_written_under_our_own_name(server, tmp_path):
    address, answers, _ = server
    answers["/a"] = [b"HTTP/1.1 302 Found\r\nLocation: /../b?x=1\r\nContent-Length: 0\r\n\r\n"]
    answers["/b?x=1"] = [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"]
    answers["/../b?x=1"] = answers["/b?x=1"]
    path = fetch(f"{address}/a", tmp_path, HERE)
    assert path.read_bytes() == b"abcd"
    assert path.parent == tmp_path
    assert path.name.startswith("link-")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([b"HTTP/1.1 404 Not Found\r\n\r\n"], "answers 404"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"], "is too large"),
        ([b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 65536] * 3], "is too large"),
        ([b"HTTP/1.1 200 OK\r\n\r\n"], "is an empty file"),
        ([b"HTTP/1.1 302 Found\r\nLocation: /bad\r\n\r\n"], "redirects more than 5 times"),
        ([b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n"], "is not accepted"),
        ([b"garbage\r\n\r\n"], "cannot be fetched"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"], "cannot be fetched"),
    ],
)
def test_what_a_server_may_answer_is_one_line(server, tmp_path, answer, message):
    address, answers, _ = server
    answers["/bad"] = answer
    with pytest.raises(InputError, match=message):
        fetch(f"{address}/bad", tmp_path, HERE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_a_server_that_drips_bytes_ends_at_the_limit(server, tmp_path, head):
    address, answers, _ = server
    answers["/slow"] = [head, *[None, b"x"] * 400]
    with pytest.raises(InputError, match=r"within 0\.5 s"):
        fetch(f"{address}/slow", tmp_path, LinkLimits(seconds=0.5, private=True))


@pytest.mark.parametrize(
    "link",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0.0.0.0/",
        "http://localhost/",
        "http://169.254.169.254/computeMetadata/v1/",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://172.16.0.1/",
        "http://100.64.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
    ],
)
def test_an_address_that_is_not_public_is_refused(link, tmp_path):
    with pytest.raises(InputError, match="not a public address"):
        fetch(link, tmp_path)


def test_a_redirect_to_an_address_that_is_not_public_is_refused(server, tmp_path, monkeypatch):
    address, answers, asked = server
    answers["/go"] = [b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\n\r\n"]
    port = int(address.rpartition(":")[2])
    # Only the first host counts as public: what the redirect names is looked up and judged on its own.
    monkeypatch.setattr("components.prediction.links.is_public", lambda ip: ip == "127.0.0.1" or is_public(ip))
    with pytest.raises(InputError, match="not a public address"):
        fetch(f"http://127.0.0.1:{port}/go", tmp_path)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("ftp://example.org/a", "begins with http"),
        ("http://", "names a host"),
        ("http://user:secret@example.org/", "may not carry a user"),
        ("http://example.org:99999/", "is not a link"),
        ("http://exa mple.org/", "percent-encoded"),
        ("http://example.org/\r\nX: y", "percent-encoded"),
        ("http://name.invalid/", "cannot be resolved"),
    ],
)
def test_a_malformed_link_is_one_line_without_its_password(link, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        fetch(link, tmp_path)
    assert "secret" not in str(caught.value)


def test_public_addresses_are_public():
    assert is_public("93.184.216.34")
    assert is_public("2606:2800:220:1:248:1893:25c8:1946")
    assert not is_public("224.0.0.1")
    assert not is_public("255.255.255.255")
