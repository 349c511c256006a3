"""Kubeflow face of training."""

from kfp import dsl

from components import containers


@dsl.component(base_image=containers.TRAINING, install_kfp_package=False)
def train(
    dataset: dsl.Input[dsl.Dataset],
    backbone: str,
    weights: str,
    epochs: int,
    fine_tune_epochs: int,
    batch_size: int,
    seed: int,
    model: dsl.Output[dsl.Model],
    curves: dsl.Output[dsl.HTML],
):
    """Train a detector.

    Args:
        dataset: What preprocessing made.
        backbone: An architecture of keras.applications, such as efficientnetb0.
        weights: imagenet, none, or a weights file.
        epochs: Of phase 1, the backbone frozen.
        fine_tune_epochs: Of phase 2, the last layers unfrozen.
        batch_size: Views in a step.
        seed: Of everything that is drawn.
        model: The detector's directory.
        curves: The page with the learning curves.
    """
    from components.training import train

    card = train.train(
        dataset.path, model.path, report=curves.path, backbone=backbone, weights=weights, epochs=epochs,
        fine_tune_epochs=fine_tune_epochs, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    model.metadata.update(digest=card["digest"], framework=card["versions"]["backend"])
