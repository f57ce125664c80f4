"""The page of `wasq dev`, in a real browser: each view with real runs, each act with its effect, and who may see it."""

import http.client
import json
import os
import re
import shlex
import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

import debian
from conftest import GUESTS, ROOT, github_settings, wait_for, with_schema

# Other tests run beside these.
expect.set_options(timeout=20_000)

# Everything that a task or a sender can say: markup, colours of a terminal, and a change of direction.
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title="owned"</script> \x1b[31mred\u202egnp.exe'
HOSTILE_ID = 'evil/<b>&"id?#'
SETTINGS = 'max_attempts = 2\nbackoff = { base = "100ms", cap = "100ms" }\n'
# Pictures of the views, for people to look at.
PICTURES = ROOT / "target" / "page"
WIDTHS = {"phone": (360, 800), "desk": (1280, 900), "wall": (3840, 2160)}


@pytest.fixture(scope="module")
def browser():
    folder = debian.unpacked("chromium", "chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=folder / "usr/lib/chromium/chromium",
            args=["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
            env=os.environ | {"LD_LIBRARY_PATH": debian.libraries(folder)},
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, dev):
    """The page, opened by the address that `wasq dev` has printed. Nothing may fail in its script."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    # An answer with an error status is no fault of the script.
    told = lambda line: line.type == "error" and "Failed to load resource" not in line.text  # noqa: E731
    page.on("console", lambda line: problems.append(line.text) if told(line) else None)
    page.goto(dev.page)
    expect(page).to_have_url(dev.url + "/")
    yield page
    context.close()
    assert problems == []


def go(page, dev, path):
    page.goto(dev.url + path)


def run(dev, task, params, *options, code=None):
    """Runs a message to its end."""
    return dev.wasq("enqueue", task, "--params", json.dumps(params), *options, "--wait", "--json", code=code)


def busy_stack(dev):
    """Runs of every sort."""
    dev.publish("hello")
    dev.publish("verbs", settings=SETTINGS)
    shutil.copy(GUESTS / "hello.wasm", dev.tasks / "broken.wasm")
    (dev.tasks / "broken.wasm").write_bytes((GUESTS / "hello.wasm").read_bytes()[:3000])
    dev.wasq("enqueue", "hello", "--count", "120", "--json")
    for number in range(3):
        run(dev, "verbs", {"verb": "panic", "message": "out of luck"}, "--id", f"unlucky-{number}")
    run(dev, "verbs", {"verb": "reject", "reason": HOSTILE}, "--id", HOSTILE_ID)
    run(dev, "verbs", {"verb": "raw", "text": json.dumps({HOSTILE: [HOSTILE, 1, None]})}, "--id", "hostile-result")
    steps = [{"load": "charge"}, {"save": ["charge", '{"receipt": "r-1"}']}, {"retry-before": 2}]
    run(dev, "verbs", {"verb": "steps", "calls": steps}, "--id", "order-7")
    run(dev, "verbs", {"verb": "enqueue", "task": "hello", "count": 2, "fail": False}, "--id", "parent-1")
    run(dev, "verbs", {"verb": "log", "count": 3}, "--id", "logs-1")
    dev.send({"task": "verbs", "id": "patient-1", "params": {"verb": "retry-after", "seconds": 600, "reason": "later"}})
    dev.send({"task": "verbs", "id": "long-1", "params": {"verb": "sleep", "ms": 20_000}})
    wait_for(lambda: dev.listed("broken") and dev.listed("broken").get("rejected"), "refused upload")


SCHEDULES = """
[[schedule]]
cron = "0 7 * * MON-FRI"
timezone = "Europe/Berlin"
params = { verb = "echo", value = "<script>" }
"""


def test_schedules_are_fired_paused_and_resumed(page, dev):
    go(page, dev, "/schedules")
    expect(page.locator("main")).to_contain_text("No live task has a schedule")
    dev.publish("verbs", settings=SCHEDULES)
    go(page, dev, "/schedules")
    row = page.get_by_role("row", name=re.compile("^verbs "))
    expect(row).to_contain_text("0 7 * * MON-FRI (Europe/Berlin)")
    expect(row).to_contain_text('{"value":"<script>","verb":"echo"}')
    row.get_by_role("button", name="Send now").click()
    page.get_by_role("status").get_by_role("link").click()
    expect(page.locator("h1")).to_contain_text("verbs@20")
    expect(page.locator(".state").first).to_have_text("done")
    go(page, dev, "/schedules")
    row.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_have_text("verbs is paused.")
    expect(row).to_contain_text("paused")
    assert dev.wasq("schedule", "ls", "--json")["schedules"][0]["paused"]
    row.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status")).to_have_text("verbs goes on.")
    assert not dev.wasq("schedule", "ls", "--json")["schedules"][0]["paused"]


def publish_typed(dev):
    """Publishes a task with a schema."""
    properties = {
        "name": {"type": "string", "description": "Who is greeted."},
        "count": {"type": "integer", "default": 3},
        "kind": {"enum": ["new", "old"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
    schema = {"params": {"type": "object", "properties": properties, "required": ["name"]}}
    (dev.tasks / "typed.wasm").write_bytes(with_schema((GUESTS / "hello.wasm").read_bytes(), schema))
    wait_for(lambda: dev.listed("typed")["live"], "live task")


def test_params_that_do_not_fit_the_schema_are_not_sent(page, dev):
    publish_typed(dev)
    go(page, dev, "/tasks/typed")
    expect(page.locator("main")).to_contain_text('"type": "integer"')
    # A field for each param.
    go(page, dev, "/send")
    page.locator("main").get_by_role("link", name="typed").click()
    page.get_by_label("name").fill("Ada")
    expect(page.locator("main")).to_contain_text("Who is greeted.")
    expect(page.locator("main")).to_contain_text("(without one: 3)")
    page.get_by_label("count").fill("many")
    page.get_by_label("kind").select_option("old")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_have_text('count: "many" is no number: expected value at line 1 column 1.')
    expect(page.get_by_label("kind")).to_have_value("old")
    page.get_by_label("count").fill("1.5")
    page.get_by_label("tags").fill('["a"]')
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_have_text("Params: at /count: expected a whole number, got a number: 1.5")
    assert dev.counts() == (0, 0, 0) and dev.wasq("runs", "ls", "--json")["runs"] == []
    page.get_by_label("count").fill("")
    page.get_by_label("Id (").fill("greet-1")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("h1")).to_contain_text("greet-1")
    wait_for(lambda: dev.logged("greet-1", "run begins"), "run")
    # As JSON, the same check.
    go(page, dev, "/send?task=typed")
    page.get_by_role("link", name="Write the params as JSON").click()
    page.get_by_label("Params, as JSON").fill('{"name": "Ada", "count": "many"}')
    page.get_by_role("button", name="Send").click()
    expect(page.locator("main")).to_contain_text('Params: at /count: expected a whole number, got a text: "many"')


def test_every_view(page, dev):
    busy_stack(dev)
    go(page, dev, "/")
    tiles = page.locator(".tile")
    expect(tiles.nth(3)).to_have_text("4dead letters")
    row = page.get_by_role("row", name=re.compile("^hello "))
    expect(row.get_by_role("cell").nth(1)).to_have_text("122")
    expect(page.get_by_role("row", name=re.compile("^broken "))).to_contain_text("refused upload")
    expect(page.locator(".kinds")).to_contain_text("trap 6")
    assert "runs in the last hour" in page.get_by_role("img").first.get_attribute("aria-label")
    page.get_by_role("link", name="Last day").click()
    expect(page.get_by_role("link", name="Last day")).to_have_attribute("aria-current", "true")

    # Filters are in the address, so that a link can be shared.
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_label("State").select_option("dead")
    page.get_by_label("Last failure").select_option("trap")
    page.get_by_role("button", name="Search").click()
    assert "state=dead" in page.url and "kind=trap" in page.url
    expect(page.locator("tbody tr")).to_have_count(3)
    go(page, dev, "/runs?task=hello")
    page.get_by_label("Begun within").select_option("an hour")
    page.get_by_role("button", name="Search").click()
    assert "within=1h" in page.url
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody tr")).to_have_count(22)
    expect(page.get_by_role("link", name="Older")).to_have_count(0)

    go(page, dev, "/runs?id=order-7")
    assert page.url.endswith("/runs/order-7")
    expect(page.locator("h1")).to_contain_text("done")
    expect(page.get_by_role("row", name="charge")).to_contain_text("receipt: \"r-1\"")
    expect(page.locator("main")).to_contain_text("before attempt 2")
    go(page, dev, "/runs/parent-1")
    tree = page.locator("main > .family")
    expect(tree.locator("li li")).to_have_count(2)
    expect(tree.locator("li li").first).to_contain_text("done hello")
    tree.locator("li li a").first.click()
    # The parent stands above.
    expect(page.locator("h1")).to_contain_text("done")
    expect(page.locator("main > .family > li > a")).to_have_text("parent-1")
    expect(page.locator(".family b")).to_have_text("this one")
    page.go_back()
    page.get_by_role("link", name="Those that ran").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    go(page, dev, "/runs/logs-1")
    expect(page.locator(".log")).to_contain_text("line 2")
    expect(page.locator(".log .warn").first).to_be_visible()

    go(page, dev, "/tasks")
    page.get_by_role("link", name="broken").click()
    expect(page.locator("pre.reason")).to_contain_text("was it uploaded whole?")
    go(page, dev, "/tasks/verbs")
    expect(page.locator("main")).to_contain_text("max_attempts = 2")

    go(page, dev, "/dead")
    expect(page.locator("section").first).to_contain_text("3 × verbs trap")
    for path, status in [("/runs/nobody", 404), ("/tasks/nobody", 404), ("/nothing", 404), ("/runs?state=odd", 400), ("/runs?within=odd", 400), ("/runs?before=x", 400)]:
        assert page.request.get(dev.url + path).status == status, path


def test_what_tasks_and_senders_say_is_text(page, dev):
    dev.publish("verbs", settings=SETTINGS)
    run(dev, "verbs", {"verb": "reject", "reason": HOSTILE}, "--id", HOSTILE_ID)
    run(dev, "verbs", {"verb": "raw", "text": json.dumps({HOSTILE: [HOSTILE, 1, None]})}, "--id", "hostile-result")
    run(dev, "verbs", {"verb": "say", "text": HOSTILE, "end": "success"}, "--id", "hostile-log")
    dev.send({"task": "verbs", "id": "long-line", "params": {"verb": "raw", "text": json.dumps("x" * 900_000)}})
    dev.wasq("wait", "long-line", "--json")
    for path in ["/", "/runs", "/runs/hostile-result", "/runs/hostile-log", "/runs/long-line", "/dead"]:
        go(page, dev, path)
        assert "wasq" in page.title() and page.locator("main img, main script").count() == 0, path
        assert "\x1b" not in page.content() and "\u202e" not in page.content(), path
        assert len(page.content()) < 200_000, path
    go(page, dev, "/runs")
    # Its id has every character that means something in an address.
    page.get_by_role("link", name=HOSTILE_ID).click()
    expect(page.locator("h1")).to_contain_text(HOSTILE_ID)
    expect(page.locator("pre.reason")).to_contain_text('<script>document.title="owned"</script>')


def test_acts_have_their_effect(page, dev):
    dev.publish("verbs", settings=SETTINGS)
    page.get_by_role("link", name="Send", exact=True).click()
    page.get_by_label("Task").fill("verbs")
    page.get_by_label("Params").fill('{"verb": "echo", "value": 12}')
    page.get_by_label("Id").fill("sent-1")
    page.get_by_role("button", name="Send").click()
    # The page shows the end by itself.
    expect(page.locator("h1")).to_contain_text("done", timeout=20_000)
    expect(page.locator("#result")).to_contain_text("12")

    dev.send({"task": "verbs", "id": "patient-1", "params": {"verb": "retry-after", "seconds": 600, "reason": "later"}})
    wait_for(lambda: dev.wasq("runs", "show", "patient-1", "--json", code=None).get("run", {}).get("state") == "retrying", "attempt")
    go(page, dev, "/runs/patient-1")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status")).to_contain_text("It is cancelled")
    assert dev.wasq("runs", "show", "patient-1", "--json")["run"]["state"] == "cancelled"

    for number in range(2):
        run(dev, "verbs", {"verb": "reject", "reason": "no such user"}, "--id", f"dead-{number}")
    run(dev, "verbs", {"verb": "reject", "reason": "gone"}, "--id", "dead-2")
    go(page, dev, "/dead")
    # As its author would: see why, publish a new version, and redrive.
    dev.publish("hello", "verbs", settings=SETTINGS)
    page.get_by_role("button", name="Redrive all 2").click()
    expect(page.get_by_role("status")).to_contain_text("2 sent back to the queue")
    state = lambda name: dev.wasq("runs", "show", name, "--json")["run"]["state"]  # noqa: E731
    wait_for(lambda: state("dead-0") == state("dead-1") == "done", "ends of the redriven messages")
    page.get_by_role("button", name="Delete").first.click()
    expect(page.locator("h1")).to_have_text("Delete 1 dead letter?")
    assert dev.counts(dev.dead_letter_url)[0] == 1, "it asks first"
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_role("status")).to_contain_text("1 deleted")
    assert dev.counts(dev.dead_letter_url) == (0, 0, 0)
    # The page says it once.
    page.reload()
    expect(page.get_by_role("status")).to_have_count(0)

    # An id that is done does not run again: the page says so.
    go(page, dev, "/send?task=verbs")
    page.get_by_label("Id").fill("sent-1")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_contain_text("its id was used before")

    # A message may wait longer than SQS lets it.
    go(page, dev, "/send?task=verbs")
    page.get_by_label("Id").fill("later-1")
    page.get_by_label("Delay").fill("2h")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("h1")).to_contain_text("waiting", timeout=20_000)
    waits = dev.wasq("runs", "show", "later-1", "--json")["run"]
    assert (waits["state"], waits["kind"]) == ("waiting", "delayed")


def test_tasks_are_uploaded_brought_back_and_removed(page, dev):
    go(page, dev, "/tasks")
    # Without a task, the file has its name.
    page.locator("input[type=file]").set_input_files(GUESTS / "hello.wasm")
    expect(page.locator("h1")).to_have_text("hello live", timeout=20_000)
    assert run(dev, "hello", "me")["result"]["output"] == {"hello": "me"}
    version = page.locator("tbody tr").first
    expect(version).to_contain_text(f"{(GUESTS / 'hello.wasm').stat().st_size / 1024:.0f} KiB")
    expect(version).to_contain_text("wit-component")
    page.locator("input[type=file]").set_input_files(GUESTS / "verbs.wasm")
    expect(page.locator("tbody tr")).to_have_count(2, timeout=20_000)
    assert run(dev, "hello", {"verb": "echo", "value": 12})["result"]["output"] == 12
    page.get_by_role("button", name="Bring back").click()
    expect(page.locator("tbody tr")).to_have_count(3, timeout=20_000)
    assert run(dev, "hello", "me again")["result"]["output"] == {"hello": "me again"}
    page.get_by_role("button", name="Remove this task").click()
    expect(page.locator("h1")).to_have_text("Remove hello?")
    assert dev.listed("hello")["live"], "it asks first"
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.locator("h1")).to_have_text("hello removed", timeout=20_000)
    page.get_by_role("button", name="Bring back").first.click()
    expect(page.locator("h1")).to_have_text("hello live", timeout=20_000)


def test_uploads_that_cannot_be_are_refused_with_the_reason(page, dev, tmp_path):
    go(page, dev, "/tasks")
    text = tmp_path / "notes.wasm"
    text.write_text("no component")
    page.locator("input[type=file]").set_input_files(text)
    expect(page.get_by_role("status")).to_contain_text("Not uploaded. notes: this is no WebAssembly file")
    (tmp_path / "Not A Name.wasm").write_bytes((GUESTS / "hello.wasm").read_bytes())
    page.locator("input[type=file]").set_input_files(tmp_path / "Not A Name.wasm")
    expect(page.get_by_role("status")).to_contain_text("Not uploaded. Task:")
    (tmp_path / "half.wasm").write_bytes((GUESTS / "hello.wasm").read_bytes()[:3000])
    page.locator("input[type=file]").set_input_files(tmp_path / "half.wasm")
    # The publisher says why, on the page of the task.
    wait_for(lambda: dev.listed("half").get("rejected"), "refusal")
    go(page, dev, "/tasks/half")
    expect(page.locator("pre.reason")).to_contain_text("was it uploaded whole?")
    own = {"cookie": "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in page.context.cookies())}
    for path, body, headers, status in [
        ("/act/rollback", "task=hello&version=1", own, 404),
        ("/act/remove", "task=nobody", own, 404),
        ("/act/upload?task=../../hello", b"\0asm", own, 400),
        ("/act/upload?task=hello", b"\0asm", {}, 401),
    ]:
        connection = http.client.HTTPConnection(dev.url.removeprefix("http://"), timeout=30)
        connection.request("POST", path, body, headers)
        assert connection.getresponse().status == status, path
        connection.close()
    assert sorted(path.name for path in dev.tasks.iterdir()) == ["half.wasm"]


def test_the_requests_of_a_run(page, dev, echo):
    dev.publish("verbs", settings=f'allow_hosts = ["http://{echo.authority}"]\n')
    run(dev, "verbs", {"verb": "fetch", "url": f"http://{echo.authority}/path?secret=1"}, "--id", "asks")
    run(dev, "verbs", {"verb": "fetch", "url": "http://denied.test/"}, "--id", "denied")
    go(page, dev, "/runs/asks")
    stages = page.get_by_role("region", name="Stages").locator("tbody tr")
    expect(stages).to_have_count(1)
    expect(stages.locator("td")).to_have_text([re.compile("^1$")] + 5 * [re.compile(r"^[\d.]+ m?s$")])
    requests = page.get_by_role("region", name="Requests")
    expect(requests.locator("tbody tr")).to_have_count(1)
    expect(requests).to_contain_text(f"http://{echo.authority}200")
    expect(requests).not_to_contain_text("secret=1")
    go(page, dev, "/runs/denied")
    expect(requests).to_contain_text("http://denied.testnone")


def test_a_dead_letter_is_mended_and_sent(page, dev):
    dev.publish("verbs", settings=SETTINGS)
    run(dev, "verbs", {"verb": "reject", "reason": "no such user"}, "--id", "dead-1")
    go(page, dev, "/dead")
    page.get_by_text("Letters", exact=True).click()
    page.get_by_role("link", name="Edit and send").click()
    expect(page.get_by_label("Params")).to_have_value('{"verb": "reject", "reason": "no such user"}')
    page.get_by_label("Params").fill('{"verb": "echo", "value": "mended"}')
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#result")).to_contain_text("mended", timeout=20_000)
    assert dev.counts(dev.dead_letter_url) == (0, 0, 0)


def runs(dev):
    return dev.wasq("runs", "ls", "--json")["runs"]


def ended(dev):
    """The number of runs when the queue is empty."""
    wait_for(lambda: dev.counts() == (0, 0, 0), "an empty queue")
    return len(runs(dev))


def test_a_run_is_made_again(page, dev):
    dev.publish("verbs", settings=SETTINGS)
    params = {"verb": "echo", "value": "it's"}
    run(dev, "verbs", params, "--id", "first")
    go(page, dev, "/runs/first")
    expect(page.locator("#params")).to_contain_text("it's")
    page.get_by_text("The same on your machine").click()
    words = shlex.split(page.locator(".command pre").text_content())
    assert words[:3] == ["wasq", "run", "./verbs.wasm"] and len(words) == 4
    assert json.loads(words[3].removeprefix("--params=")) == params
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert shlex.split(page.evaluate("navigator.clipboard.readText()")) == words
    # Twice in a row is once.
    page.get_by_role("button", name="Run again").dblclick()
    expect(page).to_have_url(re.compile("sent="))
    expect(page.locator("#result")).to_contain_text("it's")
    assert ended(dev) == 2
    go(page, dev, "/runs/first")
    page.get_by_role("button", name="Run again").click()
    expect(page).to_have_url(re.compile("sent="))
    assert ended(dev) == 3
    assert page.request.post(dev.url + "/act/again", form={"id": "nobody"}).status == 404
    run(dev, "verbs", {"verb": "echo", "value": "x" * 9000}, "--id", "large")
    go(page, dev, "/runs/large")
    expect(page.locator("main")).to_contain_text("They are not kept: they are too large")
    expect(page.get_by_role("button", name="Run again")).to_have_count(0)
    assert page.request.post(dev.url + "/act/again", form={"id": "large"}).status == 400


def test_a_form_that_is_sent_twice_acts_once(page, dev):
    dev.publish("verbs", settings=SETTINGS)
    for number in (1, 2):
        go(page, dev, "/send?task=verbs")
        page.get_by_label("Params").fill('{"verb": "echo", "value": 12}')
        page.get_by_role("button", name="Send").dblclick()
        expect(page.locator("h1")).to_contain_text("done")
        assert ended(dev) == number
    run(dev, "verbs", {"verb": "reject", "reason": "no such user"}, "--id", "dead-1")
    go(page, dev, "/dead")
    page.get_by_text("Letters", exact=True).click()
    page.get_by_role("link", name="Edit and send").click()
    page.get_by_label("Params").fill('{"verb": "echo", "value": "mended"}')
    page.get_by_role("button", name="Send").dblclick()
    expect(page.locator("#result")).to_contain_text("mended")
    assert ended(dev) == 4 and dev.counts(dev.dead_letter_url) == (0, 0, 0)


def test_a_form_of_an_earlier_version_is_not_sent(page, dev):
    publish_typed(dev)
    go(page, dev, "/send?task=typed")
    page.get_by_label("name").fill("Ada")
    schema = {"params": {"type": "object", "properties": {"who": {"type": "string"}}}}
    (dev.tasks / "typed.wasm").write_bytes(with_schema((GUESTS / "hello.wasm").read_bytes(), schema))
    wait_for(lambda: dev.listed("typed")["live"]["version"] == 2, "the next version")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was sent")
    assert runs(dev) == [] and dev.counts() == (0, 0, 0)
    page.get_by_label("who").fill("Ada")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("h1")).to_contain_text("done")


def test_the_queue_is_paused_and_goes_on(page, dev):
    dev.publish("verbs", settings=SETTINGS)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_contain_text("no more messages are taken from the queue")
    assert dev.wasq("top", "--json")["paused"]
    dev.send({"task": "verbs", "id": "patient", "params": {"verb": "echo", "value": 1}})
    # Another receiver gets it, because the stack does not take it.
    received = dev.sqs.receive_message(QueueUrl=dev.queue_url, WaitTimeSeconds=2, VisibilityTimeout=0)
    assert len(received["Messages"]) == 1
    assert runs(dev) == []
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status")).to_have_count(0)
    wait_for(lambda: [run["state"] for run in runs(dev)] == ["done"], "the end of the message")


def test_the_numbers_go_on_after_a_restart(page, dev):
    dev.publish("verbs", settings=SETTINGS)
    run(dev, "verbs", {"verb": "echo", "value": 1})
    run(dev, "verbs", {"verb": "panic", "message": "out of luck"})
    dev.stop()
    dev.start()
    run(dev, "verbs", {"verb": "echo", "value": 1})
    page.goto(dev.page)
    row = page.get_by_role("row", name=re.compile("^verbs "))
    expect(row.get_by_role("cell").nth(1)).to_have_text("2")
    expect(row.get_by_role("cell").nth(2)).to_have_text("2")
    expect(page.locator(".kinds")).to_contain_text("trap 2")


def test_what_happens_is_shown_at_once(page, dev):
    dev.publish("verbs", settings=SETTINGS)
    go(page, dev, "/runs")
    for name in ["first", "second", "third"]:
        run(dev, "verbs", {"verb": "echo", "value": 1}, "--id", name)
        expect(page.get_by_role("link", name=name)).to_be_visible(timeout=3000)
    # Not while the reader fills in a form.
    page.get_by_label("Id, or id").focus()
    run(dev, "verbs", {"verb": "echo", "value": 1}, "--id", "fourth")
    page.wait_for_timeout(2500)
    expect(page.get_by_role("link", name="fourth")).to_have_count(0)
    page.get_by_label("Id, or id").blur()
    expect(page.get_by_role("link", name="fourth")).to_be_visible(timeout=3000)


@pytest.mark.parametrize("name", [".", "..", "a/../b", "%2e", "+?&=#"])
def test_any_id_has_a_page(page, dev, name):
    dev.publish("verbs", settings=SETTINGS)
    run(dev, "verbs", {"verb": "echo", "value": 1}, "--id", name)
    go(page, dev, "/runs")
    page.locator("td.id a").click()
    expect(page.locator("h1")).to_have_text(f"done {name}")


def test_many_dead_letters(page, dev):
    dev.publish("verbs", settings=SETTINGS)
    large = "x" * 200_000
    entries = [{"Id": str(i), "MessageBody": json.dumps({"task": "nobody", "params": [i, large]})} for i in range(2)]
    assert not dev.sqs.send_message_batch(QueueUrl=dev.dead_letter_url, Entries=entries).get("Failed")
    for first in range(0, 300, 10):
        entries = [{"Id": str(i), "MessageBody": json.dumps({"task": f"nobody-{first + i}", "params": i})} for i in range(10)]
        dev.sqs.send_message_batch(QueueUrl=dev.dead_letter_url, Entries=entries)
    go(page, dev, "/dead")
    expect(page.locator("section")).to_have_count(301)
    expect(page.locator("article")).to_have_count(60)
    assert len(page.content()) < 1_000_000
    page.locator("section").first.get_by_role("button", name="Redrive all 2").click()
    expect(page.get_by_role("status")).to_contain_text("2 sent back")
    assert dev.counts(dev.dead_letter_url)[0] == 300


def test_wrong_input_is_named_and_kept(page, dev):
    dev.publish("hello")
    go(page, dev, "/send?task=hello")
    page.get_by_label("Params").fill('{"user": ')
    page.get_by_label("Delay").fill("soon")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("Params: not JSON")
    expect(page.get_by_label("Params")).to_have_value('{"user": ')
    page.get_by_label("Params").fill("{}")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text('Delay: "soon" is no duration such as "30s", "15m" or "500ms"')
    page.get_by_label("Delay").fill("400d")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("Delay: a message can wait for 366 days at most.")
    assert dev.counts() == (0, 0, 0)


def test_only_who_has_the_token_sees_the_page(dev):
    dev.publish("hello")
    address = dev.url.removeprefix("http://")
    token = dev.page.split("token=")[1]
    port = address.split(":")[1]

    def ask(method, path, headers={}, body=None):
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer, answer.read().decode()

    for path in ["/", "/runs", "/dead", "/events", "/?token=wrong", f"/?token={token[:-1]}"]:
        answer, text = ask("GET", path)
        assert answer.status == 401 and "hello" not in text, path
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert ask("POST", "/act/send", form, "task=hello&params={}")[0].status == 401
    answer, _ = ask("GET", f"/runs?task=hello&token={token}")
    assert (answer.status, answer.headers["location"]) == (303, "/runs?task=hello")
    assert ask("GET", f"//evil.test/?token={token}")[0].headers["location"] == "/evil.test/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    own = {"cookie": f"wasq-page-{port}={token}"}
    answer, text = ask("GET", "/", own)
    assert answer.status == 200 and "hello" in text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    # With the token, but from elsewhere: another name for this machine, and the page of another site.
    answer, text = ask("GET", "/", own | {"host": "evil.test", "accept": "text/html"})
    assert (answer.status, answer.headers["content-type"]) == (403, "text/html; charset=utf-8") and "evil.test" in text
    for more in [{"host": "evil.test"}, {"origin": "http://evil.test"}, {"sec-fetch-site": "cross-site"}]:
        assert ask("GET", "/", own | more)[0].status == 403, more
        assert ask("POST", "/act/send", own | form | more, "task=hello&params={}")[0].status == 403, more
    assert dev.counts() == (0, 0, 0)
    # The token stays the same, and nobody else can read it.
    assert (dev.folder / ".wasq" / "page-token").stat().st_mode & 0o077 == 0


def test_the_page_works_without_its_script(browser, dev):
    dev.publish("hello")
    run(dev, "hello", {"from": "a reader"}, "--id", "plain-1")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(dev.page)
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("link", name="plain-1").click()
    expect(page.locator("#result")).to_contain_text("a reader")
    expect(page.locator("time").first).to_contain_text(re.compile(r"^20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ$"))
    context.close()


def test_every_view_fits_each_screen_and_is_accessible(browser, dev):
    """Also makes the pictures."""
    busy_stack(dev)
    publish_typed(dev)
    PICTURES.mkdir(parents=True, exist_ok=True)
    views = {"overview": "/", "runs": "/runs", "run": "/runs/order-7", "tasks": "/tasks", "task": "/tasks/verbs", "schedules": "/schedules", "dead": "/dead", "send": "/send", "fields": "/send?task=typed"}
    for width, (w, h) in WIDTHS.items():
        for scheme in ["light", "dark"]:
            context = browser.new_context(viewport={"width": w, "height": h}, color_scheme=scheme)
            page = context.new_page()
            page.goto(dev.page)
            for view, path in views.items():
                go(page, dev, path)
                expect(page.locator("h1")).to_be_visible()
                found = Axe().run(page).response["violations"]
                assert found == [], (view, width, scheme, [(rule["id"], rule["nodes"][0]["html"]) for rule in found])
                # Only tables scroll to the side.
                assert page.evaluate("document.documentElement.scrollWidth") <= w, (view, width)
                page.screenshot(path=PICTURES / f"{view}-{width}-{scheme}.png", full_page=True)
            context.close()


def test_the_pictures_of_the_readme(browser, dev, github):
    """Made by `cargo xtask pictures`: the seed's tasks, a run with its requests, and what failed."""
    for task in ("github_users", "github_repositories"):
        (dev.tasks / f"{task}.toml").write_text(github_settings(task, github))
        shutil.copy(ROOT / "target/guests/wasm32-wasip2/release" / f"{task}.wasm", dev.tasks / f"{task}.wasm")
    dev.publish("verbs", "send_invoice", settings=SETTINGS)
    wait_for(lambda: dev.listed("github_users")["live"] and dev.listed("github_repositories")["live"], "live tasks")
    for user in ("javimb", "octocat"):
        dev.wasq("enqueue", "github_repositories", "--params", json.dumps({"user": user}), "--id", f"repositories-of-{user}", "--json")
    dev.wasq("enqueue", "github_users", "--params", json.dumps({"city": "Madrid"}), "--id", "users-in-madrid", "--json")
    for number in range(3):
        dev.send({"task": "send_invoice", "id": f"invoice-{1040 + number}", "params": {"verb": "panic", "message": "no address: customer 77"}})
    dev.send({"task": "send_invoice", "id": "invoice-1043", "params": {"verb": "reject", "reason": "the amount is negative"}})
    dev.send({"task": "send_invoice", "id": "invoice-1044", "params": {"verb": "retry-after", "seconds": 600, "reason": "the bank is closed"}})
    wait_for(lambda: dev.counts(dev.dead_letter_url)[0] == 4 and dev.counts()[0] == 0, "the ends")
    PICTURES.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport={"width": 1100, "height": 640}, color_scheme="light")
    page = context.new_page()
    page.goto(dev.page)
    for name, path in {"runs": "/runs", "run": "/runs/repositories-of-javimb", "dead": "/dead"}.items():
        go(page, dev, path)
        expect(page.locator("h1")).to_be_visible()
        page.wait_for_timeout(300)
        picture = PICTURES / f"readme-{name}.png"
        page.screenshot(path=picture)
        assert picture.stat().st_size < 150_000
    expect(page.locator("section").first).to_contain_text("no address: customer 77")
    context.close()
