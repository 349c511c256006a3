"""A new ext4 volume, as a block device gives it, and what the kubelet makes of it for a pod with an fsGroup."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from kubernetes_server import binaries

ROOT = Path(__file__).resolve().parents[2]
USER = 10001
# What training does with the directory that it is given, in a process of the user that the steps run as.
STEP = """
import os, sys
from pathlib import Path
from components.home import work_place
user, groups = int(sys.argv[2]), [int(group) for group in sys.argv[3:]]
os.setgroups(groups)
os.setgid(user)
os.setuid(user)
work = work_place("training", sys.argv[1]) / "key"
work.mkdir(parents=True)
(work / "fine-tune.npz").write_bytes(b"x")
print(work)
"""


@pytest.fixture
def place():
    """A directory that every user may enter: pytest's own are its user's alone."""
    with tempfile.TemporaryDirectory(prefix="ai-vs-real-") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.fixture
def volume(place):
    """A new ext4 file system of 32 MB, mounted."""
    if os.getuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("needs root and mkfs.ext4 to mount a file system")
    image, mounted = place / "image", place / "volume"
    image.write_bytes(b"")
    os.truncate(image, 32 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    mounted.mkdir()
    done = subprocess.run(["mount", "-o", "loop", image, mounted], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a file system here: {done.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", mounted], check=True)


def step(volume, place, group):
    home = place / f"home-{group}"
    home.mkdir()
    os.chown(home, USER, USER)
    environment = {"AI_VS_REAL_HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home)}
    command = [sys.executable, "-c", STEP, volume, str(USER), *([str(group)] if group else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return Path(done.stdout.split()[-1]), done.stdout + done.stderr


@pytest.mark.servers
def test_training_keeps_its_work_on_a_volume_that_the_kubelet_gave_to_its_group(volume, place):
    assert (volume.stat().st_uid, volume.stat().st_mode & 0o777) == (0, 0o755)
    work, said = step(volume, place, 0)
    assert not work.is_relative_to(volume)
    assert f"{volume} cannot be written by user {USER}: after being killed, training will begin anew" in said
    built = binaries()
    if built is None:
        pytest.skip("needs the kubelet's code, which make kubernetes builds with Go")
    subprocess.run([built / "fsgroup", volume, str(USER)], check=True)
    work, said = step(volume, place, USER)
    assert work.is_relative_to(volume)
    assert "begin anew" not in said
