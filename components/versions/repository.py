"""A Git repository that holds versions of datasets: each its own directory, whose bytes DVC keeps.

    data/VERSION.dvc    DVC's pointer to the bytes: shards, manifest, certificate and media list
    data/VERSION.json   the dataset's card, so that a version can be read about without its bytes
    data/VERSION/       the bytes themselves, where they are checked out; Git ignores them

VERSION is `Dataset.version`. A snapshot is a commit of these files and a tag `data/VERSION`. Pushing the commit is left
to the user; the bytes go to any remote that DVC knows, or to DagsHub.
"""

import contextlib
import csv
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import outputs
from components.dataset import LABELS, Dataset
from components.errors import InputError
from components.progress import say
from components.redaction import redact, safe_cause
from components.servers import timeout_s

VARIABLE = "AI_VS_REAL_DATA_REPOSITORY"
FOLDER = "data"
MEDIA_LIST = "media.csv"  # of the files in the dataset, as a list that `ai-vs-real run` takes
REMOTE = "dagshub"
DAGSHUB = "https://dagshub.com"
USER, PASSWORD = "AI_VS_REAL_DATA_USER", "AI_VS_REAL_DATA_PASSWORD"
TOKEN, HOST = "DAGSHUB_USER_TOKEN", "DAGSHUB_CLIENT_HOST"
GIT_WAIT_S = 60


@dataclass(frozen=True)
class DataVersion:
    """One version of a dataset.

    Attributes:
        version: Its name.
        card: The dataset's card.
        here: Whether its bytes are in DVC's cache or checked out, so that no remote is needed.
    """

    version: str
    card: dict[str, Any]
    here: bool


class DataRepository:
    """Versions of datasets in one Git repository.

    Args:
        directory: In the repository; AI_VS_REAL_DATA_REPOSITORY if not given, else the current directory.
        remote: A remote that the repository's DVC knows; its default if empty.
        dagshub: USER/REPO of DagsHub, in place of a remote; its token is taken from DAGSHUB_USER_TOKEN.

    Raises:
        InputError: The directory is in no Git repository, DVC is not installed, or DagsHub is named without a token.
    """

    def __init__(self, directory: str | Path = "", *, remote: str = "", dagshub: str = ""):
        self._import_dvc()
        place = Path(directory or os.environ.get(VARIABLE) or ".")
        if not place.is_dir():
            raise InputError(
                f"there is no directory {place}; name one in the Git repository that keeps your data versions"
            )
        self.root = Path(
            _git(
                place,
                "rev-parse",
                "--show-toplevel",
                otherwise=f"{place} is in no Git repository; run git init there, or use --repository or {VARIABLE}",
            )
        )
        self.folder = self.root / FOLDER
        self.remote = REMOTE if dagshub else remote
        self._config = dagshub_remote(dagshub) if dagshub else None

    def snapshot(self, dataset: str | Path, message: str = "") -> str:
        """Make a version of a dataset, unless there is one of the same content.

        Args:
            dataset: The directory of a dataset that `preprocess` made.
            message: Of the commit; a sentence with the counts if empty.

        Returns:
            The version.

        Raises:
            InputError: The directory holds no such dataset, or Git refuses the commit.
        """
        opened = Dataset(dataset)
        if "certificate" not in opened.card:
            raise InputError(f"{dataset} holds frames and no split dataset; give a directory that preprocess wrote")
        version = opened.version
        if self._pointer(version).is_file():
            say("data", f"version {version} is there already")
            return version
        self._initialise()
        target = self.folder / version
        self.folder.mkdir(exist_ok=True)
        with outputs.passing(".snapshot.", self.folder) as work:
            part = work / "part"
            part.mkdir()
            _copy(opened.directory, part)
            _write_media_list(opened, part / MEDIA_LIST)
            if target.exists():
                raise InputError(f"{target} is in the way; it is no version of yours yet: move it elsewhere")
            os.chmod(part, 0o755)
            os.rename(part, target)
        with self._dvc() as repo:
            repo.add(str(target))
        self._card(version).write_text(json.dumps(opened.card, indent=1, sort_keys=True) + "\n")
        counts = opened.card["counts"]
        said = message or f"Add data version {version}: {counts['files']:,} files, {counts['rows']:,} rows"
        paths = [self._pointer(version), self._card(version), self.folder / ".gitignore"]
        self._commit(said, [str(path) for path in paths])
        _git(self.root, "tag", "-a", f"{FOLDER}/{version}", "-m", said)
        return version

    def versions(self) -> list[DataVersion]:
        """Return the versions, the newest first as Git has them committed."""
        listed = [self._read(path.stem) for path in self.folder.glob("*.dvc")]
        order = _git(self.root, "log", "--format=", "--name-only", "--", FOLDER, otherwise=None).splitlines()
        place = {name: number for number, name in reversed(list(enumerate(order)))}
        return sorted(listed, key=lambda version: place.get(f"{FOLDER}/{version.version}.dvc", -1))

    def find(self, text: str) -> str:
        """Return the whole name of a version, of which the begin is enough.

        Raises:
            InputError: There is none, or several begin so.
        """
        names = sorted(path.stem for path in self.folder.glob("*.dvc"))
        fitting = [name for name in names if name.startswith(text)] if text else []
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise InputError(f"several data versions begin with {text!r}: {', '.join(fitting)}; write more of it")
        there = (
            f"there are {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}" if names else "there is none yet"
        )
        raise InputError(f"{self.root} has no data version {text!r}; {there}; see ai-vs-real data list, and git pull")

    def push(self, versions: Sequence[str] = ()) -> tuple[int, str]:
        """Send the bytes of versions, all of them if none is named, to the remote; what is there is not sent again.

        Returns:
            How many files were sent, and where to.

        Raises:
            InputError: There is no remote, it does not answer, refuses the credentials, or broke off.
        """
        chosen = [self.find(version) for version in versions] or [kept.version for kept in self.versions()]
        if not chosen:
            raise InputError(f"{self.root} has no data version to push; make one with ai-vs-real data snapshot DATASET")
        with self._dvc(remote=True) as repo:
            place = self._reach(repo)
            targets = [str(self._pointer(version)) for version in chosen]
            return repo.push(targets=targets, remote=self.remote or None), place

    def pull(self, version: str, output: str | Path | None = None) -> Path:
        """Bring a version's bytes here and check that they are those that were snapshot.

        Args:
            version: Its name, or the begin of it.
            output: A directory that is not there yet; `data/VERSION` in the repository if not given.

        Returns:
            The directory of the dataset.

        Raises:
            InputError: There is no such version, or its bytes can be had neither here nor from the remote.
        """
        version = self.find(version)
        if output is not None and Path(output).exists():
            raise InputError(f"{output} is there already; name a directory that is not")
        pointer, place = str(self._pointer(version)), self.folder / version
        if not self._cached(version):
            with self._dvc(remote=True) as repo:
                self._reach(repo)
                repo.fetch(targets=[pointer], remote=self.remote or None)
        with self._dvc() as repo:
            repo.checkout(targets=[pointer], force=False)
            if repo.status(targets=[pointer]):
                raise InputError(f"{place} was changed since it was checked out; move it elsewhere and pull again")
        if Dataset(place).version != version:
            raise InputError(
                f"{place} is not what was snapshot as {version}; the cache of DVC is damaged: pull it anew"
            )
        if output is None:
            return place
        _copy(place, Path(output))
        return Path(output)

    @contextlib.contextmanager
    def manifest(self, version: str) -> Iterator[Any]:
        """Open a version's manifest for reading, alone: from here where it is, else from the remote."""
        import dvc.api

        path = f"{FOLDER}/{version}/manifest.parquet"
        if (self.root / path).is_file():
            with open(self.root / path, "rb") as file:
                yield file
            return
        if not self._cached(version):
            with self._dvc(remote=True) as repo:
                self._reach(repo)
        options = {"remote": self.remote or None, "config": self._settings(remote=True)}
        with self._reported(), dvc.api.open(path, repo=str(self.root), mode="rb", **options) as file:
            yield file

    def _pointer(self, version: str) -> Path:
        return self.folder / f"{version}.dvc"

    def _card(self, version: str) -> Path:
        return self.folder / f"{version}.json"

    def _read(self, version: str) -> DataVersion:
        try:
            card = json.loads(self._card(version).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{self._card(version)} cannot be read; restore it with git checkout") from error
        return DataVersion(version, card, self._cached(version))

    def _cached(self, version: str) -> bool:
        if (self.folder / version / "dataset.json").is_file():
            return True
        with self._dvc() as repo:
            stage = next(iter(repo.stage.collect(str(self._pointer(version)))), None)
            if stage is None:
                return False
            (out,) = stage.outs
            if not out.cache.exists(out.hash_info.value):
                return False
            return all(out.cache.exists(entry.value) for _, _, entry in out.get_obj())

    def _initialise(self) -> None:
        if (self.root / ".dvc").is_dir():
            return
        from dvc.repo import Repo

        with self._reported(), _quiet():
            Repo.init(str(self.root)).close()
        self._commit("Keep data versions with DVC", [".dvc", ".dvcignore"])

    def _commit(self, message: str, paths: list[str]) -> None:
        # These paths and no others: what the user has staged is the user's.
        _git(self.root, "add", "--force", "--", *paths)
        _git(self.root, "commit", "--quiet", "-m", message, "--", *paths)

    def _settings(self, remote: bool) -> dict[str, Any]:
        """Return what is laid over the repository's own configuration, in memory alone: secrets are never written."""
        settings: dict[str, Any] = {"core": {"analytics": False, "check_update": False}}
        if remote:
            own = self._own_remote()
            name, options = (REMOTE, dict(self._config)) if self._config else own
            if options.get("url", "").startswith("http"):
                user, password = os.environ.get(USER), os.environ.get(PASSWORD)
                if password and not self._config:
                    options |= {"auth": "basic", "user": user or options.get("user", ""), "password": password}
                wait = timeout_s()
                options |= {"connect_timeout": wait, "read_timeout": wait, "verify": True}
            if name:
                settings["remote"] = {name: options}
                settings["core"]["remote"] = name
        return settings

    def _own_remote(self) -> tuple[str, dict[str, Any]]:
        from dvc.config import Config

        with self._reported():
            config = Config(dvc_dir=str(self.root / ".dvc"), validate=False)
            name = self.remote or config["core"].get("remote", "")
            return name, dict(config["remote"].get(name, {}))

    @contextlib.contextmanager
    def _dvc(self, remote: bool = False) -> Iterator[Any]:
        from dvc.repo import Repo

        if not (self.root / ".dvc").is_dir():
            raise InputError(f"{self.root} has no data versions yet; make one with ai-vs-real data snapshot DATASET")
        with self._reported(), _quiet(), contextlib.chdir(self.root):
            repo = Repo(str(self.root), config=self._settings(remote))
            try:
                yield repo
            finally:
                repo.close()

    def _reach(self, repo: Any) -> str:
        """Ask the remote once, and return its address; DVC itself would wait long, and say little."""
        name = self.remote or repo.config["core"].get("remote", "")
        options = repo.config["remote"].get(name)
        if not options:
            known = ", ".join(repo.config["remote"]) or "none"
            which = f"no remote {name!r}" if name else "no remote chosen"
            raise InputError(
                f"{self.root} has {which} (DVC knows {known}); use --dagshub USER/REPO, or "
                "dvc remote add --default NAME URL"
            )
        url = options["url"]
        if url.startswith("http"):
            _ask(url, options.get("user"), options.get("password"))
        return redact(url)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # of DVC's many libraries, each of which has its own
            causes = [str(cause) for cause in _chain(error) if str(cause)]
            said = redact(": ".join(dict.fromkeys(causes)) or type(error).__name__).replace("\n", " ")
            raise InputError(
                f"DVC in {self.root} failed: {said}; what was sent or fetched so far is kept: repeat the command "
                "once the cause is gone"
            ) from safe_cause(error)

    @staticmethod
    def _import_dvc() -> None:
        try:
            import dvc.repo  # noqa: F401
        except ImportError as error:
            raise InputError("data versions need DVC; install it with: pip install 'ai-vs-real[data]'") from error


def dagshub_remote(name: str) -> dict[str, Any]:
    """Return DVC's options of DagsHub's remote for USER/REPO, with the token from the environment.

    Raises:
        InputError: The name is not USER/REPO, or there is no token.
    """
    user, token = dagshub_credentials(name)
    return {"url": f"{dagshub_address(name)}.dvc", "auth": "basic", "user": user, "password": token, "method": "PUT"}


def dagshub_tracking(name: str) -> dict[str, str]:
    """Return the environment variables that point MLflow at DagsHub's server for USER/REPO.

    Raises:
        InputError: The name is not USER/REPO, or there is no token.
    """
    user, token = dagshub_credentials(name)
    return {
        "MLFLOW_TRACKING_URI": f"{dagshub_address(name)}.mlflow",
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": token,
    }


def dagshub_address(name: str) -> str:
    """Return the address of a repository of DagsHub."""
    return f"{os.environ.get(HOST, DAGSHUB).rstrip('/')}/{name}"


def dagshub_credentials(name: str) -> tuple[str, str]:
    """Return user and token for USER/REPO; the token is taken from DAGSHUB_USER_TOKEN.

    Raises:
        InputError: The name is not USER/REPO, or there is no token.
    """
    user, slash, repository = name.partition("/")
    if not user or not slash or not repository or "/" in repository:
        raise InputError(f"--dagshub {name!r} is no repository; write USER/REPO")
    token = os.environ.get(TOKEN, "")
    if not token:
        raise InputError(f"--dagshub needs a token in {TOKEN}; make one in DagsHub's settings and export it")
    return os.environ.get("DAGSHUB_USERNAME") or user, token


def _ask(url: str, user: str | None, password: str | None) -> None:
    import requests

    shown = redact(url)
    try:
        auth = (user, password) if user and password else None
        answer = requests.head(url, auth=auth, timeout=timeout_s(), allow_redirects=True)
    except requests.RequestException as error:
        timed_out = isinstance(error, requests.Timeout)
        cause = f"does not answer within {timeout_s():g} s" if timed_out else "cannot be reached"
        raise InputError(
            f"the data remote {shown} {cause}; check its address and the network, and repeat the command"
        ) from safe_cause(error)
    if answer.status_code in (401, 403):
        raise InputError(
            f"the data remote {shown} refuses the credentials (HTTP {answer.status_code}); set {TOKEN} for --dagshub, "
            f"else {USER} and {PASSWORD}"
        )
    if answer.status_code >= 500:
        raise InputError(
            f"the data remote {shown} answers with HTTP {answer.status_code}; repeat the command once it is well"
        )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # DVC draws bars and logs tracebacks on standard error by itself.
    import logging

    loggers = [logging.getLogger(name) for name in ("dvc", "dvc_data", "dvc_objects", "asyncio")]
    levels = [logger.level for logger in loggers]
    kept = os.environ.get("DVC_NO_ANALYTICS"), os.environ.get("TQDM_DISABLE")
    os.environ.update(DVC_NO_ANALYTICS="1", TQDM_DISABLE="1")
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # standard output is for the answer
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in zip(("DVC_NO_ANALYTICS", "TQDM_DISABLE"), kept, strict=True):
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _git(directory: Path, *arguments: str, otherwise: str | None = "") -> str:
    """Run git and return what it printed.

    Args:
        directory: Where.
        *arguments: Of git.
        otherwise: The error where git refuses; empty for git's own last line, None for no error.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=GIT_WAIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"data versions need git ({error}); install it, or free the repository's lock") from error
    if done.returncode and otherwise is not None:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        cause = redact(
            next((line for line in lines if line.startswith(("fatal", "error"))), (lines or ["no reason"])[-1])
        )
        raise InputError(otherwise or f"git {arguments[0]} in {directory} failed: {cause}; settle that, and repeat")
    return done.stdout.strip()


def _copy(source: Path, target: Path) -> None:
    # No hard links: DVC makes what it keeps read-only, and the dataset is the user's.
    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=shutil.copyfile)


def _write_media_list(dataset: Dataset, path: Path) -> None:
    columns = ["path", "label", "source", "group", "split"]
    rows = dict.fromkeys(zip(*(dataset.manifest.column(name).to_pylist() for name in columns), strict=True))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows((row[0], LABELS[row[1]], *row[2:]) for row in rows)
