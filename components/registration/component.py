"""The Kubeflow face of registration."""

from typing import NamedTuple

from kfp import dsl

from components import containers


@dsl.component(base_image=containers.REGISTRATION, install_kfp_package=False)
def find_champion(model: dsl.Input[dsl.Model], model_name: str) -> str:
    """Return the version of the champion that the model has to beat; empty where there is none, or it is the model."""
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
    """Register the model and promote it if the gate lets it."""
    from components.registration.register import register

    outcome = register(model.path, evaluation.path, model_name=model_name, gate=gate, decision_page=decision_page.path)
    return outcome["decision"], outcome["version"], outcome["reasons"]
