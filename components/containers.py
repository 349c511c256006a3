"""The container images of the steps, named once.

Tags are immutable: the package version, so a new version is a new image and the pipeline's cache starts afresh.
"""

from importlib import metadata

VERSION = metadata.version("ai-vs-real")  # of pyproject.toml, as it was installed


def reference(name: str) -> str:
    """Return the reference of the image that `images/NAME` builds, without a registry: a cluster puts its own before.

    Args:
        name: A directory of `images/`, such as `training`.
    """
    return f"ai-vs-real-{name}-python:{VERSION}"


MEDIA = reference("media")
TRAINING = reference("training")
REGISTRATION = reference("registration")
IMAGES = (MEDIA, TRAINING, REGISTRATION)
SERVING = reference("serving")
