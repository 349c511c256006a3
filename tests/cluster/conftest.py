"""Servers of the real shape, each on a free port.

Kubeflow Pipelines stands on the models of kfp-server-api; the Kubernetes API takes what its own schemas take.
"""

import email
import email.policy
import json
import re
import threading
import uuid
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api
import kubernetes_validate
import pytest
import yaml

FORMS = api.ApiClient()
JSON_OF = {
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "STRING": str,
    "LIST": list,
    "STRUCT": dict,
}


class Refused(Exception):  # noqa: N818
    """An answer that is an error: HTTP status and message."""


class Kubeflow(ThreadingHTTPServer):
    """Kubeflow Pipelines' v2beta1 API: what is sent must fit the models, what is answered is made of them.

    Attributes:
        token: Bearer token that is asked for; empty for none.
        release: Told by the v1beta1 health check; empty where that is gone.
        front: "" for the API, "older" for a server without v2beta1, "login" for a page in front of it.
        script: Of a run, one entry a look: (state of the run, {step: state}); the last one stays.
        faults: Statuses to answer the next looks at a run with, in place of it.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.token, self.front, self.release = "", "", ""
        self.script = [("SUCCEEDED", {})]
        self.faults: list[int] = []
        self.pipelines: dict[str, api.V2beta1Pipeline] = {}
        self.versions: dict[str, api.V2beta1PipelineVersion] = {}
        self.experiments: dict[str, api.V2beta1Experiment] = {}
        self.runs: dict[str, api.V2beta1Run] = {}
        self.recurring: dict[str, api.V2beta1RecurringRun] = {}
        self.looks: dict[str, int] = defaultdict(int)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def healthz(self, request):
        return api.V2beta1GetHealthzResponse(multi_user=False, pipeline_store="database")

    def list_pipelines(self, request):
        return api.V2beta1ListPipelinesResponse(pipelines=request.filtered(self.pipelines))

    def list_versions(self, request, pipeline_id):
        own = {key: version for key, version in self.versions.items() if version.pipeline_id == pipeline_id}
        return api.V2beta1ListPipelineVersionsResponse(pipeline_versions=request.filtered(own))

    def upload(self, request):
        name = request.query["name"]
        if any(pipeline.display_name == name for pipeline in self.pipelines.values()):
            raise Refused(409, f"pipeline {name} already exists")
        made = api.V2beta1Pipeline(pipeline_id=str(uuid.uuid4()), display_name=name)
        self.pipelines[made.pipeline_id] = made
        self.add_version(made.pipeline_id, name, request.uploaded())
        return made

    def upload_version(self, request):
        if request.query["pipelineid"] not in self.pipelines:
            raise Refused(404, "pipeline not found")
        return self.add_version(request.query["pipelineid"], request.query["name"], request.uploaded())

    def add_version(self, pipeline_id, name, content):
        specification, platforms = yaml.safe_load_all(content)
        made = api.V2beta1PipelineVersion(
            pipeline_id=pipeline_id,
            pipeline_version_id=str(uuid.uuid4()),
            display_name=name,
            pipeline_spec={"pipeline_spec": specification, "platform_spec": platforms},
        )
        self.versions[made.pipeline_version_id] = made
        return made

    def list_experiments(self, request):
        return api.V2beta1ListExperimentsResponse(experiments=request.filtered(self.experiments))

    def create_experiment(self, request):
        made = request.model("V2beta1Experiment")
        made.experiment_id = str(uuid.uuid4())
        self.experiments[made.experiment_id] = made
        return made

    def create_run(self, request):
        made = request.model("V2beta1Run")
        self.check(made)
        made.run_id = str(uuid.uuid4())
        self.runs[made.run_id] = made
        return made

    def check(self, made):
        if made.experiment_id not in self.experiments:
            raise Refused(404, f"experiment {made.experiment_id} not found")
        version = self.versions[made.pipeline_version_reference.pipeline_version_id]
        known = version.pipeline_spec["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
        given = made.runtime_config.parameters or {}
        for name, value in given.items():
            if name not in known:
                raise Refused(400, f"Invalid input error: unknown parameter {name}")
            if not isinstance(value, JSON_OF[known[name]["parameterType"]]):
                raise Refused(400, f"Invalid input error: parameter {name} has a wrong type")
        for name, definition in known.items():
            if name not in given and not definition.get("isOptional"):
                raise Refused(400, f"Invalid input error: parameter {name} is missing")

    def get_run(self, request, run_id):
        if self.faults:
            raise Refused(self.faults.pop(0), "upstream connect error")
        if run_id not in self.runs:
            raise Refused(404, f"Run {run_id} not found")
        run = self.runs[run_id]
        run.state, steps = self.script[min(self.looks[run_id], len(self.script) - 1)]
        self.looks[run_id] += 1
        tasks = [api.V2beta1PipelineTaskDetail(run_id=run_id, display_name="root-driver", state="SUCCEEDED")]
        for step, state in steps.items():
            error = api.GoogleRpcStatus(code=2, message=f"{step} went wrong") if state == "FAILED" else None
            tasks.append(api.V2beta1PipelineTaskDetail(run_id=run_id, display_name=step, state=state, error=error))
        run.run_details = api.V2beta1RunDetails(task_details=tasks)
        if run.state == "FAILED":
            run.error = api.GoogleRpcStatus(code=2, message="the run failed")
        return run

    def list_recurring(self, request):
        return api.V2beta1ListRecurringRunsResponse(recurring_runs=request.filtered(self.recurring))

    def create_recurring(self, request):
        made = request.model("V2beta1RecurringRun")
        self.check(made)
        if len(made.trigger.cron_schedule.cron.split()) != 6:
            raise Refused(400, "Invalid input error: cron must have 6 fields")
        made.recurring_run_id = str(uuid.uuid4())
        self.recurring[made.recurring_run_id] = made
        return made

    def delete_recurring(self, request, recurring_run_id):
        del self.recurring[recurring_run_id]
        return {}


ROUTES = [
    ("GET", r"healthz", Kubeflow.healthz),
    ("GET", r"pipelines", Kubeflow.list_pipelines),
    ("GET", r"pipelines/([^/]+)/versions", Kubeflow.list_versions),
    ("POST", r"pipelines/upload", Kubeflow.upload),
    ("POST", r"pipelines/upload_version", Kubeflow.upload_version),
    ("GET", r"experiments", Kubeflow.list_experiments),
    ("POST", r"experiments", Kubeflow.create_experiment),
    ("POST", r"runs", Kubeflow.create_run),
    ("GET", r"runs/([^/]+)", Kubeflow.get_run),
    ("GET", r"recurringruns", Kubeflow.list_recurring),
    ("POST", r"recurringruns", Kubeflow.create_recurring),
    ("DELETE", r"recurringruns/([^/]+)", Kubeflow.delete_recurring),
]


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if self.server.front == "login":
            return self.answer(200, b"<html>Sign in</html>", "text/html")
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self.answer(401, b'{"error": "Unauthorized", "code": 16}')
        if self.server.release and parts.path == "/apis/v1beta1/healthz":
            return self.answer(200, json.dumps({"tag_name": self.server.release}).encode())
        prefix = "/apis/v1beta1/" if self.server.front == "older" else "/apis/v2beta1/"
        for method, pattern, function in ROUTES:
            match = re.fullmatch(re.escape(prefix) + pattern, parts.path)
            if match and method == self.command:
                try:
                    made = function(self.server, self, *match.groups())
                except Refused as error:
                    status, message = error.args
                    return self.answer(status, json.dumps({"error": message, "code": 3, "message": message}).encode())
                return self.answer(200, json.dumps(FORMS.sanitize_for_serialization(made)).encode())
        return self.answer(404, b'{"code": 5, "message": "Not Found"}')

    do_POST = do_DELETE = do_GET  # noqa: N815

    def answer(self, status, content, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass

    def model(self, name):
        """Read the body as a model; a field that the model has not is refused, as the server does."""
        body = json.loads(self.body)
        unknown = set(body) - set(getattr(api, name).attribute_map.values())
        if unknown:
            raise Refused(400, f"unknown field {sorted(unknown)[0]!r}")
        return FORMS.deserialize(SimpleNamespace(data=json.dumps(body)), name)

    def filtered(self, things):
        if "filter" not in self.query:
            return list(things.values())
        [predicate] = json.loads(self.query["filter"])["predicates"]
        assert predicate["operation"] == "EQUALS"
        return [thing for thing in things.values() if getattr(thing, predicate["key"]) == predicate["stringValue"]]

    def uploaded(self):
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + self.body, policy=email.policy.HTTP)
        [part] = [
            part
            for part in message.iter_parts()
            if part.get_param("name", header="content-disposition") == "uploadfile"
        ]
        return part.get_payload(decode=True)


class Apiserver(ThreadingHTTPServer):
    """The Kubernetes API over objects in memory; what is created must pass the strict schema of its kind.

    Attributes:
        objects: By plural and namespace ("" for none), then name.
        forbidden: Plurals that the caller may not read.
        life: Of the job that is created, one entry a look: (status of the job, its pods); the last one stays.
        logs: By pod, one entry a look: what is sent before the connection ends; the last one stays.
    """

    daemon_threads = True
    KUBERNETES = "1.33"

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Objects)
        self.objects: dict[tuple[str, str], dict[str, dict]] = defaultdict(dict)
        self.forbidden: set[str] = set()
        self.life: list[tuple[dict, list[dict]]] = [({"active": 1}, [])]
        self.logs: dict[str, list[str]] = {}
        self.looks: dict[str, int] = defaultdict(int)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, plural, manifest):
        metadata = manifest["metadata"]
        self.objects[plural, metadata.get("namespace", "")][metadata["name"]] = manifest

    def live(self, name, namespace):
        """Let a job grow older by one look."""
        status, pods = self.life[min(self.looks[name], len(self.life) - 1)]
        self.looks[name] += 1
        self.objects["jobs", namespace][name]["status"] = status
        for pod in pods:
            pod["metadata"] |= {"namespace": namespace, "labels": {"batch.kubernetes.io/job-name": name}}
            self.add("pods", pod)


class Objects(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    PATH = re.compile(r"/(?:api/v1|apis/[^/]+/v1)(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?(/log)?")

    def do_GET(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != "Bearer kubernetes":
            return self.refuse(401, "Unauthorized")
        parts = urlsplit(self.path)
        if parts.path == "/version/":
            return self.answer(
                {"major": "1", "minor": "33", "gitVersion": "v1.33.1-gke.100"}
                | dict.fromkeys(("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"), "-")
            )
        namespace, plural, name, log = self.PATH.fullmatch(parts.path).groups()
        if plural in self.server.forbidden:
            return self.refuse(403, f'{plural} is forbidden: User "somebody" cannot list resource "{plural}"')
        own = self.server.objects[plural, namespace or ""]
        if self.command == "POST" and json.loads(self.body)["metadata"]["name"] in own:
            return self.refuse(409, f"{plural} already exists")
        if self.command in ("POST", "PUT"):
            manifest = json.loads(self.body)
            kubernetes_validate.validate(manifest, Apiserver.KUBERNETES, strict=True)
            self.server.add(plural, manifest)
            return self.answer(manifest)
        if name and name not in own:
            return self.refuse(404, f'{plural} "{name}" not found')
        if self.command == "DELETE":
            return self.answer(own.pop(name))
        if log:
            return self.stream(name)
        if plural == "jobs" and name:
            self.server.live(name, namespace)
        if name:
            return self.answer(own[name])
        labels = dict(
            item.split("=") for item in parse_qs(parts.query).get("labelSelector", [""])[0].split(",") if item
        )
        found = [item for item in own.values() if labels.items() <= item["metadata"].get("labels", {}).items()]
        return self.answer({"items": found, "metadata": {}})

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def answer(self, document, status=200):
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status, message):
        self.answer({"kind": "Status", "status": "Failure", "message": message, "code": status}, status)

    def stream(self, pod):
        """Send a log in chunks; one that does not end with a newline breaks off as a lost node does."""
        looks = self.server.logs[pod]
        content = looks[min(self.server.looks[pod], len(looks) - 1)]
        self.server.looks[pod] += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(f"{len(content.encode()):x}\r\n{content}\r\n".encode() if content else b"")
        if content.endswith("\n"):
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *args):
        pass


def serve(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def kubeflow():
    """A Kubeflow Pipelines server on a free port."""
    yield from serve(Kubeflow())


@pytest.fixture
def apiserver(tmp_path, monkeypatch):
    """A Kubernetes API on a free port, which kubectl's configuration points at."""
    for server in serve(Apiserver()):
        entries = {
            "clusters": [{"name": "test", "cluster": {"server": server.url}}],
            "users": [{"name": "test", "user": {"token": "kubernetes"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "test", **entries}))
        monkeypatch.setenv("KUBECONFIG", str(path))
        yield server


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """A small compiled pipeline of two documents, with a parameter of every kind."""
    from kfp import compiler, dsl

    from pipelines.steps.resources import pipeline_config, place

    @dsl.component(base_image="tiny-python:1", install_kfp_package=False)
    def train(media: str, epochs: int, rate: float, warm: bool, names: list, labels: dict) -> str:
        return media

    @dsl.pipeline(name="tiny", pipeline_config=pipeline_config())
    def tiny(media: str, epochs: int = 1, rate: float = 0.5, warm: bool = False, names: list = [], labels: dict = {}):  # noqa: B006
        place(train(media=media, epochs=epochs, rate=rate, warm=warm, names=names, labels=labels), "train")

    path = tmp_path_factory.mktemp("compiled") / "tiny.yaml"
    compiler.Compiler().compile(tiny, str(path))
    return path
