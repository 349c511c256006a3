"""The Kubeflow faces, run in a small pipeline."""

from pathlib import Path
from typing import NamedTuple

from kfp import dsl, local

from components import registry
from components.registration.component import find_champion, register
from components.registration.register import register as enter


@dsl.component(install_kfp_package=False)
def bring(source: str, evaluated: str, model: dsl.Output[dsl.Model], evaluation: dsl.Output[dsl.Metrics]):
    """Put a detector and its evaluation where a pipeline has them."""
    import shutil

    shutil.copytree(source, model.path)
    shutil.copy(evaluated, evaluation.path)


class Outputs(NamedTuple):
    champion: str
    decision: str
    version: str
    reasons: list[str]
    page: dsl.HTML


@dsl.pipeline
def registration(source: str, evaluated: str) -> Outputs:
    """Find the champion, then register."""
    brought = bring(source=source, evaluated=evaluated).outputs
    champion = find_champion(model=brought["model"], model_name="detector")
    deciding = register(
        model=brought["model"], evaluation=brought["evaluation"], model_name="detector", gate="roc_auc+0.01"
    ).after(champion)
    return Outputs(
        champion=champion.output,
        decision=deciding.outputs["decision"],
        version=deciding.outputs["version"],
        reasons=deciding.outputs["reasons"],
        page=deciding.outputs["decision_page"],
    )


def test_the_faces_find_the_champion_decide_and_write_the_page(registry_home, make, tmp_path):
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"), raise_on_error=True)
    enter(*make("first", 1.2), model_name="detector", gate="roc_auc+0.01")
    model, evaluation = make("second", 2.5, ("first", 1.2, "1"))
    outputs = registration(source=str(model), evaluated=str(evaluation)).outputs
    assert (outputs["champion"], outputs["decision"], outputs["version"]) == ("1", "promoted", "2")
    assert "of the champion, version 1: +0." in outputs["reasons"][0]
    assert "Promoted: version 2 of detector" in Path(outputs["page"].path).read_text()
    assert registry.find("detector").version == "2"
