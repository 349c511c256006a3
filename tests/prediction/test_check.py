"""The command `check`: every kind of input and output, exit codes, and names that cannot forge a line."""

import csv
import io
import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from components.prediction.inputs import gathered
from components.prediction.tables import row
from components.progress import printable


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
        assert all(file.path is None and file.error for file in files)


def test_a_name_cannot_forge_a_line_or_an_escape_code():
    assert printable("a\nreal.jpg\x1b[2K") == "a\\nreal.jpg\\x1b[2K"
    assert printable("\udce9.jpg") == "\\udce9.jpg"
    assert printable("Фото 1.jpg") == "Фото 1.jpg"
