"""A stand-in of Kubeflow Pipelines' API server: its models, its rules, its shapes."""

import contextlib
import email
import email.policy
import json
import re
import uuid
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api
import yaml
from google.protobuf.json_format import ParseDict, ParseError
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

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

    What it refuses, and in which words, is read from kubeflow/pipelines 2.17.0; each rule names its file there.

    Attributes:
        token: Bearer token that is asked for; empty for none.
        release: What the v1beta1 health check answers; empty where that is gone.
        front: "" for the API, "older" for a server without v2beta1, "login" for a page in front of it.
        script: Of a run, one entry a look: (state of the run, {node: state}); the last one stays.
        nodes: Of a run's workflow, for the v1beta1 API: what Argo's controller keeps in `status.nodes`.
        faults: Statuses to answer the next looks at a run with, in place of it.
    """

    daemon_threads = True

    def __init__(self, address="127.0.0.1"):
        super().__init__((address, 0), Answers)
        self.token, self.front, self.release = "", "", ""
        self.script = [("SUCCEEDED", {})]
        self.nodes: dict[str, dict] = {}
        self.faults: list[int] = []
        self.pipelines: dict[str, api.V2beta1Pipeline] = {}
        self.versions: dict[str, api.V2beta1PipelineVersion] = {}
        self.experiments: dict[str, api.V2beta1Experiment] = {}
        self.runs: dict[str, api.V2beta1Run] = {}
        self.recurring: dict[str, api.V2beta1RecurringRun] = {}
        self.looks: dict[str, int] = defaultdict(int)
        self.url = f"http://{address}:{self.server_address[1]}"

    def healthz(self, request):
        return api.V2beta1GetHealthzResponse(multi_user=False, pipeline_store="database")

    def list_pipelines(self, request):
        return api.V2beta1ListPipelinesResponse(pipelines=request.filtered(self.pipelines))

    def list_versions(self, request, pipeline_id):
        own = {key: version for key, version in self.versions.items() if version.pipeline_id == pipeline_id}
        return api.V2beta1ListPipelineVersionsResponse(pipeline_versions=request.filtered(own))

    def create_pipeline(self, request):
        """Make a pipeline without any version (backend/src/apiserver/server/pipeline_server.go, createPipeline)."""
        made = request.model("V2beta1Pipeline")
        if not made.name:
            raise Refused(400, "Invalid input error: name is required")
        if any(pipeline.name == made.name for pipeline in self.pipelines.values()):
            raise Refused(409, f"Already exist error: {made.name} already exists")
        made.pipeline_id = str(uuid.uuid4())
        self.pipelines[made.pipeline_id] = made
        return made

    def upload(self, request):
        """Make a pipeline and a version of the same name (pipeline_upload_server.go, uploadPipeline)."""
        name = request.query["name"]
        if any(pipeline.name == name for pipeline in self.pipelines.values()):
            raise Refused(409, "Failed to create a pipeline and a pipeline version")
        made = api.V2beta1Pipeline(pipeline_id=str(uuid.uuid4()), name=name, display_name=name)
        self.pipelines[made.pipeline_id] = made
        self.add_version(made.pipeline_id, name, request.uploaded())
        return made

    def upload_version(self, request):
        if request.query["pipelineid"] not in self.pipelines:
            raise Refused(404, "pipeline not found")
        return self.add_version(request.query["pipelineid"], request.query["name"], request.uploaded())

    def add_version(self, pipeline_id, name, content):
        specification, *platforms = yaml.safe_load_all(content)
        try:
            ParseDict(specification, PipelineSpec())
        except ParseError as error:  # template/v2_template.go, NewV2SpecTemplate
            raise Refused(400, f"InvalidInputError: invalid v2 pipeline spec: {error}") from None
        made = api.V2beta1PipelineVersion(
            pipeline_id=pipeline_id,
            pipeline_version_id=str(uuid.uuid4()),
            display_name=name,
            pipeline_spec={"pipeline_spec": specification},
        )
        for platform in platforms:
            # A document with a key that the server does not know is dropped without a word, and the GPU with it
            # (template/v2_template.go, IsPlatformSpecWithKubernetesConfig).
            with contextlib.suppress(ParseError):
                ParseDict(platform, PlatformSpec())
                made.pipeline_spec["platform_spec"] = platform
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
            raise Refused(404, f"ResourceNotFoundError: Experiment {made.experiment_id} not found")
        version = self.versions[made.pipeline_version_reference.pipeline_version_id].pipeline_spec
        known = version["pipeline_spec"]["root"].get("inputDefinitions", {}).get("parameters", {})
        given = made.runtime_config.parameters or {}
        for name, definition in known.items():  # template/v2_template.go, validatePipelineJobInputs
            kind = definition["parameterType"]
            if name in given and not isinstance(given[name], JSON_OF[kind]):
                raise Refused(400, f"Invalid input error: input parameter {name} requires type {kind}")
            if name not in given and not definition.get("isOptional") and "defaultValue" not in definition:
                raise Refused(400, f"Invalid input error: parameter {name} is not optional, yet has neither default")
        if extra := set(given) - set(known):
            raise Refused(400, f"Invalid input error: parameter(s) provided are not required by pipeline: {extra}")
        self.check_platform(version.get("platform_spec", {}).get("platforms", {}).get("kubernetes", {}))

    def check_platform(self, settings):
        # v2/compiler/argocompiler/container.go parses what it knows of each step, and refuses what it does not.
        for executor in settings.get("deploymentSpec", {}).get("executors", {}).values():
            try:
                ParseDict(executor, KubernetesExecutorConfig())
            except ParseError as error:
                raise Refused(500, internal(f"error unmarshalling kubernetes config: {error}")) from None
        workspace = settings.get("pipelineConfig", {}).get("workspace")
        if workspace is None or "kubernetes" not in workspace:
            return
        # v2/compiler/argocompiler/argo.go, GetWorkspacePVC; no default is configured in a stock installation.
        claim = workspace["kubernetes"].get("pvcSpecPatch", {})
        if unknown := sorted(set(claim) - {"accessModes", "storageClassName"}):
            raise Refused(500, internal(f"unknown fields in PVC spec patch: [{' '.join(unknown)}]"))
        if not claim.get("accessModes"):
            raise Refused(500, internal("workspace PVC spec must specify accessModes"))
        if claim.get("storageClassName") == "":
            raise Refused(500, internal("workspace PVC spec storageClassName must be omitted or set"))

    def get_run(self, request, run_id):
        if self.faults:
            raise Refused(self.faults.pop(0), "upstream connect error")
        if run_id not in self.runs:
            raise Refused(404, f"Run {run_id} not found")
        run = self.runs[run_id]
        run.state, steps = self.script[min(self.looks[run_id], len(self.script) - 1)]
        self.looks[run_id] += 1
        # One task for each node of the workflow, named as Argo names it, with an attempt's number in brackets; of an
        # error not a word (common/util/workflow.go, NodeStatuses; server/api_converter.go, toApiPipelineTaskDetail).
        tasks = {"tiny-x": run.state, "root-driver": "SUCCEEDED", "root-driver(0)": "SUCCEEDED", "root": run.state}
        run.run_details = api.V2beta1RunDetails(
            task_details=[
                api.V2beta1PipelineTaskDetail(
                    run_id=run_id,
                    display_name=name.strip(),  # of one name as often as a loop has items
                    state=state,
                    start_time=f"2026-01-01T00:00:{number:02}Z",
                    child_tasks=[api.PipelineTaskDetailChildTask(pod_name=f"tiny-x-{number}")],
                )
                for number, (name, state) in enumerate((tasks | steps).items())
            ]
        )
        return run

    def run_of_v1(self, request, run_id):
        """Answer with the workflow as it is stored (server/run_server.go, GetRunV1; api_converter.go)."""
        workflow = {"metadata": {"name": "tiny-x"}, "status": {"nodes": self.nodes}}
        return {"run": {"id": run_id}, "pipeline_runtime": {"workflow_manifest": json.dumps(workflow)}}

    def list_recurring(self, request):
        return api.V2beta1ListRecurringRunsResponse(recurring_runs=request.filtered(self.recurring))

    def create_recurring(self, request):
        made = request.model("V2beta1RecurringRun")
        self.check(made)
        if len(made.trigger.cron_schedule.cron.split()) != 6:
            raise Refused(400, "Invalid input error: Schedule cron is not supported: Expected exactly 6 fields")
        made.recurring_run_id = str(uuid.uuid4())
        self.recurring[made.recurring_run_id] = made
        return made

    def delete_recurring(self, request, recurring_run_id):
        del self.recurring[recurring_run_id]
        return {}


def internal(message):
    """Return an error that the server did not expect, with its Go stack (common/util/error.go, ToGRPCError)."""
    stack = "github.com/kubeflow/pipelines/backend/src/common/util.Wrap\n\t/go/src/backend/src/common/util/error.go:332"
    return f"Internal error: {message}\nFailed to compile job\n{stack}\nruntime.goexit\n\t/usr/local/go/src/runtime"


ROUTES = [
    ("GET", r"healthz", Kubeflow.healthz),
    ("GET", r"pipelines", Kubeflow.list_pipelines),
    ("GET", r"pipelines/([^/]+)/versions", Kubeflow.list_versions),
    ("POST", r"pipelines", Kubeflow.create_pipeline),
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
        if (match := re.fullmatch(r"/apis/v1beta1/runs/([^/]+)", parts.path)) and self.server.front != "older":
            return self.answer(200, json.dumps(self.server.run_of_v1(self, match[1])).encode())
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
