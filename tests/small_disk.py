"""A disk that is soon full: a file system in memory, of a stated size."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted file system; skips the test where that is not allowed.

    Args:
        place: Where it is mounted; made.
        size: As `mount` takes it, such as 300k.
    """

    def __init__(self, place: Path, size: str):
        self.place = place
        self.place.mkdir()
        self.sudo = [] if not self._mount([], size) else ["sudo", "-n"]
        if self.sudo and (shutil.which("sudo") is None or self._mount(self.sudo, size)):
            pytest.skip("needs the right to mount a file system in memory")

    def _mount(self, sudo: list[str], size: str) -> int:
        command = [*sudo, "mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", str(self.place)]
        return subprocess.run(command, capture_output=True).returncode

    def fill(self, but: int) -> None:
        """Write a file of somebody else's that leaves so many bytes free."""
        (self.place / "other").write_bytes(bytes(shutil.disk_usage(self.place).free - but))

    def enlarge(self) -> None:
        """Give it room."""
        subprocess.run([*self.sudo, "mount", "-o", "remount,size=64m", str(self.place)], check=True)

    def close(self) -> None:
        """Unmount it, though a database on it be open still."""
        subprocess.run([*self.sudo, "umount", "--lazy", str(self.place)], check=True)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[str], SmallDisk]]:
    """Return a function that mounts a disk of a size."""
    mounted = []

    def mount(size: str) -> SmallDisk:
        mounted.append(SmallDisk(tmp_path / "disk", size))
        return mounted[-1]

    yield mount
    for disk in mounted:
        disk.close()
