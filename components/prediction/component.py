"""The Kubeflow face of prediction."""

from typing import List  # noqa: UP035 (kfp reads this annotation)

from kfp import dsl

from components import containers


@dsl.component(base_image=containers.SERVING, install_kfp_package=False)
def list_shards(media: str, model_name: str, version: str, shards: int) -> list[str]:
    """Pin the detector for the whole run, and cut the media into shards.

    Args:
        media: A directory, or gs://BUCKET/PREFIX.
        model_name: Name of the registered model.
        version: Its version in the registry; empty for the champion of now.
        shards: In how many parts the media are cut; on a cluster, each is a pod.

    Returns:
        The shards, each as text for `score_shard`.
    """
    from components.prediction.scoring import list_shards

    return list_shards(media, model_name, version, shards)


@dsl.component(base_image=containers.SERVING, install_kfp_package=False)
def score_shard(media: str, shard: str, model_name: str, verdicts: dsl.Output[dsl.Artifact]):
    """Give the verdict on every file of a shard; what was scored before is taken from the records.

    Args:
        media: A directory, or gs://BUCKET/PREFIX.
        shard: Which part of it, and the pinned version.
        model_name: Name of the registered model.
        verdicts: A line of JSON for each file.
    """
    from components.prediction.scoring import score_shard

    verdicts.metadata.update(score_shard(media, shard, model_name, verdicts.path))


@dsl.component(base_image=containers.SERVING, install_kfp_package=False)
def summarize(
    verdicts: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    output: str,
    table: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
):
    """Join the shards' verdicts into one table and a page.

    Args:
        verdicts: Of the shards, in any order.
        output: A directory, or gs://BUCKET/PREFIX, that gets table and page as well; empty for none.
        table: Every verdict, Parquet.
        report: The page that a person reads.
    """
    from components.prediction.scoring import summarize

    table.metadata.update(summarize([shard.path for shard in verdicts], table.path, report.path, output))
