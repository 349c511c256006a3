"""The training pipeline: what the steps are."""

from collections.abc import Callable
from typing import NamedTuple

from kfp import dsl

from components.evaluation.component import evaluate
from components.extraction.component import extract_frames, list_media
from components.preprocessing.component import preprocess
from components.registration.component import find_champion, register
from components.settings import DEFAULTS, SETTINGS
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


def _with_settings(pipeline: Callable[..., Outputs]) -> Callable[..., Outputs]:
    # From the docstring kfp takes what the form of Kubeflow Pipelines says of each parameter.
    described = {"media": "A labelled directory, a list, or gs://BUCKET/PREFIX, as every step sees it."}
    described |= {setting.name: setting.help for setting in SETTINGS.values()}
    lines = "\n".join(f"        {name}: {text}" for name, text in described.items())
    pipeline.__doc__ = f"{(pipeline.__doc__ or '').rstrip()}\n\n    Args:\n{lines}\n"
    return pipeline


@pipeline("ai-vs-real-training", "From a labelled collection of media to a judged detector.", resumes=True)
@_with_settings
def training(
    media: str,
    shards: int = DEFAULTS["shards"],
    sampling: str = DEFAULTS["sampling"],
    view: str = DEFAULTS["view"],
    delivery: str = DEFAULTS["delivery"],
    tiers: str = DEFAULTS["tiers"],
    balance: str = DEFAULTS["balance"],
    hold_out: str = DEFAULTS["hold_out"],
    repair_split: bool = DEFAULTS["repair_split"],
    audit: str = DEFAULTS["audit"],
    backbone: str = DEFAULTS["backbone"],
    weights: str = DEFAULTS["weights"],
    recipe: str = DEFAULTS["recipe"],
    epochs: int = DEFAULTS["epochs"],
    fine_tune_epochs: int = DEFAULTS["fine_tune_epochs"],
    unfreeze_layers: int = DEFAULTS["unfreeze_layers"],
    batch_size: int = DEFAULTS["batch_size"],
    learning_rate: float = DEFAULTS["learning_rate"],
    draws: int = DEFAULTS["draws"],
    training_degradations: float = DEFAULTS["training_degradations"],
    consistency: float = DEFAULTS["consistency"],
    last_component: str = DEFAULTS["last_component"],
    activation_cache: bool = DEFAULTS["activation_cache"],
    precision: str = DEFAULTS["precision"],
    test_degradations: str = DEFAULTS["test_degradations"],
    cross_source: bool = DEFAULTS["cross_source"],
    families: str = DEFAULTS["families"],
    gate: str = DEFAULTS["gate"],
    seed: int = DEFAULTS["seed"],
    model_name: str = DEFAULTS["model_name"],
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
        extracting = extract_frames(
            media=media, shard=shard, sampling=sampling, view=view, delivery=delivery, tiers=tiers
        )
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
        data_page=preprocessing.outputs["report"],
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
        last_component=last_component,
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
        families=families,
        last_component=last_component,
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
