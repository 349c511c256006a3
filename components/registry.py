"""Contract: the registry of detectors in MLflow: versions and the aliases that point at them.

A model is saved here, its files are kept with a run, and the version is made of them last, with all its tags, in one
request. So a version that can be seen is whole, and one that was never finished cannot be seen.
"""

import atexit
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from components import home, outputs, shipping, tracking
from components.errors import InputError
from components.redaction import redact

CHAMPION, CHALLENGER = "champion", "challenger"
MODEL_PATH = "detector"  # of the model among its run's artifacts
KEPT = "evaluation"  # of what `keep` keeps
# A picture of 64 x 64 pixels, for the registered model's input example.
EXAMPLE = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABABAMAAABYR2ztAAAAGFBMVEXu7u7MzMyqqqqKiopqampKSkosLCwODg6fOM5wAAAAK0lE"
    "QVR42mMsZ8APmBiGgwKW9yPCm6PhMBrdowE1mh7IVsAoOBoOo4AEAAAg0wWqc+8MggAAAABJRU5ErkJggg=="
)
# Of the code that is shipped, beside MLflow itself.
SHIPPED_NEEDS = (
    "av",
    "ffmpeg-python",
    "imageio-ffmpeg",
    "numpy",
    "opencv-python-headless",
    "openvino",
    "pandas",
    "pillow",
    "pillow-heif",
    "pyarrow",
    "xxhash",
)
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Version:
    """One registered detector.

    Attributes:
        name: Of the registered model.
        version: The registry's number, as text.
        digest: Of the detector, from its card.
        run_id: The MLflow run that holds its files.
        tags: As given to `add_version`, and `digest` and `sha256` (of its files).
        aliases: `champion`, `challenger`, or others set by hand.
        source: Where its files lie, a URI that the tracking server understands.
        created_s: Seconds since 1970.
    """

    name: str
    version: str
    digest: str
    run_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    source: str = ""
    created_s: float = 0.0


def find(name: str, alias: str = CHAMPION) -> Version | None:
    """Return the version that an alias names, or None where there is no such model, alias or whole version."""
    return next((version for version in versions(name) if alias in version.aliases), None)


def versions(name: str) -> list[Version]:
    """Return the detectors registered under a name, newest first; empty where there is no such name.

    Raises:
        InputError: The name is not one that a registry takes.
        ServerError: MLflow does not answer.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"model name {name!r} is not accepted; use letters, digits, dots, dashes and underscores")
    path = tracking.database()
    if path and not path.exists():
        return []
    remembered = _remembered(path, name) if path else None
    return _read(name) if remembered is None else remembered


def add_version(
    name: str, detector: Path, run_id: str = "", tags: Mapping[str, str] | None = None, description: str = ""
) -> Version:
    """Register a detector, unless a version of the same digest is there: then that version is returned.

    Args:
        name: Of the registered model, made if need be.
        detector: The detector's directory.
        run_id: The MLflow run that trained it; a new run is made where this server knows no such run.
        tags: More tags for the version.
        description: What it is, on what data, and what it must not be used for, in Markdown.

    Returns:
        The version.

    Raises:
        InputError: The directory holds no detector.
        ServerError: MLflow does not answer, or its files cannot be written.
    """
    from components.detector import read_card

    detector = Path(detector)
    card = read_card(detector)
    for version in versions(name):
        if version.digest == card["digest"]:
            return version
    client = tracking.connect()
    with tempfile.TemporaryDirectory() as part:
        model = Path(part) / MODEL_PATH
        _save_model(detector, model)
        run = tracking.enter(client, run_id, f"register {name}")
        paths = [path for path in sorted(model.rglob("*")) if path.is_file()]
        tracking.upload(run, {f"{MODEL_PATH}/{path.relative_to(model).as_posix()}": path for path in paths})
    tracking.leave(client, run.info.run_id)
    with suppress(tracking.ExistsError):
        client.create_registered_model(name)
    marks = {**(tags or {}), "digest": card["digest"], "sha256": sha256_of(detector)}
    source = f"{tracking.resident(run.info.artifact_uri)}/{MODEL_PATH}"
    marks = {key: str(value) for key, value in marks.items()}
    made = client.create_model_version(name, source, run.info.run_id, marks, description=description or None)
    return _version(made, {})


def download(name: str, version: str, directory: Path | None = None) -> Path:
    """Return a directory with a registered detector: `fetch` by name and number.

    Args:
        name: Of the registered model.
        version: The registry's number.
        directory: As in `fetch`.

    Raises:
        InputError: There is no such version, or its files are not those that were registered.
    """
    for entry in versions(name):
        if entry.version == str(version):
            return fetch(entry, directory)
    raise InputError(f"{tracking.public_uri()} has no version {version!r} of {name!r}; see: ai-vs-real models list")


def fetch(version: Version, directory: Path | None = None) -> Path:
    """Return a directory with a detector's files, which are those that were registered.

    Args:
        version: From `find` or `versions`.
        directory: Where it shall lie; by default a place in the run home, where it is kept for the next time.

    Raises:
        InputError: The version's tag is no sha256, or its files do not have it.
        ServerError: MLflow does not answer.
    """
    expected = version.tags.get("sha256", "")
    if not SHA256.fullmatch(expected):
        raise InputError(
            f"version {version.version} of {version.name} carries the tag sha256={expected!r}, which is not 64 "
            "hexadecimal digits; register the detector again"
        )
    target = directory or home.place() / "detectors" / expected
    if directory is None and target.is_dir() and sha256_of(target) == expected:
        return target
    target = _where_it_can_be_written(target)
    with outputs.passing(".fetch.", target.parent) as part:
        fetched = part / "detector"
        tracking.download(f"{version.source}/data/detector", fetched)
        if sha256_of(fetched) != expected:
            raise InputError(
                f"version {version.version} of {version.name} does not hold the files that were registered: those at "
                f"{redact(tracking.resident(version.source))} were changed; restore them, or register it again"
            )
        if directory is None and target.exists():
            with suppress(OSError):  # damaged, and ours; or another process has just put it right
                os.rename(target, part / "damaged")
        try:
            os.rename(fetched, target)
        except OSError:  # another process was first
            if directory is not None or not target.exists():
                raise
    return target


def _where_it_can_be_written(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            return target
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    passing = tempfile.mkdtemp(prefix="ai-vs-real-")  # for as long as this process, which can only read its run home
    atexit.register(shutil.rmtree, passing, ignore_errors=True)
    return Path(passing) / target.name


def keep(version: Version, files: Mapping[str, Path]) -> None:
    """Keep files beside a version, in place of those of the same names.

    Args:
        version: The version.
        files: By name.
    """
    run = tracking.connect().get_run(version.run_id)
    tracking.upload(run, {f"{KEPT}/{name}": Path(path) for name, path in files.items()})


def kept(version: Version, name: str, directory: Path) -> Path:
    """Fetch a file that `keep` kept into a directory and return its path.

    Args:
        version: The version.
        name: Of the file.
        directory: Where it shall lie.

    Raises:
        InputError: There is none.
    """
    tracking.download(f"{version.source.removesuffix(MODEL_PATH)}{KEPT}", directory)
    if not (directory / name).is_file():
        raise InputError(f"version {version.version} of {version.name} has no {name}; register it again")
    return directory / name


def set_alias(name: str, alias: str, version: str) -> None:
    """Point an alias at a version.

    Args:
        name: Of the registered model.
        alias: Such as `champion`.
        version: The registry's number; empty to remove the alias.
    """
    client = tracking.connect()
    if version:
        client.set_registered_model_alias(name, alias, version)
    else:
        with suppress(tracking.MissingError):
            client.delete_registered_model_alias(name, alias)
    if tracking.database():
        _read(name)  # so that the next process is answered from what is remembered


def sha256_of(directory: Path) -> str:
    """Return the sha256 of a directory: of the names, sizes and contents of all files in it."""
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(directory).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _read(name: str) -> list[Version]:
    """Read the versions through MLflow, and remember them for as long as its file is as it was."""
    path = tracking.database()
    stamp = _stamp(path) if path else ""
    client = tracking.connect()
    try:
        pointed = dict(client.get_registered_model(name).aliases)
    except tracking.MissingError:
        pointed = {}
    entries: list[Any] = []
    token = None
    while token != "":
        page = client.search_model_versions(f"name = '{name}'", 200, page_token=token)
        entries, token = entries + list(page), page.token or ""
    whole = [_version(entry, pointed) for entry in entries if "digest" in entry.tags]
    whole.sort(key=lambda version: -int(version.version))
    if path and stamp and stamp == _stamp(path):
        _remember(path, stamp, name, whole)
    return whole


def _stamp(path: Path) -> str:
    """Return what changes with every change of a SQLite file, or an empty text where that cannot be said.

    A file in rollback mode counts its transactions in bytes 24 to 27 of its header (https://sqlite.org/fileformat.html,
    1.3.7); bytes 18 and 19 are 1 in this mode. A journal beside it is of a transaction that is under way, or that will
    be undone by the next reader.
    """
    try:
        with path.open("rb") as file:
            header = file.read(100)
            state = os.fstat(file.fileno())
    except OSError:
        return ""
    if header[18:20] != b"\x01\x01" or any(path.with_name(path.name + end).exists() for end in ("-journal", "-wal")):
        return ""
    return f"{state.st_dev} {state.st_ino} {state.st_size} {state.st_mtime_ns} {header[24:28].hex()}"


def _memory(path: Path) -> Path:
    return path.with_name(f".{path.name}.versions.json")


def _remembered(path: Path, name: str) -> list[Version] | None:
    """Return the versions as they were last read; None where the registry's file has changed since, in any way."""
    try:
        memory = json.loads(_memory(path).read_text())
        if not memory["stamp"] or memory["stamp"] != _stamp(path):
            return None
        entries = memory["versions"].get(name)
        return (
            None if entries is None else [Version(**{**entry, "aliases": tuple(entry["aliases"])}) for entry in entries]
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _remember(path: Path, stamp: str, name: str, whole: list[Version]) -> None:
    memory: dict[str, Any] = {"stamp": stamp, "versions": {}}
    with suppress(OSError, ValueError, LookupError, TypeError):
        before = json.loads(_memory(path).read_text())
        memory = before if before["stamp"] == stamp else memory
    memory["versions"][name] = [asdict(version) for version in whole]
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with suppress(OSError):  # a run home that can only be read
        part.write_text(json.dumps(memory))
        os.replace(part, _memory(path))


def _version(entry: Any, pointed: Mapping[str, str]) -> Version:
    aliases = tuple(sorted(alias for alias, number in pointed.items() if str(number) == str(entry.version)))
    created = entry.creation_timestamp / 1000
    tags = dict(entry.tags)
    return Version(
        entry.name, str(entry.version), tags["digest"], entry.run_id or "", tags, aliases, entry.source, created
    )


def _save_model(detector: Path, path: Path) -> None:
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    with tempfile.TemporaryDirectory() as part, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, about what is given below
        # What answers about a file travels with the model, so that it loads where this package is not installed.
        entry = shipping.ship("components.prediction.registered", Path(part))
        files = Path(part) / "detector"
        shutil.copytree(detector, files)
        outputs = [ColSpec("string", "verdict"), ColSpec("double", "probability"), ColSpec("string", "reason")]
        pyfunc.save_model(
            path,
            loader_module=entry,
            data_path=str(files),
            code_paths=[f"{part}/{entry.partition('.')[0]}"],
            signature=ModelSignature(
                Schema([ColSpec("string")]), Schema([*outputs, ColSpec("string", "error", required=False)])
            ),
            pip_requirements=_requirements(),
        )
        _add_example(path)


def _add_example(path: Path) -> None:
    """Put the input example beside the model, as `save_model` would, which runs the model to do so."""
    import pandas
    from mlflow.models import Model
    from mlflow.models.utils import _Example

    example = _Example(pandas.DataFrame({"media": [EXAMPLE]}))
    example.save(str(path))
    model = Model.load(path)
    model.saved_input_example_info = example.info
    model.save(str(path / "MLmodel"))


def _requirements() -> list[str]:
    """Return what the shipped code needs, each as it is installed here, else as this package asks for it."""
    asked = {}
    for line in metadata.requires("ai-vs-real") or []:
        requirement = line.partition(";")[0].strip()
        asked[re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()] = requirement
    pinned = []
    for name in SHIPPED_NEEDS:
        try:
            pinned.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            pinned.append(asked.get(name, name))
    return pinned
