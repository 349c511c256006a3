"""The Airflow DAG: training once a week, on the worker or on Kubeflow Pipelines.

Put this file into Airflow's DAG folder. Airflow lives in an environment of its own and never imports this package: the
tasks call the console command `ai-vs-real`, by the path in the environment variable AI_VS_REAL where it is set.
"""

import json
import os
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.exceptions import AirflowException
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, Param, dag, task

COMMAND = os.environ.get("AI_VS_REAL", "ai-vs-real")
INTERVAL_S = float(os.environ.get("AI_VS_REAL_INTERVAL_S", "60"))
RETRY_S = float(os.environ.get("AI_VS_REAL_RETRY_S", "300"))
HOME = Path(os.environ.get("AI_VS_REAL_HOME", "runs")).absolute()
STAGES = ("extract", "preprocess", "train", "evaluate", "register")


def call(*arguments: str) -> str:
    """Run `ai-vs-real` and return its standard output; its progress goes to the task's log.

    Raises:
        AirflowException: There is no such command, or it failed; its own last line.
    """
    if shutil.which(COMMAND) is None:
        raise AirflowException(f"{COMMAND} is no command here; set AI_VS_REAL to the path of ai-vs-real")
    last = ""
    with subprocess.Popen([COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr or ():
            last = line.strip() or last
            print(last)
        printed = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise AirflowException(last or f"{COMMAND} {arguments[0]} ended with {process.returncode}")
    return printed


def stage(params: dict[str, Any], name: str, *arguments: Any) -> str:
    """Run one stage with the options that the form has for it, and return its standard output."""
    return call(name, *map(str, arguments), *map(str, params["stages"].get(name, [])))


def directory_of(run_id: str) -> Path:
    """Return where the stages of a run of the DAG leave what they make, the same for every try of a task."""
    return HOME / "airflow" / re.sub(r"[^\w.-]", "_", run_id)


class KubeflowRun(BaseOperator):
    """Sends the training pipeline to Kubeflow Pipelines and looks at it now and then; no worker is held meanwhile."""

    template_fields = ("host", "arguments")

    def __init__(self, *, host: str, arguments: list[str] | str, **rest: Any):  # text until it is rendered
        super().__init__(**rest)
        self.host, self.arguments = host, arguments

    def execute(self, context: Any) -> None:
        """Send it."""
        run = json.loads(call("submit", "--json", "--host", self.host, *map(str, self.arguments)))
        print(run["link"])
        context["ti"].xcom_push(key="run_id", value=run["run_id"])
        self.look_later()

    def look_later(self) -> None:
        """Give the worker back for a while."""
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=INTERVAL_S)), method_name="look")

    def look(self, context: Any, event: Any = None) -> str:
        """End as the run ended, or look again later.

        Raises:
            AirflowException: The run did not succeed; its state and error.
        """
        run_id = context["ti"].xcom_pull(task_ids=self.task_id, key="run_id")
        run = json.loads(call("submit", "--json", "--host", self.host, "--run", run_id))
        print(run["steps"])
        if not run["final"]:
            self.look_later()
        if run["state"] != "SUCCEEDED":
            ended = [f"{step} {state.lower()}" for step, state in run["steps"].items() if state != "SUCCEEDED"]
            cause = run["error"] or ", ".join(ended) or "Kubeflow names no cause"
            raise AirflowException(f"the run ended {run['state'].lower()}: {cause}")
        return run["state"]


@dag(
    dag_id="ai_vs_real_training",
    schedule="@weekly",
    catchup=False,
    max_active_runs=1,
    render_template_as_native_obj=True,
    params={
        "media": Param(
            "", type="string", description="labelled directory, list or gs:// prefix; empty: the sample set"
        ),
        "where": Param("worker", enum=["worker", "kubeflow"], description="run on this worker, or on a cluster"),
        "host": Param("", type="string", description="of Kubeflow Pipelines"),
        "options": Param([], type="array", description="of ai-vs-real submit, such as --epochs and 5"),
        "stages": Param(
            {}, type="object", description='on the worker, options by stage: {"train": ["--epochs", 5], "extract": []}'
        ),
    },
)
def ai_vs_real_training() -> None:
    """Preprocess, train, judge and register, a task each; or all of it on Kubeflow. A task that fails fails the DAG."""

    @task.branch
    def choose(params: Any = None) -> str:
        """Follow the form."""
        unknown = sorted(set(params["stages"]) - set(STAGES))
        if unknown:
            raise AirflowException(f"stages has {', '.join(unknown)}; the stages are {', '.join(STAGES)}")
        return {"worker": "preprocess", "kubeflow": "run_on_kubeflow"}[params["where"]]

    # Each a task of its own with its outputs in the run's own directory: a training that failed is tried again, by
    # itself or by hand, on the dataset that is there, and goes on from its last checkpoint.
    retried: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=RETRY_S)}

    @task(**retried)
    def preprocess(params: Any = None, run_id: Any = None) -> str:
        """Extract the views of the media, clean and split them; return the directory of the dataset."""
        place = directory_of(run_id)
        media = params["media"]
        if not media:
            media = str(HOME / "sample")
            call("sample", media)
        stage(params, "extract", media, "--output", place / "frames")
        stage(params, "preprocess", place / "frames", "--output", place / "dataset")
        return str(place / "dataset")

    @task(**retried)
    def train(dataset: str, params: Any = None, run_id: Any = None) -> str:
        """Train a detector on the dataset; return its directory."""
        model = directory_of(run_id) / "model"
        stage(params, "train", dataset, "--output", model)
        return str(model)

    @task(**retried)
    def evaluate(model: str, dataset: str, params: Any = None, run_id: Any = None) -> str:
        """Judge the detector beside the champion; return the evaluation."""
        place = directory_of(run_id) / "evaluation"
        stage(params, "evaluate", model, dataset, "--output", place)
        return str(place / "evaluation.json")

    @task(**retried)
    def register(model: str, evaluation: str, params: Any = None) -> None:
        """Register the detector, and promote it if it passes the gate."""
        print(stage(params, "register", model, evaluation))

    submitted = KubeflowRun(
        task_id="run_on_kubeflow",
        host="{{ params.host }}",
        arguments="{{ [params.media] + params.options }}",
    )
    dataset = preprocess()
    model = train(dataset)
    register(model, evaluate(model, dataset))
    choose() >> [dataset, submitted]


ai_vs_real_training()
