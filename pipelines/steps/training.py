"""The training pipeline: what the steps are."""

from typing import NamedTuple

from kfp import dsl

from components.evaluation.component import evaluate
from components.extraction.component import extract_frames, list_media
from components.preprocessing.component import preprocess
from components.registration.component import find_champion, register
from components.training.component import train
from pipelines.steps.resources import pipeline, place, workspace


class Outputs(NamedTuple):
    """What a run leaves."""

    decision: str
    version: str
    reasons: list[str]
    dataset: dsl.Dataset
    data_report: dsl.HTML
    model: dsl.Model
    curves: dsl.HTML
    evaluation: dsl.Metrics
    report: dsl.HTML
    decision_page: dsl.HTML


@pipeline("ai-vs-real-training", "From a labelled collection of media to a judged detector.", resumes=True)
def training(
    media: str,
    shards: int = 2,  # two run at a time on a laptop; on a cluster, as many pods as it can spare
    sampling: str = "even:8",
    view: str = "crops256x9",  # traces of generators are lost when a picture is made smaller
    delivery: str = "as-is",
    balance: str = "weights",  # keeps every picture, where undersampling would throw some away
    hold_out: str = "",
    repair_split: bool = False,
    audit: str = "warn",
    backbone: str = "efficientnetb0",
    weights: str = "imagenet",
    recipe: str = "deep",
    epochs: int = 10,
    fine_tune_epochs: int = -1,  # the recipe's own
    unfreeze_layers: int = 20,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    draws: int = 2,
    training_degradations: float = -1.0,  # the recipe's own
    consistency: float = 0.0,
    activation_cache: bool = True,
    precision: str = "auto",
    test_degradations: str = "all",
    cross_source: bool = False,  # minutes more
    gate: str = "roc_auc+0.002,roc_auc>=0.7,balanced_accuracy>=0.6,false_positive_rate<=0.5,ece<=0.25",
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
    listing = place(list_media(media=media, shards=shards), "list_media")
    with dsl.ParallelFor(listing.output) as shard:
        extracting = extract_frames(media=media, shard=shard, sampling=sampling, view=view, delivery=delivery)
        place(extracting, "extract_frames")
    preprocessing = preprocess(
        frames=dsl.Collected(extracting.outputs["frames"]),
        balance=balance,
        hold_out=hold_out,
        repair_split=repair_split,
        audit=audit,
        seed=seed,
    )
    dataset = place(preprocessing, "preprocess").outputs["dataset"]
    fitting = train(
        dataset=dataset,
        backbone=backbone,
        weights=weights,
        recipe=recipe,
        epochs=epochs,
        fine_tune_epochs=fine_tune_epochs,
        unfreeze_layers=unfreeze_layers,
        batch_size=batch_size,
        learning_rate=learning_rate,
        draws=draws,
        training_degradations=training_degradations,
        consistency=consistency,
        activation_cache=activation_cache,
        precision=precision,
        seed=seed,
        work=workspace(),
    )
    model = place(fitting, "train").outputs["model"]
    champion = place(find_champion(model=model, model_name=model_name), "find_champion").output
    judging = evaluate(
        dataset=dataset,
        model=model,
        champion=champion,
        model_name=model_name,
        test_degradations=test_degradations,
        cross_source=cross_source,
    )
    place(judging, "evaluate")
    evaluation = judging.outputs["evaluation"]
    deciding = place(register(model=model, evaluation=evaluation, model_name=model_name, gate=gate), "register")
    return Outputs(
        decision=deciding.outputs["decision"],
        version=deciding.outputs["version"],
        reasons=deciding.outputs["reasons"],
        dataset=dataset,
        data_report=preprocessing.outputs["report"],
        model=model,
        curves=fitting.outputs["curves"],
        evaluation=evaluation,
        report=judging.outputs["report"],
        decision_page=deciding.outputs["decision_page"],
    )
