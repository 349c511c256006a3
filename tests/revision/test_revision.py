"""Which code made a thing: by git, by what an image says, and what follows from changes that are in no commit."""

import subprocess

import pytest

from components.errors import InputError
from components.revision import Revision, barred, cluster_pipeline, revision


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A repository with one committed file, and no word about a commit in the environment."""
    for name in ("GIT_COMMIT", "GIT_BRANCH", "AI_VS_REAL_PROMOTE_DIRTY", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for key in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{key}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{key}_EMAIL", "somebody@example.org")
    (tmp_path / "module.py").write_text("1")
    for command in ("init -q -b topic", "add .", "commit -q -m begin"):
        subprocess.run(["git", "-C", str(tmp_path), *command.split()], check=True)
    return tmp_path


def test_commit_branch_and_changes_are_gits(code):
    commit = subprocess.check_output(["git", "-C", str(code), "rev-parse", "HEAD"], text=True).strip()
    assert revision(code) == Revision(commit, "topic", False)
    (code / "new.py").write_text("2")
    assert revision(code) == Revision(commit, "topic", True)
    (code / "new.py").unlink()
    subprocess.run(["git", "-C", str(code), "checkout", "-q", "--detach"], check=True)
    assert revision(code) == Revision(commit, "", False)


def test_an_installed_package_is_not_of_the_repository_around_it(code):
    (code / ".gitignore").write_text("site-packages")
    (code / "site-packages").mkdir()
    (code / "site-packages" / "module.py").write_text("3")
    assert revision(code / "site-packages") == Revision()


def test_an_image_has_no_git_and_says_it_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("GIT_COMMIT", raising=False)
    assert revision(tmp_path) == Revision()
    monkeypatch.setenv("GIT_BRANCH", "main")
    for said, expected in {
        "a" * 40: Revision("a" * 40, "main", False),
        "a" * 40 + "-dirty": Revision("a" * 40, "main", True),
        "unknown": Revision(),
    }.items():
        monkeypatch.setenv("GIT_COMMIT", said)
        assert revision(tmp_path) == expected


@pytest.mark.parametrize(
    ("policy", "cluster", "refused"),
    [("", "", False), ("", "10.0.0.1", True), ("never", "", True), ("always", "10.0.0.1", False)],
)
def test_uncommitted_code_is_barred_by_policy(code, monkeypatch, policy, cluster, refused):
    monkeypatch.setenv("AI_VS_REAL_PROMOTE_DIRTY", policy)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", cluster)
    assert bool(barred(Revision("a" * 40, "main", True))) == refused
    assert barred(Revision("a" * 40, "main", False)) == ""
    assert barred(Revision()) == ""
    monkeypatch.setenv("AI_VS_REAL_PROMOTE_DIRTY", "sometimes")
    with pytest.raises(InputError, match="local, never, always"):
        barred(Revision())


def test_a_pod_knows_its_pipeline_and_a_process_here_does_not_claim_one(monkeypatch):
    monkeypatch.setenv("AI_VS_REAL_PIPELINE_DIGEST", "d" * 64)
    monkeypatch.setenv("AI_VS_REAL_PIPELINE_IMAGES", "host/a:1,host/b:1")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert cluster_pipeline() == {}
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("AI_VS_REAL_PIPELINE_RUN", "4d9c")
    made_by = {"pipeline_digest": "d" * 64, "images": ["host/a:1", "host/b:1"], "pipeline_run": "4d9c"}
    assert cluster_pipeline() == made_by
