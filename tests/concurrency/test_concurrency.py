"""Several processes in one run home: each waits or says in one line what is in the way, and nothing is lost."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from components import outputs, records
from components.dataset import Dataset
from pipelines.local.run import recorded

ROOT = Path(__file__).resolve().parents[2]
EXTRACT = ("--view", "resize32", "--sampling", "even:2")


def started(*arguments, home, code="", **options):
    """Start `ai-vs-real`, or a piece of code, in a process of its own."""
    command = [sys.executable, "-m", "pipelines.commands.main", *map(str, arguments)]
    if code:
        command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"AI_VS_REAL_HOME": str(home)} | options.pop("env", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes, **options)


def ended(process):
    """Wait for a process; return its exit code, standard output and standard error."""
    out, error = process.communicate(timeout=250)
    return process.returncode, out, error


def test_three_extractions_into_one_place_leave_one_whole_dataset(tiny_media, home):
    """With --overwrite the last one stands; without, who comes later says that one is there. Nothing is left over."""
    for options in ((), ("--overwrite",)):
        shutil.rmtree(home, ignore_errors=True)
        output = home / "frames"
        arguments = ("extract", tiny_media, "--output", output, *EXTRACT, *options)
        processes = [started(*arguments, home=home) for _ in range(3)]
        results = [ended(process) for process in processes]
        codes = sorted(code for code, _, _ in results)
        assert codes == ([0, 0, 0] if options else [0, 2, 2]), results
        for code, _, error in results:
            assert "Traceback" not in error
            if code:
                assert "already holds a dataset; replace it with --overwrite" in error.splitlines()[-1]
        assert len(Dataset(home / "frames")) == 60
        assert [path.name for path in home.iterdir()] == ["frames"]


def test_a_run_that_was_killed_is_closed_by_the_next(home):
    code = (
        "import os, signal\nfrom pipelines.local.run import recorded\n"
        "with recorded() as record:\n    print(record['_id'], flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    code_of_exit, out, _ = ended(started(home=home, code=code))
    assert code_of_exit == -signal.SIGKILL
    with records.open_records() as opened:
        assert opened.get("runs", out.strip())["outcome"] == "running"
        with recorded() as record:
            assert opened.get("runs", out.strip())["outcome"] == "killed"
            with recorded():
                assert opened.get("runs", record["_id"])["outcome"] == "running"


def test_a_step_that_was_killed_leaves_nothing_to_the_next(tiny_media, home):
    """SIGKILL in the middle of an extraction, to all that belongs to it; then again, to the end."""
    process = started("extract", tiny_media, *EXTRACT, home=home, start_new_session=True)
    deadline = time.monotonic() + 100
    while not list(home.glob(f".frames.*{outputs.SUFFIX}/part/shards/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    ended(process)
    assert [path.suffix for path in home.iterdir()] == [outputs.SUFFIX]
    assert ended(started("extract", tiny_media, *EXTRACT, home=home))[0] == 0
    assert [path.name for path in home.iterdir()] == ["frames"]
