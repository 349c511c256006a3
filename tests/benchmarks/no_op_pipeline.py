"""A pipeline of steps that do nothing, to measure what a step costs."""

from kfp import dsl

STEPS = 6


@dsl.component(base_image="no-op-python:1", install_kfp_package=False)
def no_op(text: str) -> str:
    """Return the text."""
    return text


@dsl.pipeline(name="no-ops")
def no_ops(text: str):
    """Pass a text through all the steps, one after another."""
    for _ in range(STEPS):
        text = no_op(text=text).output
