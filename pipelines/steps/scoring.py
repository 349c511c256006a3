"""The scoring pipeline: the champion's verdict on every file of a directory or bucket."""

from kfp import dsl

from components.prediction.component import check_media
from components.settings import DEFAULTS
from pipelines.steps.resources import pipeline, place


@pipeline("ai-vs-real-scoring", "The champion's verdict on every picture and video.")
def scoring(
    media: str,
    model_name: str = DEFAULTS["model_name"],
    version: str = "",  # the champion when the run starts
) -> dsl.Artifact:
    """Score media with a registered detector.

    1. Give the verdict on every picture and video, a line of JSON for each.
    """
    return place(check_media(media=media, model_name=model_name, version=version), "score").outputs["verdicts"]
