"""Kubeflow face of training."""

from kfp import dsl

from components import containers


@dsl.component(base_image=containers.TRAINING, install_kfp_package=False)
def train(
    dataset: dsl.Input[dsl.Dataset],
    backbone: str,
    weights: str,
    recipe: str,
    epochs: int,
    fine_tune_epochs: int,
    unfreeze_layers: int,
    batch_size: int,
    learning_rate: float,
    draws: int,
    seed: int,
    work: str,
    model: dsl.Output[dsl.Model],
    curves: dsl.Output[dsl.HTML],
    training_degradations: float = -1.0,
    consistency: float = 0.0,
    activation_cache: bool = True,
    precision: str = "auto",
):
    """Train a detector.

    Args:
        dataset: What preprocessing made.
        backbone: An architecture of keras.applications, such as efficientnetb0.
        weights: imagenet, none, or a weights file.
        recipe: What the head reads and how it learns: plain or deep.
        epochs: Of phase 1, the backbone frozen.
        fine_tune_epochs: Of phase 2, the last layers unfrozen; below 0 for the recipe's own.
        unfreeze_layers: How many layers learn in phase 2, rounded out to whole blocks.
        batch_size: Views in a step.
        learning_rate: Of phase 1.
        draws: How often each view is drawn for the kept activations: once as it is, then augmented and degraded.
        seed: Of everything that is drawn.
        work: A directory that outlives the step's process, where a training that was killed goes on.
        model: The detector's directory.
        curves: The page with the learning curves.
        training_degradations: Share of views that is degraded after the first draw; below 0 for the recipe's own.
        consistency: How strongly a view as it is and degraded are pulled to one logit.
        activation_cache: Compute what is frozen once and not in every epoch.
        precision: Of the backbone in training: auto, float32, mixed_float16 or mixed_bfloat16.
    """
    from components.training import train

    card = train.train(
        dataset.path, model.path, report=curves.path, work=work, backbone=backbone, weights=weights, recipe=recipe,
        epochs=epochs, fine_tune_epochs=fine_tune_epochs, unfreeze_layers=unfreeze_layers, batch_size=batch_size,
        learning_rate=learning_rate, draws=draws, training_degradations=training_degradations,
        consistency=consistency, activation_cache=activation_cache, precision=precision, seed=seed,
    )  # fmt: skip
    model.metadata.update(digest=card["digest"], framework=card["versions"]["backend"])
