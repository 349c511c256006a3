"""Contract: which code made a thing: commit, branch, and whether files differed from the commit.

An image has no git: its build writes the answer into GIT_COMMIT and GIT_BRANCH, a commit with `-dirty` behind it, as
`git describe --dirty` writes it, where files differed.
"""

import os
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.errors import InputError

COMMIT, BRANCH = "GIT_COMMIT", "GIT_BRANCH"
POLICY = "AI_VS_REAL_PROMOTE_DIRTY"  # where a detector made by uncommitted code may be promoted
# Which the compiled pipeline sets in a pod.
PIPELINE, IMAGES, RUN = "AI_VS_REAL_PIPELINE_DIGEST", "AI_VS_REAL_PIPELINE_IMAGES", "AI_VS_REAL_PIPELINE_RUN"
POLICIES = ("local", "never", "always")  # the first is the default: on a machine of one's own, not on a cluster
_CLUSTER = "KUBERNETES_SERVICE_HOST"  # which Kubernetes sets in every pod
_DIRTY = "-dirty"
_WAIT_S = 10


@dataclass(frozen=True)
class Revision:
    """The state of the code.

    Attributes:
        commit: The commit's name, 40 hexadecimal digits; empty where it is not known.
        branch: The branch; empty where there is none or it is not known.
        dirty: Whether files differ from the commit, new ones that git does not ignore included; None where it is not
            known.
    """

    commit: str = ""
    branch: str = ""
    dirty: bool | None = None

    def document(self) -> dict[str, Any]:
        """Return it as a record, a card and a page keep it."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.commit:
            return "unknown commit"
        return (
            self.commit[:12] + (f" on {self.branch}" if self.branch else "") + (" with changes" if self.dirty else "")
        )


def revision(directory: Path = Path(__file__).parent) -> Revision:
    """Return the revision of the code in a directory: what the image says, else what git says, else nothing.

    Args:
        directory: A directory of the code; the package's own by default.
    """
    if commit := os.environ.get(COMMIT, "").strip():
        dirty = commit.endswith(_DIRTY)
        commit = commit.removesuffix(_DIRTY)
        known = bool(re.fullmatch(r"[0-9a-f]{7,64}", commit))  # images are also built without: "unknown"
        return Revision(commit, os.environ.get(BRANCH, ""), dirty) if known else Revision()
    try:
        if not _git(
            directory, "ls-files", "."
        ):  # a package that is installed inside somebody's repository is not of it
            return Revision()
        commit = _git(directory, "rev-parse", "HEAD")
        branch = _git(directory, "branch", "--show-current")
        return Revision(commit, branch, bool(_git(directory, "status", "--porcelain")))
    except (OSError, subprocess.SubprocessError):
        return Revision()


def cluster_pipeline() -> dict[str, Any]:
    """Return the pipeline that this step is of: its digest, images and run, as a record of a training has them.

    Returns:
        `pipeline_digest`, `images` and `pipeline_run`, Kubeflow's id of the run; nothing outside of a cluster, where
        the run's own record says it.
    """
    if not os.environ.get(_CLUSTER) or not os.environ.get(PIPELINE):
        return {}
    images = os.environ.get(IMAGES, "")
    return {
        "pipeline_digest": os.environ[PIPELINE],
        "images": images.split(",") if images else [],
        "pipeline_run": os.environ.get(RUN, ""),
    }


def of_document(document: Any) -> Revision:
    """Return the revision that a record or a card holds; an unknown one where it holds none."""
    return Revision(**document) if isinstance(document, dict) else Revision()


def barred(made_by: Revision) -> str:
    """Return why a detector must not be promoted for the code that made it; empty where it may be.

    Args:
        made_by: The revision of that code.

    Raises:
        InputError: AI_VS_REAL_PROMOTE_DIRTY is not one of `POLICIES`.
    """
    policy = os.environ.get(POLICY) or POLICIES[0]
    if policy not in POLICIES:
        raise InputError(f"{POLICY} is {policy!r}; it must be {', '.join(POLICIES)}")
    on_cluster = bool(os.environ.get(_CLUSTER))
    if not made_by.dirty or policy == "always" or (policy == "local" and not on_cluster):
        return ""
    where = " on a cluster" if policy == "local" else ""
    said = f"its code had changes that are in no commit ({made_by}), and {POLICY}={policy} bars it{where}"
    return f"{said}: commit them and train again"


def _git(directory: Path, *arguments: str) -> str:
    # Without locks: git's index is the user's, and another git may be at work in it.
    command = ["git", "--no-optional-locks", "-C", str(directory), *arguments]
    return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL, timeout=_WAIT_S).strip()
