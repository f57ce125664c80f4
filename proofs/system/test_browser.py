"""A page of somebody else in a real browser cannot use the endpoint of `wasq dev`."""

import http.client
import http.server
import json
import os
import subprocess
import threading

import pytest

import debian

# The page tries what a page can: each way in which a browser sends a request without asking the server before. The names of
# all hosts lead to this machine, as an attacker's name server would have it.
PAGE = """<!doctype html><pre id="said"></pre><script>
const queue = ENDPOINT + "/000000000000/wasq";
const form = new URLSearchParams({ Action: "SendMessage", MessageBody: "from a page", QueueUrl: queue });
const json = JSON.stringify({ QueueUrl: queue, MessageBody: "from a page" });
const target = { "X-Amz-Target": "AmazonSQS.SendMessage", "Content-Type": "application/x-amz-json-1.0" };
const tries = {
  form: () => fetch(ENDPOINT, { method: "POST", mode: "no-cors", body: form }),
  beacon: () => Promise.resolve(navigator.sendBeacon(ENDPOINT, form)),
  plain: () => fetch(ENDPOINT, { method: "POST", mode: "no-cors", body: json }),
  json: () => fetch(ENDPOINT, { method: "POST", headers: target, body: json }),
  results: () => fetch(ENDPOINT + "/wasq/results?message_id=ID"),
  cancel: () => fetch(ENDPOINT + "/wasq/cancel?id=somebody", { method: "POST", mode: "no-cors" }),
  own: () => fetch("/alive"),
};
(async () => {
  const said = {};
  for (const [name, attempt] of Object.entries(tries)) {
    said[name] = await attempt().then(async (answer) => answer.text ? `${answer.type} ${answer.status} ${await answer.text()}` : "sent", (e) => e.name);
  }
  document.getElementById("said").textContent = JSON.stringify(said);
})();
</script>"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    folder = debian.unpacked("chromium", "chromium")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --virtual-time-budget=10000"

    def dump(url):
        """The page at an address, when its scripts have run."""
        profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
        rules = "--host-resolver-rules=MAP * 127.0.0.1"
        command = [folder / "usr/lib/chromium/chromium", *flags.split(), profile, rules, "--dump-dom", url]
        environment = os.environ | {"LD_LIBRARY_PATH": debian.libraries(folder)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return dump


class Page(http.server.BaseHTTPRequestHandler):
    """Serves the page, for any name of a host."""

    def do_GET(self):
        if self.path not in ("/", "/alive"):
            return self.forward()
        body = PAGE.replace("ENDPOINT", json.dumps(self.server.endpoint)) if self.path == "/" else "yes"
        self.answer(200, "text/html" if self.path == "/" else "text/plain", body.encode())

    def do_POST(self):
        self.forward()

    def forward(self):
        """As after DNS rebinding: what goes to the page's own name comes to `wasq dev`, as the browser sent it."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        endpoint = http.client.HTTPConnection(self.server.dev)
        endpoint.request(self.command, self.path, body, dict(self.headers.items()))
        answer = endpoint.getresponse()
        self.answer(answer.status, answer.headers["Content-Type"], answer.read())

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind or "text/plain")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def page(dev):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.dev = dev.url.removeprefix("http://")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def said(dom):
    text = dom.split('<pre id="said">')[1].split("</pre>")[0]
    return json.loads(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def test_a_page_of_another_site(dev, chromium, page):
    page.endpoint = dev.url
    tried = said(chromium(f"http://attacker.test:{page.server_port}/"))
    assert tried["own"] == "basic 200 yes", "the page's script has run"
    # The page may send a form, and does not see the answer; the rest does not even leave the browser.
    assert tried["form"].startswith("opaque 0") and tried["json"] == tried["results"] == "TypeError", tried
    assert dev.counts() == (0, 0, 0), "nothing was sent"
    assert "no run of somebody" in dev.wasq("runs", "show", "somebody", "--json", code=2)["error"], "nothing was cancelled"


def test_a_name_that_leads_to_this_machine(dev, chromium, page):
    """DNS rebinding: for the browser, the endpoint belongs to the page's own site, so that the page sees every answer."""
    page.endpoint = f"http://attacker.test:{page.server_port}"
    tried = said(chromium(page.endpoint))
    assert tried["own"] == "basic 200 yes" and tried["beacon"].startswith("sent"), tried
    for attempt in ("form", "json", "results", "cancel"):
        assert tried[attempt].startswith("basic 403 ") and "attacker.test" in tried[attempt], tried
    assert dev.counts() == (0, 0, 0), "nothing was sent"
