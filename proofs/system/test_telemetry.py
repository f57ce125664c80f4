"""Traces and metrics of runs, through a real collector (rotel) into a server that reads them with OpenTelemetry's own classes."""

import contextlib
import gzip
import http.server
import json
import shutil
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest
import rotel
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from conftest import GUESTS, SCRATCH, free_port, wait_for

SETTINGS = 'max_attempts = 2\nbackoff = { base = "10ms", cap = "10ms" }\n'
TRACEPARENT = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"


class Sink(http.server.BaseHTTPRequestHandler):
    """Keeps what comes, and its headers; answers with the status that the server has."""

    protocol_version = "HTTP/1.1"
    kinds = {
        "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
        "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    }

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request, response = self.kinds[self.path]
        status = self.server.statuses.get(self.path, self.server.status)
        if status == 200:
            self.server.got.append((dict(self.headers), request.FromString(body)))
        answer = response().SerializeToString() if status == 200 else b"not today"
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Collected(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Sink)
        self.got, self.status, self.statuses = [], 200, {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def spans(self):
        """All spans by their names; the newest of a name wins."""
        return {span.name: span for span in self.all_spans()}

    def all_spans(self):
        requests = [request for _, request in list(self.got) if isinstance(request, ExportTraceServiceRequest)]
        return [span for request in requests for r in request.resource_spans for scope in r.scope_spans for span in scope.spans]

    def metrics(self):
        requests = [request for _, request in list(self.got) if isinstance(request, ExportMetricsServiceRequest)]
        return [metric for request in requests for r in request.resource_metrics for s in r.scope_metrics for metric in s.metrics]

    def counted(self):
        """The sums of all metrics, by their names and outcomes."""
        counts = {}
        for metric in self.metrics():
            for point in metric.histogram.data_points or metric.sum.data_points:
                key = (metric.name, attributes(point).get("wasq.outcome") or attributes(point).get("wasq.then"))
                counts[key] = counts.get(key, 0) + (point.count if metric.HasField("histogram") else point.as_int)
        return counts


@pytest.fixture
def sink():
    server = Collected()
    yield server
    server.shutdown()


@pytest.fixture
def collector(sink):
    """The address of a collector that passes everything on to the sink."""
    http_port, grpc_port = free_port(), free_port()
    agent = Path(rotel.__file__).with_name("rotel-agent")
    log = open(SCRATCH / f"rotel-{http_port}.log", "w")
    command = [agent, "start", "--otlp-http-endpoint", f"127.0.0.1:{http_port}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}"]
    command += ["--exporter", "otlp", "--otlp-exporter-endpoint", sink.url, "--otlp-exporter-protocol", "http"]
    command += ["--otlp-exporter-compression", "none", "--batch-timeout", "100ms"]
    process = subprocess.Popen(command, stdout=log, stderr=log)

    def listens():
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{http_port}/v1/traces", b"", {"content-type": "application/x-protobuf"}), timeout=1)

    try:
        wait_for(listens, "collector")
        yield f"http://127.0.0.1:{http_port}"
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def attributes(thing):
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in thing.attributes}


def test_a_message_its_attempts_children_and_requests_are_one_trace(new_dev, collector, sink, echo):
    dev = new_dev.start("--otlp", collector)
    dev.publish("verbs", settings=SETTINGS + f'allow_hosts = ["http://{echo.authority}"]\n')
    dev.publish("hello")
    dev.send({"task": "verbs", "id": "top", "params": {"verb": "enqueue", "task": "hello", "count": 1, "fail": False}})
    message = wait_for(lambda: sink.spans().get("verbs message"), "the message's span")
    child = wait_for(lambda: sink.spans().get("hello message"), "the child's span")
    spans = sink.spans()
    assert child.trace_id == message.trace_id and child.parent_span_id == message.span_id and not message.parent_span_id
    attempt = spans["verbs"]
    assert (attempt.parent_span_id, attempt.kind) == (message.span_id, Span.SPAN_KIND_CONSUMER)
    assert message.start_time_unix_nano <= attempt.start_time_unix_nano <= attempt.end_time_unix_nano <= message.end_time_unix_nano
    told = attributes(attempt)
    assert (told["wasq.task"], told["wasq.id"], told["wasq.attempt"], told["messaging.system"]) == ("verbs", "top", 1, "aws_sqs")
    parts = {span.name for span in sink.all_spans() if span.parent_span_id == attempt.span_id}
    assert parts == {"load", "run", "settle"}
    [resource] = {attributes(r.resource)["service.name"] for _, request in sink.got if hasattr(request, "resource_spans") for r in request.resource_spans}
    assert resource == "wasq dev"

    # A request that is answered, in the sender's trace.
    sink.got.clear()
    dev.send({"task": "verbs", "id": "asks", "params": {"verb": "fetch", "url": f"http://{echo.authority}/path?secret=1"}, "traceparent": TRACEPARENT})
    request = wait_for(lambda: sink.spans().get("GET"), "the request's span")
    message = wait_for(lambda: sink.spans().get("verbs message"), "the message's span")
    assert message.trace_id.hex() == "5759e988bd862e3fe1be46a994272793" and message.parent_span_id.hex() == "53995c3f42cd8ad8"
    assert request.parent_span_id == sink.spans()["run"].span_id and request.kind == Span.SPAN_KIND_CLIENT
    told = attributes(request)
    assert (told["server.address"], told["http.response.status_code"]) == ("127.0.0.1", 200)
    assert "secret" not in str(sink.got)

    # Failures, both attempts in one trace, and again in the same one after a redrive.
    sink.got.clear()
    dev.send({"task": "verbs", "id": "fails", "params": {"verb": "retry", "reason": "not today"}})
    dead = wait_for(lambda: sink.spans().get("verbs message"), "the message's span")
    attempts = [span for span in sink.all_spans() if span.name == "verbs"]
    assert [attributes(span)["wasq.attempt"] for span in attempts] == [1, 2]
    assert {span.status.code for span in [*attempts, dead]} == {Status.STATUS_CODE_ERROR}
    assert {span.parent_span_id for span in attempts} == {dead.span_id} and attributes(attempts[0])["error.type"] == "retry"
    sink.got.clear()
    dev.wasq("dlq", "redrive", "--all", "--json")
    again = wait_for(lambda: sink.spans().get("verbs message"), "the message's span")
    assert (again.trace_id, again.span_id) == (dead.trace_id, dead.span_id)


def test_what_a_sender_does_not_sample_is_not_sent(new_dev, collector, sink):
    dev = new_dev.start("--otlp", collector)
    dev.publish("hello")
    dev.send({"task": "hello", "id": "quiet", "params": 1, "traceparent": TRACEPARENT[:-1] + "0"})
    dev.send({"task": "hello", "id": "loud", "params": 1})
    wait_for(lambda: sink.spans().get("hello message"), "the span of the other")
    assert {attributes(span)["wasq.id"] for span in sink.all_spans() if span.name == "hello"} == {"loud"}


def test_steps_and_metrics(new_dev, collector, sink):
    dev = new_dev.start("--otlp", collector)
    dev.publish("verbs", settings=SETTINGS)
    steps = [{"load": "charge"}, {"save": ["charge", '{"receipt": "r-1"}']}]
    dev.send({"task": "verbs", "id": "order-7", "params": {"verb": "steps", "calls": steps}})
    dev.send({"task": "verbs", "id": "bad", "params": {"verb": "reject", "reason": "no"}})
    run = wait_for(lambda: next((span for span in sink.all_spans() if span.name == "run" and span.events), None), "the step")
    assert [attributes(event)["wasq.step"] for event in run.events] == ["charge"]

    expected = {
        ("wasq.run.duration", "success"): 1,
        ("wasq.run.duration", "reject"): 1,
        ("wasq.message.wait", None): 2,
        ("wasq.message.ended", "done"): 1,
        ("wasq.message.ended", "dead-letter"): 1,
    }
    wait_for(lambda: sink.counted() == expected, "the metrics")


def test_a_collector_that_fails_costs_no_message(new_dev, sink):
    """It is busy, and gets everything later, once."""
    sink.status = 503
    dev = new_dev.start("--otlp", sink.url, "--otlp-headers", "x-key=top-secret")
    dev.publish("hello")
    for number in range(20):
        dev.send({"task": "hello", "id": f"m-{number}", "params": number})
    wait_for(lambda: dev.counts() == (0, 0, 0), "empty queue")
    wait_for(lambda: dev.logged("traces were not sent", "status 503") and dev.logged("metrics were not sent", "status 503"), "the warnings")
    sink.status = 200
    wait_for(lambda: sum(span.name == "hello" for span in sink.all_spans()) == 20, "the spans of all")
    wait_for(lambda: sink.counted().get(("wasq.message.ended", "done")) == 20, "the metrics of all")
    assert all(headers["x-key"] == "top-secret" for headers, _ in sink.got)
    assert "top-secret" not in dev.log.read_text()


@pytest.mark.parametrize("missing, there", [("/v1/metrics", "spans"), ("/v1/traces", "metrics")])
def test_a_collector_of_one_kind_gets_that(new_dev, sink, missing, there):
    sink.statuses = {missing: 404}
    dev = new_dev.start("--otlp", sink.url)
    dev.publish("hello")
    dev.send({"task": "hello", "id": "a", "params": 1})
    wait_for(lambda: sink.spans() if there == "spans" else sink.counted(), f"the {there}")
    wait_for(lambda: dev.logged(f"{missing.split('/')[2]} were not sent", "status 404 Not Found not today"), "the warning")


def test_x_rays_header_is_no_senders_wish(new_dev, collector, sink):
    """Lambda puts it on everything, and says in it that nothing is sampled."""
    dev = new_dev.start("--otlp", collector)
    dev.publish("verbs", settings=SETTINGS)
    dev.publish("hello")
    header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"
    system = {"AWSTraceHeader": {"DataType": "String", "StringValue": header}}
    params = {"verb": "enqueue", "task": "hello", "count": 1, "fail": False}

    def both(name):
        """The spans of a message with this header, and of its child."""
        sink.got.clear()
        body = json.dumps({"task": "verbs", "id": name, "params": params})
        dev.sqs.send_message(QueueUrl=dev.queue_url, MessageBody=body, MessageSystemAttributes=system)
        found = lambda: [sink.spans().get(f"{task} message") for task in ("verbs", "hello")]  # noqa: E731
        message, child = wait_for(lambda: all(found()) and found(), "the spans")
        assert (child.trace_id, child.parent_span_id) == (message.trace_id, message.span_id)
        return message

    message = both("traced")
    assert message.trace_id.hex() != "5759e988bd862e3fe1be46a994272793" and not message.parent_span_id
    # A trace that is sampled goes on.
    system["AWSTraceHeader"]["StringValue"] = header[:-1] + "1"
    message = both("sampled")
    assert (message.trace_id.hex(), message.parent_span_id.hex()) == ("5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8")


@pytest.mark.parametrize("options, why", [
    (["--otlp", "localhost:4318"], "--otlp: expected an address such as https://otlp.example.com"),
    (["--otlp", "http://127.0.0.1:4318", "--otlp-headers", "key"], "expected pairs such as name=value"),
    (["--otlp-headers", "a=b"], "--otlp"),
])  # fmt: skip
def test_wrong_addresses_are_named(author, options, why):
    author.shell(f"wasq dev --listen 127.0.0.1:0 {' '.join(options)}", code=2)
    assert why in author.said


def test_a_deployment_sends_them_at_the_end_of_each_invoke(cloud, functions, sink):
    """With the headers from a secret. The collector is away at first, and nothing waits for it."""
    secret = "x-key=top-secret, x-team=tasks"
    cloud.client("ssm").put_parameter(Name="/traced/otlp", Value=secret, Type="SecureString", Overwrite=True)
    options = f"--otlp-endpoint {sink.url} --otlp-headers-secret ssm:/traced/otlp"
    outputs = cloud.deploy(functions, "traced", options)
    shutil.copy(GUESTS / "hello.wasm", cloud.folder / "hello.wasm")
    cloud.shell("wasq push hello.wasm --stack traced --wait")
    sink.status = 503
    assert json.loads(cloud.shell("wasq enqueue hello --stack traced --id first --wait"))
    sink.status = 200

    def another():
        """Each invoke sends what its process has, after a pause. Another process may run it, and has not what the first one had."""
        assert json.loads(cloud.shell("wasq enqueue hello --stack traced --wait"))
        return sink.spans().get("hello message")

    wait_for(another, "the spans of a message", 90)
    headers, request = next((headers, request) for headers, request in sink.got if isinstance(request, ExportTraceServiceRequest))
    assert (headers["x-key"], headers["x-team"]) == ("top-secret", "tasks")
    told = attributes(request.resource_spans[0].resource)
    assert (told["service.name"], told["cloud.provider"], told["faas.name"]) == ("wasq", "aws", outputs["WorkerFunction"])
    assert "top-secret" not in json.dumps(cloud.log(outputs["WorkerFunction"]))
    cloud.shell("wasq destroy --stack traced --data --yes")
