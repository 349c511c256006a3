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
    repair_split: bool = False,
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
        repair_split: Drop what leaks from a given split instead of refusing it.
    """
    from components.preprocessing import preprocess as stage

    shards = [artifact.path for artifact in frames]
    policies = {"balance": balance, "hold_out": hold_out, "audit": audit, "repair_split": repair_split}
    card = stage.preprocess(shards, dataset.path, **policies, seed=seed, report=report.path)
    dataset.metadata["digest"] = card["digest"]
