"""`wasq ui`: the page of a deployment, in a real browser, over the stand-in for AWS."""

import http.client
import http.server
import itertools
import json
import signal
import subprocess
import threading

import pytest
from playwright.sync_api import expect

from conftest import BINARIES, GUESTS, wait_for
from test_page import PICTURES, browser  # noqa: F401

# Other tests run beside these.
expect.set_options(timeout=20_000)

SETTINGS = 'max_attempts = 2\nbackoff = { base = "1s", cap = "1s" }\n'
# Each deployment has a name of its own: a consumer of one before may still drain its queue.
NAMES = (f"ui-{number}" for number in itertools.count())


class Deployed:
    """A deployment with its `wasq ui`."""

    def __init__(self, cloud, stack, outputs):
        self.cloud, self.stack, self.outputs = cloud, stack, outputs
        self.queue, self.dead = outputs["QueueUrl"], outputs["DeadLetterUrl"]

    def publish(self, guest, name):
        (self.cloud.folder / f"{name}.toml").write_text(SETTINGS)
        (self.cloud.folder / f"{name}.wasm").write_bytes((GUESTS / f"{guest}.wasm").read_bytes())
        self.cloud.shell(f"wasq push {name}.wasm --stack {self.stack} --wait")

    def send(self, task, params, **more):
        self.cloud.client("sqs").send_message(QueueUrl=self.queue, MessageBody=json.dumps({"task": task, "params": params} | more))

    def state(self, name):
        shown = self.cloud.shell(f"wasq runs ls --stack {self.stack} --json")
        return next((run["state"] for run in json.loads(shown)["runs"] if run["id"] == name), None)

    def ends(self, name, state, seconds=90):
        wait_for(lambda: self.state(name) == state, f"{name} to be {state}", seconds)


def serve(cloud, *options, **environment):
    """A `wasq ui`, and the address that it has printed."""
    process = subprocess.Popen(
        [BINARIES / "wasq", "ui", "--listen", "127.0.0.1:0", "--json", *options],
        cwd=cloud.folder,
        env=cloud.environment | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    return process, json.loads(process.stdout.readline())["page"]


@pytest.fixture
def deployed(cloud, functions):
    stack = next(NAMES)
    yield Deployed(cloud, stack, cloud.deploy(functions, stack))
    cloud.shell(f"wasq destroy --stack {stack} --data --yes")


def test_every_view_and_act_over_a_deployment(browser, cloud, deployed):  # noqa: F811
    deployed.publish("verbs", "verbs")
    deployed.publish("hello", "hello")
    for number in range(3):
        deployed.send("hello", {"to": "AWS"}, id=f"hello-{number}")
    deployed.send("verbs", {"verb": "log", "count": 2}, id="order/7?")
    for number in range(2):
        deployed.send("verbs", {"verb": "reject", "reason": "no such user"}, id=f"dead-{number}")
    deployed.send("verbs", {"verb": "reject", "reason": "gone"}, id="dead-2")
    deployed.send("verbs", {"verb": "retry-after", "seconds": 900, "reason": "later"}, id="patient-1")
    ends = {f"hello-{number}": "done" for number in range(3)} | {f"dead-{number}": "dead" for number in range(3)}
    for name, state in (ends | {"patient-1": "retrying", "order/7?": "done"}).items():
        deployed.ends(name, state)

    process, address = serve(cloud, "--stack", deployed.stack)
    try:
        base, _, token = address.partition("/?token=")
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        expect(page).to_have_url(f"{base}/")
        row = page.locator("tr", has=page.get_by_role("link", name="hello", exact=True))
        expect(row.get_by_role("cell").nth(1)).to_have_text("3")
        expect(page.locator(".tile").nth(3)).to_have_text("3dead letters")
        expect(page.locator(".kinds")).to_contain_text("reject 3")
        assert "8 runs in the last hour, of these 4 failed" == page.get_by_role("img").first.get_attribute("aria-label")
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / "ui-overview.png", full_page=True)

        # Runs: the newest first, filters, one run with its log.
        page.goto(f"{base}/runs?task=hello")
        expect(page.locator("tbody tr")).to_have_count(3)
        page.goto(f"{base}/runs?state=dead&kind=reject")
        expect(page.locator("tbody tr")).to_have_count(3)
        page.goto(f"{base}/runs")
        page.get_by_role("link", name="order/7?").click()
        expect(page.locator("h1")).to_contain_text("done order/7?")
        expect(page.locator(".log")).to_contain_text("to stdout")
        page.screenshot(path=PICTURES / "ui-run.png", full_page=True)

        # Cancel.
        page.goto(f"{base}/runs/patient-1")
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("status")).to_contain_text("It is cancelled")
        assert deployed.state("patient-1") == "cancelled"

        # Send, and follow it to its end without a look at the terminal.
        page.goto(f"{base}/send?task=hello")
        page.get_by_label("Params").fill('{"to": "the page"}')
        page.get_by_label("Id").fill("sent-1")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("h1")).to_contain_text("done", timeout=60_000)
        expect(page.locator("#result")).to_contain_text("the page")

        page.get_by_role("button", name="Run again").click()
        expect(page.locator("h1")).to_contain_text("done", timeout=60_000)
        expect(page.locator("#result")).to_contain_text("the page")

        # Dead letters: a fix is uploaded, and they run again.
        page.goto(f"{base}/dead")
        expect(page.locator("section").first).to_contain_text("2 × verbs reject")
        page.screenshot(path=PICTURES / "ui-dead.png", full_page=True)
        page.goto(f"{base}/tasks/verbs")
        page.locator("input[type=file]").set_input_files(GUESTS / "hello.wasm")
        expect(page.get_by_role("status").filter(has_text="The component is uploaded")).to_be_visible()
        expect(page.locator("tbody tr").first).to_contain_text("live", timeout=60_000)
        expect(page.locator("tbody tr")).to_have_count(2, timeout=60_000)
        # The stand-in gives this name to everybody who uploads.
        told = json.loads(cloud.shell(f"wasq tasks verbs --stack {deployed.stack} --json"))["live"]
        assert (told["uploader"], told["bytes"]) == ("EXAMPLE", (GUESTS / "hello.wasm").stat().st_size)
        expect(page.locator("tbody tr").first).to_contain_text("EXAMPLE")
        page.goto(f"{base}/dead")
        page.get_by_role("button", name="Redrive all 2").click()
        expect(page.get_by_role("status")).to_contain_text("2 sent back to the queue")
        deployed.ends("dead-0", "done")
        deployed.ends("dead-1", "done")
        page.goto(f"{base}/dead")
        page.get_by_role("button", name="Delete").first.click()
        page.get_by_role("button", name="Delete for good").click()
        expect(page.get_by_role("status")).to_contain_text("1 deleted")
        assert cloud.counts(deployed.dead) == (0, 0)

        told = json.loads(cloud.shell(f"wasq top --stack {deployed.stack} --json"))
        assert {task["task"] for task in told["tasks"]} == {"hello", "verbs"} and told["counts"]["dead"] == 0
        # The earlier version comes back, and the task goes.
        page.goto(f"{base}/tasks/verbs")
        page.get_by_role("button", name="Bring back").click()
        expect(page.locator("tbody tr")).to_have_count(3, timeout=60_000)
        page.get_by_role("button", name="Remove this task").click()
        page.get_by_role("button", name="Remove", exact=True).click()
        expect(page.locator("h1")).to_contain_text("removed", timeout=60_000)
        # Nothing is taken from the queue for a while.
        page.goto(base)
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("status")).to_contain_text("no more messages are taken from the queue")
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("button", name="Pause")).to_be_visible()
        expect(page.get_by_role("status")).to_have_count(0)
        assert problems == []
        context.close()

        # Only who has the token, and no other site.
        host = base.removeprefix("http://")
        port = host.split(":")[1]
        own = {"cookie": f"wasq-page-{port}={token}"}
        for headers, status in [({}, 401), (own, 200), (own | {"host": "evil.test"}, 403), (own | {"origin": "http://evil.test"}, 403)]:
            connection = http.client.HTTPConnection(host, timeout=30)
            connection.request("GET", "/tasks", headers=headers)
            assert connection.getresponse().status == status, headers
            connection.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


class ReadOnly(http.server.BaseHTTPRequestHandler):
    """SQS for credentials that may only read: everything else is denied, in the words of AWS."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        action = self.headers["X-Amz-Target"].removeprefix("AmazonSQS.")
        if not action.startswith(("Get", "List")):
            why = f"User: arn:aws:iam::000000000000:user/reader is not authorized to perform: sqs:{action.lower()}"
            return self.answer(403, json.dumps({"__type": "com.amazonaws.sqs#AccessDenied", "message": why}).encode())
        there = http.client.HTTPConnection(self.server.target, timeout=30)
        there.request("POST", self.path, body, dict(self.headers))
        response = there.getresponse()
        self.answer(response.status, response.read())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_credentials_that_may_only_read(browser, cloud, deployed):  # noqa: F811
    """What they may see is shown, and what they may not is named."""
    deployed.publish("hello", "hello")
    deployed.send("hello", {"to": "AWS"}, id="hello-1")
    deployed.ends("hello-1", "done")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ReadOnly)
    server.target = cloud.url.removeprefix("http://")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    process, address = serve(cloud, "--stack", deployed.stack, AWS_ENDPOINT_URL_SQS=f"http://127.0.0.1:{server.server_port}")
    try:
        base = address.partition("/?token=")[0]
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        expect(page.locator(".tile").first).to_contain_text("waiting")
        page.goto(f"{base}/runs/hello-1")
        expect(page.locator("h1")).to_contain_text("done")
        page.goto(f"{base}/dead")
        expect(page.locator("main")).to_contain_text("not authorized to perform: sqs:receivemessage")
        page.goto(f"{base}/send?task=hello")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("main")).to_contain_text("not authorized to perform: sqs:sendmessage")
        context.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        server.shutdown()


def test_a_deployment_that_remembers_no_runs(browser, cloud, functions):  # noqa: F811
    stack = next(NAMES)
    cloud.deploy(functions, stack, "--runs off")
    process, address = serve(cloud, "--stack", stack)
    try:
        base = address.partition("/?token=")[0]
        page = browser.new_context().new_page()
        for view in [address, f"{base}/runs"]:
            page.goto(view)
            expect(page.locator("main")).to_contain_text(f"wasq deploy --stack {stack} --runs on")
        assert page.request.get(f"{base}/runs/nobody").status == 404
        page.context.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        cloud.shell(f"wasq destroy --stack {stack} --data --yes")


def test_wrong_use(cloud):
    cloud.shell("wasq ui --stack nobody-has-this", code=2)
    assert "nobody-has-this" in cloud.said
    cloud.shell(f"wasq ui --data {cloud.folder}", code=2)
    assert "start one, which serves the page itself, or name a deployment by --stack" in cloud.said
