"""The training pipeline: what the steps are."""

from typing import NamedTuple

from kfp import dsl

from components.evaluation.component import evaluate
from components.extraction.component import extract_frames, list_media
from components.preprocessing.component import preprocess
from components.registration.component import find_champion, register
from components.training.component import train

Outputs = NamedTuple(
    "Outputs",
    [
        ("decision", str),
        ("version", str),
        ("dataset", dsl.Dataset),
        ("data_report", dsl.HTML),
        ("model", dsl.Model),
        ("curves", dsl.HTML),
        ("evaluation", dsl.Metrics),
        ("report", dsl.HTML),
    ],
)


@dsl.pipeline(name="ai-vs-real-training", description="From a labelled collection of media to a judged detector.")
def training(
    media: str,
    shards: int = 2,  # two run at a time on a laptop; on a cluster, as many pods as it can spare
    sampling: str = "even:8",
    view: str = "resize256",
    delivery: str = "as-is",
    balance: str = "weights",  # keeps every picture, where undersampling would throw some away
    hold_out: str = "",
    audit: str = "warn",
    backbone: str = "efficientnetb0",
    weights: str = "imagenet",
    epochs: int = 10,
    fine_tune_epochs: int = 10,
    batch_size: int = 32,
    margin: float = 0.0,
    seed: int = 0,
    model_name: str = "ai-vs-real",
) -> Outputs:
    """Turn labelled media into a detector that is promoted only if it beats the champion.

    1. List the media and cut the list into shards.
    2. Extract, shard by shard, the views of every picture and of the sampled frames of every video.
    3. Preprocess: join, drop duplicates, balance, split without leaks, audit for shortcuts.
    4. Train the detector.
    5. Find the champion, the model that is in production.
    6. Evaluate both on the same test rows.
    7. Register the detector and decide whether it becomes the champion.
    """
    listing = list_media(media=media, shards=shards).set_caching_options(False)
    with dsl.ParallelFor(listing.output) as shard:
        extracting = extract_frames(media=media, shard=shard, sampling=sampling, view=view, delivery=delivery)
    preprocessing = preprocess(
        frames=dsl.Collected(extracting.outputs["frames"]), balance=balance, hold_out=hold_out, audit=audit, seed=seed
    )
    dataset = preprocessing.outputs["dataset"]
    training_step = train(
        dataset=dataset,
        backbone=backbone,
        weights=weights,
        epochs=epochs,
        fine_tune_epochs=fine_tune_epochs,
        batch_size=batch_size,
        seed=seed,
    )
    model = training_step.outputs["model"]
    champion = find_champion(model=model, model_name=model_name).set_caching_options(False)
    judging = evaluate(dataset=dataset, model=model, champion=champion.output, model_name=model_name)
    deciding = register(
        model=model, evaluation=judging.outputs["evaluation"], model_name=model_name, margin=margin
    ).set_caching_options(False)
    return Outputs(
        deciding.outputs["decision"],
        deciding.outputs["version"],
        dataset,
        preprocessing.outputs["report"],
        model,
        training_step.outputs["curves"],
        judging.outputs["evaluation"],
        judging.outputs["report"],
    )
