"""The workflows call what is there."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


def commands(path):
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        for step in job["steps"]:
            yield step.get("run", "")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_target_and_file_is_there(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(commands(path))
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
    for name in re.findall(r"manifests/[\w./-]+", text):
        assert (ROOT / name).exists(), name


def test_a_release_builds_every_image_and_compiles_with_its_tag():
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yaml").read_text())
    built = {entry["image"] for entry in release["jobs"]["images"]["strategy"]["matrix"]["include"]}
    assert built == {path.parent.name for path in ROOT.glob("images/*/Dockerfile")}
    assert release["env"]["AI_VS_REAL_TAG"] == "${{ github.sha }}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_takes_pinned_actions_and_no_more_rights_than_it_needs(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        writes = {right for right, access in job.get("permissions", {}).items() if access == "write"}
        assert writes == ({"contents"} if (path.stem, name) == ("release", "publish") else set()), name
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
    assert all("${{" not in command for command in commands(path))  # a name of a branch would be run as a command


def test_vulnerabilities_are_looked_for_in_every_lock_and_a_release_has_bills_of_materials():
    ci, release = (
        yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yaml").read_text()) for name in ("ci", "release")
    )
    [audit] = [step for step in ci["jobs"]["vulnerabilities"]["steps"] if "pip-audit" in step["uses"]]
    locks = {str(path.relative_to(ROOT)) for path in [ROOT / "requirements.lock", *ROOT.glob("images/*/*.lock")]}
    assert set(audit["with"]["inputs"].split()) == locks
    assert any("sbom" in step.get("uses", "") for step in release["jobs"]["images"]["steps"])


@pytest.mark.parametrize("path", sorted(ROOT.glob("images/*/Dockerfile")), ids=lambda path: path.parent.name)
def test_a_recipe_is_read_by_both_builders_and_ends_as_nobody(path):
    text = path.read_text()
    assert not re.search(r"# syntax=|<<EOF|--link|--chmod|--mount|:latest", text)
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert text.count("pip --python /opt/python/bin/python install") == text.count("--require-hashes") + text.count(
        " /src "
    )
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)
    assert "USER 10001:10001" in stages[-1]
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            for variant in ("cpu", "gpu"):
                assert (ROOT / source.replace("${VARIANT}", variant)).exists(), source


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("images/*/*.lock")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_a_lock_pins_everything_as_the_project_does(path):
    def pins(file):
        found = {}
        for name, version in re.findall(r"^([a-z0-9-]+)==([^\s;]+)", file.read_text(), re.MULTILINE):
            found.setdefault(name, set()).add(version)  # one for each Python
        return found

    known = pins(ROOT / "requirements.lock") | pins(ROOT / "images" / "overrides.txt")
    text = path.read_text()
    for requirement in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        assert "==" in requirement.splitlines()[0]
        assert "--hash=sha256:" in requirement, requirement
    assert "://" not in text
    for name, versions in pins(path).items():
        assert versions <= known.get(name, versions), f"{name}: run make lock"
