"""Runs the steps in the images instead of in this environment."""

import os
from pathlib import Path
from typing import Any

from components.errors import InputError

# What the steps take from the environment; kfp gives a container none of it.
PASSED = (
    "MONGODB_URI",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "GIT_COMMIT",
    "GIT_BRANCH",
)


def docker_runner(home: Path, *paths: Path, pipeline: Path) -> Any:
    """Return a kfp.local runner for containers that see the run home and some files, and can write the home alone.

    Args:
        home: The run home, mounted where it lies here.
        paths: Media, a weights file: mounted read-only where they lie here.
        pipeline: The compiled YAML, whose images must be here.

    Raises:
        InputError: No Docker engine answers, or an image is missing.
    """
    import docker
    from kfp import local

    try:
        client = docker.from_env()
        here = {tag for image in client.images.list() for tag in image.tags}
        client.close()
    except docker.errors.DockerException as error:
        raise InputError(
            f"no Docker engine answers ({str(error)[:120]}); start one, or leave out --in-containers"
        ) from None
    if missing := sorted(_images(pipeline) - here):
        raise InputError(f"the image {missing[0]} is not on this machine; build it with make images")
    outside = {path.resolve() for path in paths if not path.resolve().is_relative_to(home)}
    mounts = [docker.types.Mount(str(home), str(home), type="bind")]
    mounts += [docker.types.Mount(str(path), str(path), type="bind", read_only=True) for path in sorted(outside)]
    return local.DockerRunner(
        mounts=mounts,
        user=f"{os.getuid()}:{os.getgid()}",
        environment={"AI_VS_REAL_HOME": str(home)} | {name: os.environ[name] for name in PASSED if name in os.environ},
        read_only=True,
        tmpfs={"/tmp": "exec,mode=1777"},
        shm_size="1g",
    )


def _images(pipeline: Path) -> set[str]:
    import yaml

    specification = next(yaml.safe_load_all(pipeline.read_text()))
    return {executor["container"]["image"] for executor in specification["deploymentSpec"]["executors"].values()}
