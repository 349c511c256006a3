"""The Kubeflow face of preprocessing."""

from typing import List  # noqa: UP035 (kfp reads this annotation)

from kfp import dsl

from components import containers


@dsl.component(base_image=containers.MEDIA, install_kfp_package=False)
def preprocess(
    frames: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    dataset: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    balance: str = "weights",
    hold_out: str = "",
    audit: str = "warn",
    seed: int = 0,
):
    """Join the shards of frames, clean them, split them by group, balance the labels, and report.

    Args:
        frames: The shards' frames, in any order.
        dataset: Views and manifest by split, with the split certificate.
        report: The data report, a page for a person.
        balance: weights, undersample or none.
        hold_out: source=NAME[,NAME] keeps these sources for the test alone; empty keeps none.
        audit: warn or fail where a shortcut separates the labels.
        seed: Changes which groups go where.
    """
    from components.preprocessing import preprocess as stage

    shards = [artifact.path for artifact in frames]
    card = stage.preprocess(
        shards, dataset.path, balance=balance, hold_out=hold_out, audit=audit, seed=seed, report=report.path
    )
    dataset.metadata["digest"] = card["digest"]
