"""The Kubeflow face of registration."""

from typing import NamedTuple

from kfp import dsl

from components import containers


@dsl.component(base_image=containers.REGISTRATION, install_kfp_package=False)
def find_champion(model: dsl.Input[dsl.Model], model_name: str) -> str:
    """Find the champion that the model has to beat.

    Args:
        model: The detector.
        model_name: Name of the registered model.

    Returns:
        The champion's version; empty where there is none, or where the model is the champion.
    """
    from components.registration.register import find_champion

    return find_champion(model.path, model_name)


@dsl.component(base_image=containers.REGISTRATION, install_kfp_package=False)
def register(
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Metrics],
    model_name: str,
    gate: str,
    decision_page: dsl.Output[dsl.HTML],
) -> NamedTuple("Outcome", [("decision", str), ("version", str), ("reasons", list[str])]):
    """Register the model and promote it if it passes the gate.

    Args:
        model: The detector.
        evaluation: The model's evaluation, beside the champion's.
        model_name: Name of the registered model.
        gate: What promotes a detector: METRIC+MARGIN over the champion, then floors (METRIC>=X) and caps (METRIC<=X).
        decision_page: The decision with its reasons, a page for a person.

    Returns:
        `decision` (promoted or refused), `version` in the registry, and `reasons`, a sentence each.
    """
    from components.registration.register import register

    outcome = register(model.path, evaluation.path, model_name=model_name, gate=gate, decision_page=decision_page.path)
    return outcome["decision"], outcome["version"], outcome["reasons"]
