"""The scoring pipeline: what the steps are."""

from typing import NamedTuple

from kfp import dsl

from components.prediction.component import list_shards, score_shard, summarize
from components.settings import DEFAULTS
from pipelines.steps.resources import pipeline, place


class Outputs(NamedTuple):
    """What a run leaves."""

    table: dsl.Dataset
    report: dsl.HTML


@pipeline("ai-vs-real-scoring", "The champion's verdict on every picture and video of a directory or bucket.")
def scoring(
    media: str,
    model_name: str = DEFAULTS["model_name"],
    version: str = "",  # the champion when the run starts
    shards: int = 8,  # a pod each on a cluster; two at a time here
    output: str = "",  # the pipeline's own artifacts alone
) -> Outputs:
    """Score media with one registered detector.

    1. Pin the detector for the whole run, list the media and cut them into shards.
    2. Give the verdict on each shard's files; files that this detector has scored before are not scored again.
    3. Join the verdicts into a table and a page.

    Args:
        media: A directory, or gs://BUCKET/PREFIX, as every step sees it.
        model_name: Name of the registered model.
        version: Its version in the registry; empty for the champion when the run starts.
        shards: In how many parts the media are cut.
        output: A directory, or gs://BUCKET/PREFIX, that gets verdicts.parquet and verdicts.html; empty for none.
    """
    listing = list_shards(media=media, model_name=model_name, version=version, shards=shards)
    place(listing, "list_shards")
    with dsl.ParallelFor(listing.output) as shard:
        scored = score_shard(media=media, shard=shard, model_name=model_name)
        place(scored, "score_shard")
    joined = summarize(verdicts=dsl.Collected(scored.outputs["verdicts"]), output=output)
    place(joined, "summarize")
    return Outputs(table=joined.outputs["table"], report=joined.outputs["report"])
