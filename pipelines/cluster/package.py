"""A compiled pipeline as it is sent to a server: both documents of its YAML, and its parameters by type."""

import contextlib
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.containers import VERSION
from components.errors import InputError

KINDS = {"NUMBER_INTEGER": int, "NUMBER_DOUBLE": float, "BOOLEAN": bool, "STRING": str, "LIST": list, "STRUCT": dict}


@dataclasses.dataclass(frozen=True)
class Package:
    """A compiled pipeline: both documents of its YAML.

    Attributes:
        path: The file, sent as it is.
        name: Of the pipeline.
        version: Package version and the digest of the file: equal versions mean equal bytes.
        parameters: Of the pipeline, by name: kfp's parameterType, and defaultValue or isOptional where it has one.
    """

    path: Path
    name: str
    version: str
    parameters: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "Package":
        """Read a compiled pipeline; refuses one without its platform document, where the GPU and the secrets stand."""
        import yaml

        try:
            content = path.read_bytes()
            documents = list(yaml.safe_load_all(content))
            specification, platforms = documents
            name = specification["pipelineInfo"]["name"]
        except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError):
            raise InputError(
                f"{path} is no compiled pipeline of two documents; make one with ai-vs-real compile"
            ) from None
        if "platforms" not in platforms:
            raise InputError(
                f"{path} has lost its platform document, and GPU and secrets with it; run ai-vs-real compile"
            )
        parameters = specification["root"].get("inputDefinitions", {}).get("parameters", {})
        first, _, rest = content.partition(b"\n")
        digest = hashlib.sha256(rest if first.startswith(b"# ai-vs-real ") else content).hexdigest()
        return cls(path, name, f"{VERSION}-{digest[:12]}", parameters)

    def typed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return given arguments in the pipeline's types; text is read as the type's JSON.

        Raises:
            InputError: An unknown name, a value of another type, or one missing that has no default.
        """
        if unknown := sorted(set(given) - set(self.parameters)):
            raise InputError(f"{self.name} has no parameter {unknown[0]!r}; it has {', '.join(self.parameters)}")
        for name, definition in self.parameters.items():
            if name not in given and "defaultValue" not in definition and not definition.get("isOptional"):
                raise InputError(f"{self.name} needs a value for {name!r}; give --set {name}=VALUE")
        return {name: _typed(name, value, self.parameters[name]["parameterType"]) for name, value in given.items()}


def _typed(name: str, value: Any, parameter_type: str) -> Any:
    kind = KINDS[parameter_type]
    if isinstance(value, str) and kind is not str:
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"parameter {name} is {value!r}; it takes {kind.__name__} as JSON writes it")
    return value


@contextlib.contextmanager
def package_for(pipeline: Path | None = None, cluster: Path | None = None) -> Iterator[Package]:
    """Give the compiled pipeline to send, for as long as the context lasts.

    Args:
        pipeline: A compiled file, or the name of one that comes with the package: training or scoring; None for the
            training pipeline.
        cluster: A cluster file to compile for; None for the YAML that comes with the package, unless the environment
            names another registry or tag of the images.

    Raises:
        InputError: Both are given, or a file cannot be read.
    """
    from pipelines.steps.compiling import COMPILED, TRAINING, compile_pipelines
    from pipelines.steps.resources import Cluster, cluster_for

    named = COMPILED / f"{pipeline}.yaml"
    if pipeline is not None and not named.is_file():
        if cluster is not None:
            raise InputError("--pipeline names a compiled file, --cluster compiles anew; leave one of them out")
        yield Package.read(pipeline)
        return
    here = cluster_for(cluster)
    compiled = TRAINING if pipeline is None else named
    if here == Cluster():
        yield Package.read(compiled)
        return
    with tempfile.TemporaryDirectory() as directory:
        compile_pipelines(Path(directory), here)
        yield Package.read(Path(directory) / compiled.name)
