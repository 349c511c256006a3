import json
import socket

import pytest
import yaml

from components.errors import InputError
from pipelines.cluster import kubeflow as client_side
from pipelines.cluster.following import follow
from pipelines.cluster.kubeflow import Server
from pipelines.cluster.package import Package
from pipelines.commands import submit
from pipelines.commands.main import Parser


@pytest.fixture
def command(monkeypatch, kubeflow):
    """Run `ai-vs-real submit` with some arguments against the server; returns its exit code."""
    for name in ("KF_PIPELINES_ENDPOINT", client_side.TOKEN, client_side.COOKIES):
        monkeypatch.delenv(name, raising=False)
    parser = Parser()
    submit.add_parser(parser.add_subparsers())

    def run(*arguments):
        options = parser.parse_args(["submit", "--host", kubeflow.url, "--interval", "0.01", *map(str, arguments)])
        return options.run(options)

    return run


def test_a_run_is_sent_with_both_documents_and_typed_parameters(kubeflow, compiled, command, capsys):
    values = ("epochs=3", "rate=1", "warm=true", 'names=["a"]', 'labels={"k": "v"}')
    code = command(
        "gs://bucket/media", "--pipeline", compiled, *[word for value in values for word in ("--set", value)]
    )
    assert code == 0
    [run] = kubeflow.runs.values()
    assert capsys.readouterr().out.splitlines()[0] == f"{kubeflow.url}/#/runs/details/{run.run_id}"
    expected = {
        "media": "gs://bucket/media",
        "epochs": 3,
        "rate": 1.0,
        "warm": True,
        "names": ["a"],
        "labels": {"k": "v"},
    }
    assert run.runtime_config.parameters == expected
    version = kubeflow.versions[run.pipeline_version_reference.pipeline_version_id]
    assert version.display_name == Package.read(compiled).version
    specification, platforms = yaml.safe_load_all(compiled.read_text())
    assert version.pipeline_spec == {"pipeline_spec": specification, "platform_spec": platforms}
    train = version.pipeline_spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][
        "exec-train"
    ]
    assert train["tolerations"] == [{"effect": "NoSchedule", "key": "nvidia.com/gpu", "operator": "Exists"}]


def test_a_second_run_finds_pipeline_version_and_experiment(kubeflow, compiled, command):
    assert command("gs://bucket/one", "--pipeline", compiled) == 0
    before = len(kubeflow.versions)
    assert command("gs://bucket/two", "--pipeline", compiled) == 0
    assert (len(kubeflow.pipelines), len(kubeflow.versions), len(kubeflow.experiments)) == (1, before, 1)
    assert len(kubeflow.runs) == 2


def test_the_shipped_pipeline_is_what_is_sent_by_default(kubeflow, command):
    assert command("gs://bucket/media", "--no-weights-check", "--epochs", "2", "--seed", "5") == 0
    [run] = kubeflow.runs.values()
    assert run.runtime_config.parameters == {"media": "gs://bucket/media", "epochs": 2, "seed": 5}
    assert {pipeline.display_name for pipeline in kubeflow.pipelines.values()} == {"ai-vs-real-training"}


def test_the_scoring_pipeline_is_sent_by_its_name(kubeflow, command):
    assert command("gs://bucket/million", "--pipeline", "scoring", "--set", "shards=40", "--set", "version=3") == 0
    [run] = kubeflow.runs.values()
    assert run.runtime_config.parameters == {"media": "gs://bucket/million", "shards": 40, "version": "3"}
    assert [pipeline.display_name for pipeline in kubeflow.pipelines.values()] == ["ai-vs-real-scoring"]
    version = kubeflow.versions[run.pipeline_version_reference.pipeline_version_id]
    executors = version.pipeline_spec["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {"exec-list-shards", "exec-score-shard", "exec-summarize"} <= set(executors)
    assert all("ai-vs-real-serving" in executor["container"]["image"] for executor in executors.values())


def test_another_cluster_is_another_platform_document(kubeflow, command, tmp_path):
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("accelerators: 2\ngpu_nodes: {pool: a100}\n")
    assert command("gs://bucket/media", "--no-weights-check") == 0
    assert command("gs://bucket/media", "--no-weights-check", "--cluster", cluster) == 0
    first, second = (
        kubeflow.versions[run.pipeline_version_reference.pipeline_version_id] for run in kubeflow.runs.values()
    )
    asked = [
        version.pipeline_spec["pipeline_spec"]["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"][
            "accelerator"
        ]
        for version in (first, second)
    ]
    assert [accelerator["resourceCount"] for accelerator in asked] == ["1", "2"]
    platforms = second.pipeline_spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert platforms["exec-train"]["nodeSelector"] == {"labels": {"pool": "a100"}}


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 1)])
def test_waiting_reports_the_steps_and_returns_the_outcome(kubeflow, compiled, command, capsys, state, code):
    """Argo's own nodes, drivers, executors and attempts, are no steps."""
    listed = {"list-media-driver(0)": "SUCCEEDED", "list-media": "SUCCEEDED", "executor(0)": "SUCCEEDED"}
    training = {**listed, "train-driver(0)": "SUCCEEDED", "train(0)": "FAILED", "train(1)": "RUNNING"}
    kubeflow.script = [
        ("PENDING", {}),
        ("RUNNING", {**training, "train": "RUNNING", "executor": "RUNNING"}),
        ("RUNNING", {**training, "train": "RUNNING", "executor": "RUNNING"}),
        (state, {**training, "train(1)": state, "train": state, "executor": state}),
    ]
    assert command("gs://bucket/media", "--pipeline", compiled, "--wait", "--json") == code
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["state"], document["steps"]) == (state, {"list-media": "SUCCEEDED", "train": state})
    said = [line.split("  ", 1)[1] for line in printed.err.splitlines() if "  " in line]
    assert said == ["list-media: succeeded", "train: running", f"train: {state.lower()}"]
    assert document["error"] == ""


def test_a_loops_own_nodes_are_no_steps_and_its_items_are_one(kubeflow, compiled, command, capsys):
    """Nodes are named as Kubeflow Pipelines 2.17.0 and Argo Workflows 4.0.5 name them; one of two items ended."""
    loop = {
        **{"for-loop-1": "RUNNING", "for-loop-1(0)": "RUNNING", "iteration-driver(0)": "SUCCEEDED"},
        **{"iteration-driver": "SUCCEEDED", "iteration-iterations": "RUNNING"},
        **{"iteration-iterations(0:0)(0)": "RUNNING", "iteration-iterations(0:0)": "RUNNING"},
        **{"iteration-item-driver": "SUCCEEDED", "iteration-item": "RUNNING", "iteration-item(0)": "RUNNING"},
    }
    first, second = {"extract-frames": "RUNNING"}, {" extract-frames": "SUCCEEDED"}
    ended = {name: "SUCCEEDED" for name in (*loop, *first)}
    kubeflow.script = [("RUNNING", loop | first | second), ("SUCCEEDED", ended | second)]
    assert command("gs://bucket/media", "--pipeline", compiled, "--wait") == 0
    said = [line.split("  ", 1)[1] for line in capsys.readouterr().err.splitlines() if "  " in line]
    assert said == [
        *("for-loop-1: running", "extract-frames: running"),
        *("for-loop-1: succeeded", "extract-frames: succeeded"),
    ]


def node(name, template, message, phase="Error"):
    ended = {"finishedAt": "2026-01-01T00:00:09Z"}
    return {"id": f"tiny-x-{len(name)}", "name": name, "type": "Pod", "phase": phase, "templateName": template} | {
        "message": message,
        **ended,
    }


@pytest.mark.parametrize(
    ("nodes", "error", "log"),
    [
        (
            [node("tiny-x.root-driver(0)", "system-dag-driver", 'pods "x" is forbidden: serviceaccount "a" not found')],
            'root: pods "x" is forbidden: serviceaccount "a" not found',
            "",
        ),
        (
            [
                node("tiny-x(0).root(0).train(0).executor(0)", "retry-system-container-impl", "pod deleted"),
                node(
                    "tiny-x(0).root(0).train(0).executor(1)",
                    "retry-system-container-impl",
                    "main: Error (exit code 1)\ngoroutine 1",
                    "Failed",
                ),
            ],
            "train: main: Error (exit code 1)",
            "kubectl -n kubeflow logs tiny-x-retry-system-container-impl-38 -c main",
        ),
    ],
)
def test_a_failed_run_says_which_step_why_and_where_its_log_is(
    kubeflow, compiled, command, capsys, monkeypatch, tmp_path, nodes, error, log
):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    kubeflow.script = [("FAILED", {"train": "FAILED", "root-driver(0)": "FAILED"})]
    kubeflow.nodes = {item["id"] + item["name"]: item for item in nodes}
    assert command("gs://bucket/media", "--pipeline", compiled, "--wait") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [f"failed: {error}", *([f"  log of {error.partition(':')[0]}: {log}"] if log else [])]


def test_what_stock_kubeflow_refuses_reaches_the_user_in_one_sentence(kubeflow, compiled, command, tmp_path):
    specification, platforms = yaml.safe_load_all(compiled.read_text())
    platforms["platforms"]["kubernetes"]["pipelineConfig"]["workspace"]["kubernetes"]["pvcSpecPatch"] = {}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump_all([specification, platforms]))
    with pytest.raises(InputError, match="workspace PVC spec must specify accessModes") as caught:
        command("gs://bucket/media", "--pipeline", tmp_path / "pipeline.yaml")
    assert "github.com" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_upload_makes_one_version(kubeflow, compiled, command):
    assert command("gs://bucket/media", "--pipeline", compiled) == 0
    [version] = kubeflow.versions.values()
    assert version.display_name == Package.read(compiled).version


def test_no_document_is_dropped_by_the_server(kubeflow, command):
    """A platform document with a key that the server does not know is dropped without a word."""
    assert command("gs://bucket/media", "--no-weights-check") == 0
    [version] = kubeflow.versions.values()
    assert "kubernetes" in version.pipeline_spec["platform_spec"]["platforms"]


def test_a_password_in_the_address_is_never_printed(kubeflow, compiled, command, capsys):
    host = kubeflow.url.replace("://", "://somebody:hunter2@")
    assert command("gs://bucket/media", "--pipeline", compiled, "--host", host) == 0
    assert command("gs://bucket/media", "--pipeline", compiled, "--host", host, "--dry-run") == 0
    with pytest.raises(InputError) as caught:
        command("--host", "http://somebody:hunter2@127.0.0.1:1", "--run", "x")
    printed = capsys.readouterr()
    assert "hunter2" not in printed.out + printed.err + str(caught.value)


def test_waiting_survives_a_server_that_is_away_for_a_while(kubeflow, compiled, command):
    kubeflow.faults = [503] * 5
    assert command("gs://bucket/media", "--pipeline", compiled, "--wait") == 0


def test_a_run_submitted_before_is_reported_and_followed(kubeflow, compiled, command, capsys):
    kubeflow.script = [
        ("RUNNING", {"train": "RUNNING"}),
        ("RUNNING", {"train": "RUNNING"}),
        ("FAILED", {"train": "FAILED"}),
    ]
    assert command("gs://bucket/media", "--pipeline", compiled) == 0
    [run_id] = kubeflow.runs
    capsys.readouterr()
    assert command("--run", run_id, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["state"], document["final"], document["steps"]) == ("RUNNING", False, {"train": "RUNNING"})
    assert command("--run", run_id, "--wait") == 1
    assert len(kubeflow.runs) == 1


def test_waiting_ends_when_the_run_is_unknown(kubeflow):
    client = Server(kubeflow.url).connect()
    with pytest.raises(InputError, match=r"refused \(404: Run nowhere not found\)"):
        follow(client, kubeflow.url, "nowhere", interval_s=0.01)


def test_a_schedule_has_six_fields_and_replaces_the_one_before(kubeflow, compiled, command, capsys):
    for expression in ("0 3 * * 1", "30 0 4 * * 1"):
        assert command("gs://bucket/media", "--pipeline", compiled, "--schedule", expression) == 0
    [recurring] = kubeflow.recurring.values()
    assert recurring.trigger.cron_schedule.cron == "30 0 4 * * 1"
    assert (recurring.mode, recurring.no_catchup, recurring.max_concurrency) == ("ENABLE", True, "1")
    assert recurring.runtime_config.parameters == {"media": "gs://bucket/media"}
    assert "scheduled tiny at '0 0 3 * * 1'" in capsys.readouterr().out


def test_a_dry_run_sends_nothing(kubeflow, compiled, command, capsys):
    assert command("gs://bucket/media", "--pipeline", compiled, "--set", "epochs=4", "--dry-run") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["parameters"] == {"media": "gs://bucket/media", "epochs": 4}
    assert [yaml.safe_load(part) for part in document["documents"]] == list(yaml.safe_load_all(compiled.read_text()))
    assert not kubeflow.runs
    assert not kubeflow.pipelines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "epoch=3"], "tiny has no parameter 'epoch'; it has epochs"),
        (["--set", "epochs=three"], "parameter epochs is 'three'; it takes int"),
        (["--set", "epochs=1.5"], "parameter epochs is 1.5; it takes int"),
        (["--set", "epochs=true"], "parameter epochs is True; it takes int"),
        (["--set", "warm=1"], "parameter warm is 1; it takes bool"),
        (["--set", "epochs"], "--set 'epochs' has no ="),
        (["--schedule", "daily"], "schedule 'daily' has 1 fields"),
        (["--schedule", "0 3 * * 1", "--wait"], "leave one of them out"),
        (["--token-file", "nowhere"], r"token file nowhere cannot be read \(No such file"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_one_line(kubeflow, compiled, command, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        command("gs://bucket/media", "--pipeline", compiled, *arguments)
    assert "\n" not in str(caught.value)
    assert not kubeflow.runs


def test_a_missing_parameter_is_named(compiled, command):
    with pytest.raises(InputError, match="tiny needs a value for 'media'"):
        command("--pipeline", compiled)


def test_a_pipeline_without_its_platform_document_is_refused(compiled, command, tmp_path):
    lost = tmp_path / "lost.yaml"
    lost.write_text(compiled.read_text().split("\n---\n")[0])
    with pytest.raises(InputError, match="no compiled pipeline of two documents"):
        command("gs://bucket/media", "--pipeline", lost)


def test_the_token_comes_from_a_file_or_the_environment(kubeflow, compiled, command, tmp_path, monkeypatch):
    kubeflow.token = "letmein"
    with pytest.raises(InputError, match=r"does not let us in \(401: Unauthorized\); set KF_PIPELINES_TOKEN"):
        command("gs://bucket/media", "--pipeline", compiled)
    (tmp_path / "token").write_text("letmein\n")
    assert command("gs://bucket/media", "--pipeline", compiled, "--token-file", tmp_path / "token") == 0
    monkeypatch.setenv(client_side.TOKEN, "letmein")
    assert command("gs://bucket/media", "--pipeline", compiled) == 0


@pytest.mark.parametrize(
    ("front", "message"), [("older", "has no v2beta1 API"), ("login", "answers with a page, not with the API: a login")]
)
def test_another_kind_of_server_is_recognised(kubeflow, front, message):
    kubeflow.front = front
    with pytest.raises(InputError, match=message):
        Server(kubeflow.url).connect()


def test_a_server_that_is_not_there_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"cannot be reached at {url} .*Connection refused.*give --host") as caught:
            Server(url).connect()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--gate", "best", "gate 'best'"),
        ("--weights", "absent.h5", "absent.h5"),
        ("--recipe", "fast", "recipe is 'fast'"),
    ],
)
def test_what_a_step_would_refuse_is_refused_before_anything_is_sent(kubeflow, command, option, value, words):
    settings = {"--weights": "none", option: value}
    with pytest.raises(InputError, match=words):
        command("gs://bucket/media", *[word for pair in settings.items() for word in pair])
    assert not kubeflow.runs
    command("gs://bucket/media", "--weights", "absent.h5", "--no-weights-check", "--dry-run")
