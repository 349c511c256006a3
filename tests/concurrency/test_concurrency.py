"""Several processes in one run home: each waits or says in one line what is in the way, and nothing is lost."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from brightness import write_detector
from PIL import Image

from components import outputs, records, registry
from components.dataset import Dataset
from components.registration.history import open_history
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
    out, error = process.communicate(timeout=500)
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


def obeying_modes():
    """In a child before it runs: give up root's power to write where modes forbid it."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE; others than root have none


@pytest.fixture(scope="module")
def brightness_detector(tmp_path_factory):
    """Calls bright pictures fake."""
    return write_detector(tmp_path_factory.mktemp("models") / "detector", size=48, export=True)


@pytest.fixture
def champion(registry_home, brightness_detector):
    """The detector of brightness as champion of a run home."""
    version = registry.add_version("ai-vs-real", brightness_detector)
    with open_history("ai-vs-real") as history:
        history.settle()
        history.promote(version.version, "the first")
    return version


@pytest.fixture
def picture(tmp_path):
    """A bright picture, which the detector of brightness calls fake."""
    Image.new("RGB", (60, 80), (200, 200, 200)).save(tmp_path / "bright.png")
    return tmp_path / "bright.png"


def read_only(place, bits):
    """Take or give the right to write below a directory."""
    for path in (place, *place.rglob("*")):
        path.chmod((path.stat().st_mode & ~0o222) | bits)


@pytest.mark.servers  # they start many processes
@pytest.mark.parametrize("before", ["nothing was asked before", "asked before"])
def test_check_and_models_read_a_home_that_cannot_be_written(champion, picture, registry_home, before):
    question = ("check", picture, "--jsonl", "--no-delivery-test")
    if before == "asked before":
        assert ended(started(*question, home=registry_home))[0] == 0
    read_only(registry_home, 0)
    try:
        code, out, error = ended(started(*question, home=registry_home, preexec_fn=obeying_modes))
        assert (code, json.loads(out)["verdict"]) == (0, "fake"), error
        for command in ("list", "history"):
            code, out, error = ended(started("models", command, home=registry_home, preexec_fn=obeying_modes))
            assert (code, len(out.splitlines())) == (0, 1), error
        promote = ("models", "rollback", "--reason", "x")
        code, _, error = ended(started(*promote, home=registry_home, preexec_fn=obeying_modes))
        assert code == 2
        assert len(error.strip().splitlines()) == 1
    finally:
        read_only(registry_home, 0o200)


@pytest.mark.servers
def test_check_during_promotions_answers_by_one_champion_or_the_other(
    champion, brightness_detector, picture, registry_home, tmp_path
):
    """Two versions take turns as champion, as fast as they can, while files are asked about."""
    other = tmp_path / "other"
    shutil.copytree(brightness_detector, other)
    card = json.loads((other / "card.json").read_text())
    (other / "card.json").write_text(json.dumps({**card, "digest": "0" * 64}))
    registry.add_version("ai-vs-real", other)
    code = (
        "import itertools\nfrom components.registration.history import open_history\n"
        "for turn in itertools.count():\n    with open_history('ai-vs-real') as history:\n"
        "        history.promote(str(2 - turn % 2), 'by turns')\n    print(turn, flush=True)\n"
    )
    promoting = started(home=registry_home, code=code)
    try:
        assert promoting.stdout.readline() == "0\n"
        asking = [started("check", picture, "--jsonl", "--no-delivery-test", home=registry_home) for _ in range(3)]
        for process in asking:
            status, out, error = ended(process)
            assert status == 0, error
            answer = json.loads(out)
            assert (answer["verdict"], answer["receipt"]["version"] in ("1", "2")) == ("fake", True)
        assert promoting.poll() is None, promoting.stderr.read()
    finally:
        promoting.kill()
        promoting.communicate()


RUN = ("--view", "resize32", "--backbone", "mobilenetv2", "--weights", "none", "--json", "--epochs", "1")
RUN += ("--fine-tune-epochs", "0", "--gate", "roc_auc+0.9", "--shards", "2")


def pipelines(home):
    """The outcomes of the runs that are recorded in a home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AI_VS_REAL_HOME", str(home))
        with records.open_records() as opened:
            return [document["outcome"] for document in opened.find("runs", {"type": "pipeline"})]


@pytest.mark.servers  # a minute
@pytest.mark.timeout(600)
def test_two_whole_runs_in_one_home(tiny_media, home):
    """Both come to an end: with a decision, or with one line that says which other one is in the way."""
    results = [ended(process) for process in [started("run", tiny_media, *RUN, home=home) for _ in range(2)]]
    decided = [json.loads(out) for code, out, _ in results if code == 0]
    assert decided, results
    for code, _, error in results:
        assert "Traceback" not in error
        if code:
            assert code == 2
            assert "in another process" in error.strip().splitlines()[-1]
    assert sorted(pipelines(home)) == sorted(["completed"] * len(decided) + ["failed"] * (2 - len(decided)))


@pytest.mark.servers  # it starts many processes
def test_the_steps_of_a_run_whose_parent_is_killed_alone_end_by_themselves(tiny_media, home):
    """What they print has no reader any more. The next run closes the record of the one that was killed."""
    process = started("run", tiny_media, *RUN, home=home)
    steps = []
    for line in process.stderr:
        if line.startswith("[extract]"):  # the media are listed, and the shards begin
            deadline = time.monotonic() + 60
            while not (steps := descendants(process.pid)) and time.monotonic() < deadline:
                time.sleep(0.05)
            break
    process.kill()
    process.communicate()
    assert steps
    deadline = time.monotonic() + 100
    while any(Path(f"/proc/{step}").exists() for step in steps) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [step for step in steps if Path(f"/proc/{step}").exists()]
    assert pipelines(home) == ["running"]
    with recorded():
        assert sorted(pipelines(home)) == ["killed", "running"]


def descendants(process):
    """The processes that a process started, and those that these started."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    children = [int(child) for path in lists for child in path.read_text().split()]
    return children + [below for child in children for below in descendants(child)]
