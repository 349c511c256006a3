"""The evaluation stage's Kubeflow face."""

from kfp import dsl

from components import containers


@dsl.component(base_image=containers.TRAINING, install_kfp_package=False)
def evaluate(
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    champion: str,
    model_name: str,
    evaluation: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    roc: dsl.Output[dsl.ClassificationMetrics],
    test_degradations: str,
    cross_source: bool,
    families: str,
    last_component: str,
):
    """Judge the model on the test split, beside the champion on the same rows.

    Args:
        dataset: The dataset whose test split it is judged on.
        model: The detector.
        champion: Registry version that it has to beat; empty where there is none.
        model_name: Name of the registered model.
        test_degradations: Degradations under which the detector is judged as well: all, none, or names such as
            jpeg:50,scale:0.5.
        cross_source: Whether each source is also left out of training in turn, to measure the detector on unknown
            sources.
        families: Sources that are left out together, as NAME=SOURCE+SOURCE with commas between; empty for none.
        last_component: Weights of an autoencoder (.npz) which makes fakes of real training pictures, for the deep
            recipe; or none.
        evaluation: Every number, as JSON; the headline as metrics.
        report: The page a person reads.
        roc: The ROC curve and the confusion, for Kubeflow's page.
    """
    from components.evaluation.evaluate import evaluate_against

    options = {"test_degradations": test_degradations, "leave_one_out": cross_source, "families": families}
    options |= {"last_component": last_component}
    result = evaluate_against(champion, model_name, dataset.path, model.path, evaluation.path, report.path, **options)
    for name, value in result.metrics.items():
        evaluation.log_metric(name, value)
    roc.log_roc_curve(*result.roc)
    roc.log_confusion_matrix(["real", "fake"], result.confusion)
    result.write_curve(roc.path)
