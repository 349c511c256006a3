"""The Airflow DAG: training once a week, on the worker or on Kubeflow Pipelines.

Put this file into Airflow's DAG folder. Airflow lives in an environment of its own and never imports this package: the
tasks call the console command `ai-vs-real`, by the path in the environment variable AI_VS_REAL where it is set.
"""

import json
import os
import shutil
import subprocess
from datetime import timedelta
from typing import Any

from airflow.exceptions import AirflowException
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, Param, dag, task

COMMAND = os.environ.get("AI_VS_REAL", "ai-vs-real")
INTERVAL_S = float(os.environ.get("AI_VS_REAL_INTERVAL_S", "60"))


def call(*arguments: str) -> str:
    """Run `ai-vs-real` and return its standard output; its progress goes to the task's log.

    Raises:
        AirflowException: There is no such command, or it failed; its own last line.
    """
    if shutil.which(COMMAND) is None:
        raise AirflowException(f"{COMMAND} is no command here; set AI_VS_REAL to the path of ai-vs-real")
    last = ""
    with subprocess.Popen([COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            last = line.strip() or last
            print(last)
        printed = process.stdout.read()
    if process.returncode:
        raise AirflowException(last or f"{COMMAND} {arguments[0]} ended with {process.returncode}")
    return printed


class KubeflowRun(BaseOperator):
    """Sends the training pipeline to Kubeflow Pipelines and looks at it now and then; no worker is held meanwhile."""

    template_fields = ("host", "arguments")

    def __init__(self, *, host: str, arguments: list[str], **rest: Any):
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
            raise AirflowException(f"the run ended {run['state'].lower()}: {run['error']}")
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
        "options": Param([], type="array", description="of ai-vs-real run, such as --epochs and 5"),
    },
)
def ai_vs_real_training() -> None:
    """Preprocess, train, judge and register; a run that fails fails the DAG."""

    @task.branch
    def choose(params: dict[str, Any] | None = None) -> str:
        """Follow the form."""
        return {"worker": "run_here", "kubeflow": "run_on_kubeflow"}[params["where"]]

    @task
    def run_here(params: dict[str, Any] | None = None) -> None:
        """Run the whole pipeline on this worker."""
        call("run", *filter(None, [params["media"]]), *map(str, params["options"]))

    submitted = KubeflowRun(
        task_id="run_on_kubeflow",
        host="{{ params.host }}",
        arguments="{{ [params.media] + params.options }}",
    )
    choose() >> [run_here(), submitted]


ai_vs_real_training()
