"""The Kubeflow face of preprocessing."""

from typing import List  # noqa: UP035 (kfp reads this annotation)

from kfp import dsl

from components import containers


@dsl.component(base_image=containers.MEDIA, install_kfp_package=False)
def preprocess(
    frames: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    dataset: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    balance: str,
    hold_out: str,
    audit: str,
    seed: int,
    repair_split: bool,
):
    """Join the shards of frames, clean them, split them by group, balance the labels, and report.

    Args:
        frames: The shards' frames, in any order.
        dataset: Views and manifest by split, with the split certificate.
        report: The data report, a page for a person.
        balance: How the labels are balanced in training: weights, undersample or none.
        hold_out: Sources that are kept for the test split alone: source=NAME[,NAME]; empty for none.
        audit: What happens where a shortcut separates the labels: warn or fail, or with a ROC AUC of one's own,
            fail:0.9.
        seed: Random seed of the split, the initial weights and augmentation.
        repair_split: Whether files that leak across a given split are dropped, instead of refusing the split.
    """
    from components.preprocessing import preprocess as stage

    shards = [artifact.path for artifact in frames]
    card = stage.preprocess(
        shards, dataset.path, balance=balance, hold_out=hold_out, audit=audit, repair_split=repair_split,
        seed=seed, report=report.path,
    )  # fmt: skip
    dataset.metadata["digest"] = card["digest"]
