"""The command `check`: every kind of input and output, exit codes, and names that cannot forge a line."""

import contextlib
import csv
import io
import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from components.prediction.inputs import gathered
from components.prediction.tables import row
from components.progress import printable
from pipelines.commands.main import main


def check(*arguments, **options):
    command = [sys.executable, "-m", "pipelines.commands.main", "check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=250, **options)


@pytest.fixture(scope="module")
def whole(brightness_detector, asked_media, tmp_path_factory):
    """One run over a directory with everything in it, in JSON and Parquet, with pages."""
    place = tmp_path_factory.mktemp("out")
    arguments = (asked_media, "no such.jpg", "--model", brightness_detector, "--json")
    done = check(*arguments, "--parquet", place / "all.parquet", "--explain", place / "pages")
    return done, place


def test_a_directory_gets_verdicts_a_summary_and_exit_code_4_for_what_cannot_be_read(whole, asked_media):
    done, _ = whole
    assert done.returncode == 4, done.stderr.decode()
    document = json.loads(done.stdout)
    assert document["summary"] == {"real": 1, "fake": 2, "unsure": 2, "unreadable": 2}
    assert [answer["path"] for answer in document["answers"]] == [
        *(str(asked_media / name) for name in ("bright.png", "broken.jpg", "clip.mp4", "dark.png", "generated.png")),
        str(asked_media / "gray.png"),
        "no such.jpg",
    ]
    assert b"no such.jpg: no such file" in done.stderr.splitlines()[0]  # before anything is loaded
    assert b"tensorflow" not in done.stderr.lower()


def test_parquet_holds_the_same_answers(whole):
    done, place = whole
    answers = json.loads(done.stdout)["answers"]
    rows = pq.read_table(place / "all.parquet").to_pylist()
    assert [json.loads(entry.pop("answer")) for entry in rows] == answers
    assert rows == [row(answer) for answer in answers]


def test_a_page_explains_each_file(whole):
    _, place = whole
    pages = sorted(path.name for path in (place / "pages").iterdir())
    assert [name.partition("-")[2] for name in pages] == [
        "bright.png.html", "clip.mp4.html", "dark.png.html", "generated.png.html", "gray.png.html",
    ]  # fmt: skip
    clip = (place / "pages" / pages[1]).read_text()
    assert all(words in clip for words in ("Timeline", "Delivery test", "Made with AI", "Receipt"))


def test_what_names_nothing_is_refused_at_once_without_a_detector(tmp_path):
    done = check(tmp_path / "absent.jpg", tmp_path)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.decode().splitlines() == [
        f"ai-vs-real: {tmp_path}/absent.jpg: no such file",
        f"ai-vs-real: {tmp_path}: the directory holds no file",
    ]


def test_csv_from_standard_input_and_the_exit_code_that_a_script_asked_for(brightness_detector, asked_media):
    picture = (asked_media / "bright.png").read_bytes()
    options = ("--no-delivery-test", "--csv", "--fail-on", "fake")
    done = check("-", "--model", brightness_detector, *options, input=picture)
    assert done.returncode == 3, done.stderr.decode()
    (answer,) = csv.DictReader(io.StringIO(done.stdout.decode()))
    assert (answer["path"], answer["verdict"], answer["frames"]) == ("'-", "fake", "1")


def test_patterns_and_directories_are_expanded_and_what_is_hidden_left_out(asked_media, tmp_path):
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "a.png").write_bytes(b"x")
    with gathered([str(asked_media / "*.png"), str(tmp_path), str(tmp_path / "*.gif")]) as files:
        names = [(file.name.rpartition("/")[2], file.error) for file in files]
    assert names == [
        *((f"{name}.png", "") for name in ("bright", "dark", "generated", "gray")),
        (tmp_path.name, "the directory holds no file"),
        ("*.gif", "no such file"),
    ]


def test_a_link_to_this_machine_is_refused():
    with gathered(["http://127.0.0.1:9/a.jpg", "http://169.254.169.254/latest/meta-data"]) as files:
        assert all(file.location is None and file.error for file in files)


def test_a_name_cannot_forge_a_line_or_an_escape_code():
    assert printable("a\nreal.jpg\x1b[2K") == "a\\nreal.jpg\\x1b[2K"
    assert printable("\udce9.jpg") == "\\udce9.jpg"
    assert printable("Фото 1.jpg") == "Фото 1.jpg"


def test_names_that_attack_the_output_come_out_escaped_in_every_form(brightness_detector, asked_media, tmp_path):
    """A newline and escape codes that forge a verdict, bytes that are no text, markup, on a strict standard output."""
    place, out = tmp_path / "named", tmp_path / "out"
    place.mkdir()
    picture = (asked_media / "dark.png").read_bytes()
    names = (b"a.png\nb.png  real  0.01\x1b[2K.png", b"\xff\xfe.png", b"[bold]<script>$x$.png", b"\xff.jpg")
    for name in names:
        with open(os.path.join(os.fsencode(place), name), "wb") as file:
            file.write(picture if name.endswith(b"png") else b"no picture")
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict", "LC_ALL": "C", "PYTHONUTF8": "0"}
    arguments = (place, place / "ab\x1b]0;title\x07\nsent.jpg", "--model", brightness_detector, "--no-delivery-test")
    forms = {"": ("--parquet", out / "all.parquet", "--explain", out), "--csv": (), "--jsonl": ()}
    for form, more in forms.items():
        done = check(*arguments, *more, *filter(None, [form]), env=strict)
        assert done.returncode == 4, done.stderr.decode()
        written = done.stdout + done.stderr
        assert not any(sign in written for sign in (b"\x1b", b"\x07"))
        assert b"Traceback" not in written
        if form == "--csv":
            paths = [row["path"] for row in csv.DictReader(io.StringIO(done.stdout.decode()))]
            assert len(paths) == 5
        else:
            lines = [line for line in done.stdout.decode().splitlines() if ".png" in line or ".jpg" in line]
            assert len(lines) == 5
            assert not any(line.startswith("b.png") for line in lines)
    assert pq.read_table(out / "all.parquet").num_rows == 5
    assert len(list(out.glob("*.html"))) == 3
    assert all("<script>$" not in page.read_text() for page in out.glob("*.html"))


def test_a_name_in_an_error_of_main_is_escaped(capsys):
    for arguments in (["extract", "no\nsuch\x1b[2K", "--output", "x"], ["che\nck\x1b[2K"]):
        with contextlib.suppress(SystemExit):
            assert main(arguments) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "\x1b" not in line
        assert "\\n" in line
