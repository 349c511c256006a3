"""The prediction stage's Kubeflow face."""

from kfp import dsl

from components import containers


@dsl.component(base_image=containers.TRAINING, install_kfp_package=False)
def check_media(media: str, model_name: str, version: str, verdicts: dsl.Output[dsl.Artifact]):
    """Give the verdict on every picture and video of a directory.

    Args:
        media: The directory, or one file.
        model_name: Name of the registered model.
        version: Version or alias in the registry.
        verdicts: A line of JSON for each file.
    """
    from components.prediction.scoring import check_media

    check_media(media, model_name, version, verdicts.path)
