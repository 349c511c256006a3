"""Marked secrets in every place that takes one: nothing that commands leave behind or print holds them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MARK = "m4rked-secr3t"
COMMANDS = [
    ["records", "runs"],
    ["records", "export", "all.jsonl"],
    ["data", "push", "--repository", "repository", "--dagshub", "user/repository"],
    ["data", "pull", "0123456789ab", "--repository", "repository"],
    ["models", "history"],
    ["lineage"],
    ["run", "media", "--epochs", "1", "--json"],
    ["run", "gs://bucket/media", "--epochs", "1", "--verbose"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments[:2]))
def test_no_secret_is_printed_or_kept(tmp_path, tiny_media, silent_address, arguments):
    """Servers that refuse at once: every command fails, and its error names a server whose address holds a secret."""
    (tmp_path / "media").symlink_to(tiny_media)
    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    (repository / "data").mkdir()
    (repository / "data" / "0123456789ab.dvc").write_text("outs:\n- md5: 0.dir\n  path: 0123456789ab\n")
    key = tmp_path / "key.json"
    key.write_text(json.dumps({"type": "service_account", "private_key": f"{MARK}-1", "client_email": "a@b"}))
    secrets = {
        "MONGODB_URI": f"mongodb://user:{MARK}-2@127.0.0.1:9/records?tlsCertificateKeyFilePassword={MARK}-3",
        "MLFLOW_TRACKING_URI": f"http://user:{MARK}-4@127.0.0.1:9",
        "MLFLOW_TRACKING_USERNAME": "user",
        "MLFLOW_TRACKING_PASSWORD": f"{MARK}-5",
        "MLFLOW_TRACKING_TOKEN": f"{MARK}-6",
        "DAGSHUB_USER_TOKEN": f"{MARK}-7",
        "DAGSHUB_CLIENT_HOST": f"http://user:{MARK}-8@127.0.0.1:9",
        "AI_VS_REAL_DATA_PASSWORD": f"{MARK}-9",
        "KF_PIPELINES_TOKEN": f"{MARK}-10",
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
        "AI_VS_REAL_HOME": str(tmp_path / "home"),
        "AI_VS_REAL_SERVER_TIMEOUT_S": "1",
    }
    if arguments[0] == "models":  # with records here, so that the registry is what fails
        secrets.pop("MONGODB_URI")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ai-vs-real"), *arguments],
        cwd=tmp_path,
        env={**os.environ, **secrets},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert MARK not in done.stdout + done.stderr
    if "--verbose" not in arguments:
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for path in tmp_path.rglob("*"):
        if path.is_file() and path != key:
            assert MARK.encode() not in path.read_bytes(), path
