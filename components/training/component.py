"""Kubeflow face of training."""

from kfp import dsl

from components import containers


@dsl.component(base_image=containers.TRAINING, install_kfp_package=False)
def train(
    dataset: dsl.Input[dsl.Dataset],
    data_page: dsl.Input[dsl.HTML],
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
    training_degradations: float,
    consistency: float,
    last_component: str,
    activation_cache: bool,
    precision: str,
):
    """Train a detector.

    Args:
        dataset: What preprocessing made.
        data_page: The page that preprocessing wrote of it, to be kept with the run.
        backbone: Architecture of the network.
        weights: Weights that training starts from: imagenet, none (from scratch), or a weights file of the backbone.
        recipe: What the head reads: deep, features of all depths; plain, the top alone, and --view is resize256.
        epochs: Number of epochs of phase 1, the backbone frozen; of the only phase where weights is none.
        fine_tune_epochs: Number of epochs of phase 2, the last layers unfrozen; -1 for the recipe's own: plain 10, or 0
            where epochs is 1; deep 0.
        unfreeze_layers: Number of last layers that phase 2 trains, rounded out to whole blocks.
        batch_size: Number of views in a training step.
        learning_rate: Learning rate of phase 1; phase 2 has the recipe's own.
        draws: Number of times each view is drawn for training: first as it is, then augmented and degraded.
        seed: Random seed of the split, the initial weights and augmentation.
        work: A directory that outlives the step's process, where a training that was killed goes on.
        model: The detector's directory.
        curves: The page with the learning curves.
        training_degradations: Share of training views that is degraded after the first draw; -1 for the recipe's own:
            plain 0, deep 1.
        consistency: How strongly a view and its degraded draws are pulled to one logit; needs the deep recipe.
        last_component: Weights of an autoencoder (.npz) which makes fakes of real training pictures, for the deep
            recipe; or none.
        activation_cache: Whether the output of the frozen layers is computed once and kept, instead of in every epoch.
        precision: Number format of the backbone in training.
    """
    from components.training import train

    card = train.train(
        dataset.path, model.path, report=curves.path, data_page=data_page.path, work=work, backbone=backbone,
        weights=weights, recipe=recipe, epochs=epochs, fine_tune_epochs=fine_tune_epochs,
        unfreeze_layers=unfreeze_layers, batch_size=batch_size, learning_rate=learning_rate, draws=draws,
        training_degradations=training_degradations, consistency=consistency,
        last_component=last_component, activation_cache=activation_cache, precision=precision, seed=seed,
    )  # fmt: skip
    model.metadata.update(digest=card["digest"], framework=card["versions"]["backend"])
