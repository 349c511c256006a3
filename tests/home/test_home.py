"""A run home that cannot be written is reported in one line, before any work is done."""

import os
import subprocess
import sys

import pytest

from components.errors import InputError
from components.home import run_home


def test_the_home_is_made_where_the_environment_says(home):
    assert run_home() == home
    assert home.is_dir()
    assert list(home.iterdir()) == []


def test_without_the_variable_it_is_runs_here(tmp_path, monkeypatch):
    monkeypatch.delenv("AI_VS_REAL_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert run_home() == tmp_path / "runs"


def test_a_file_in_the_way_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AI_VS_REAL_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(InputError, match="AI_VS_REAL_HOME") as caught:
        run_home()
    assert str(tmp_path / "file" / "home") in str(caught.value)
    assert "\n" not in str(caught.value)


def in_a_process(home, code):
    code = (
        f"import os, resource\nfrom components.errors import InputError\nfrom components import home, records\n{code}"
    )
    environment = {**os.environ, "AI_VS_REAL_HOME": str(home)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_a_home_that_is_not_ours_to_write_is_one_line(tmp_path):
    tmp_path.chmod(0o555)
    done = in_a_process(
        tmp_path,
        "if os.geteuid() == 0: os.setuid(65534)  # root may write everywhere\n"
        "try: home.run_home()\n"
        "except InputError as error: print(error)",
    )
    tmp_path.chmod(0o755)
    assert "Permission denied" in done.stdout
    assert "AI_VS_REAL_HOME" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_home_without_room_is_one_line(tmp_path):
    # A limit on the size of files fails a write as a full disk does.
    done = in_a_process(
        tmp_path,
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try: home.run_home()\n"
        "except InputError as error: print(error)",
    )
    assert "free space there" in done.stdout
    assert done.stdout.count("\n") == 1


def test_records_that_no_longer_fit_are_one_line_and_none_or_all(tmp_path):
    done = in_a_process(
        tmp_path,
        "store = records.open_records()\n"
        "store.put('runs', {'_id': 'before', 'type': 'training'})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "rows = ({'_id': str(i), 'dataset': 'd', 'status': 'accepted', 'path': 'x' * 1000} for i in range(1000))\n"
        "try: store.put_many('media', rows)\n"
        "except InputError as error: print(error)\n"
        "print(store.count('runs'), store.count('media'))",
    )
    message, counts = done.stdout.splitlines()
    assert "AI_VS_REAL_HOME" in message
    assert counts == "1 0"
