"""Keeps standard error for what a person should read."""

import os


def import_keras() -> None:
    """Import Keras without TensorFlow's greeting, which is written past Python and which no setting turns off."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import keras  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
