"""The container image references, named once.

Tags are immutable: the package version, so a new version is a new image and the pipeline's cache starts afresh. A
private registry is put before the names with the environment variable AI_VS_REAL_REGISTRY at compile time, and another
tag, such as a commit, takes the version's place with AI_VS_REAL_TAG.
"""

import os

VERSION = "0.1.0"
REGISTRY = os.environ.get("AI_VS_REAL_REGISTRY", "")
TAG = os.environ.get("AI_VS_REAL_TAG", VERSION)


def reference(name: str, tag: str = TAG) -> str:
    """Return the full reference of the image that `images/NAME` builds."""
    prefix = f"{REGISTRY.rstrip('/')}/" if REGISTRY else ""
    return f"{prefix}ai-vs-real-{name}-python:{tag}"


MEDIA = reference("media")
TRAINING = reference("training")
REGISTRATION = reference("registration")
