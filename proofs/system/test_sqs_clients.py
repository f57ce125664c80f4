"""Other clients of SQS than the tests' own. Those from before November 2023 speak its older protocol: a form in, XML out."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import debian
from conftest import ROOT, wait_for


def environment(folder, wanted):
    """A Python environment in target/, with these packages."""
    folder = ROOT / "target" / folder
    stamp = folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *wanted.split()]
        subprocess.run(install, check=True, timeout=300)
        stamp.write_text(wanted)
    return folder / "bin"


def test_everything_about_the_endpoint_with_an_older_boto3():
    """The same tests, and the same table, over the older protocol: boto3 1.26 knows nothing of the JSON protocol."""
    older = environment("python-older", "boto3==1.26.165 pytest==9.2.0")
    done = subprocess.run(
        [older / "python", "-m", "pytest", "-q", "--rootdir", ".", "test_sqs_endpoint.py", "test_sqs_table.py"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-8000:]


# The answer of each program in clients/, when it has sent, received and deleted.
SAID = {
    "digest": True,
    "body": True,
    "attributes": ["v<", "00ff"],
    "receives": "1",
    "batch": ["a", "b", "InvalidParameterValue", True],
    "error": "QueueDoesNotExist",
    "visibility": "7",
}
CLIENTS = Path(__file__).parent / "clients"


def said(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


@pytest.mark.parametrize("version, program", [("@aws-sdk/client-sqs@3.438.0", "v3.mjs"), ("aws-sdk@2.1450.0", "v2.mjs")])
def test_older_sdks_of_javascript(dev, tmp_path, version, program):
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", version]
    (tmp_path / "package.json").write_text('{ "private": true, "type": "module" }')
    subprocess.run(install, cwd=tmp_path, check=True, timeout=300)
    shutil.copy(CLIENTS / program, tmp_path)
    assert said(["node", program, dev.url], cwd=tmp_path) == SAID


def test_an_older_sdk_of_go(dev):
    folder = debian.unpacked(
        "go-older",
        "golang-github-aws-aws-sdk-go-v2-dev golang-github-aws-smithy-go-dev golang-github-jmespath-go-jmespath-dev",
    )
    # Debian's packages are for Go without modules.
    variables = {
        "PATH": f"{ROOT / 'target' / 'toolchains' / 'bin'}:/usr/bin:/bin",
        "GO111MODULE": "off",
        "GOPATH": str(folder / "usr/share/gocode"),
        "GOCACHE": str(ROOT / "target" / "go-cache"),
        "HOME": "/nonexistent",
    }
    assert said(["go", "run", CLIENTS / "main.go", dev.url], env=variables) == SAID


def test_async_aws_of_php(dev):
    folder = debian.unpacked("php", "php-cli php-async-aws-sqs")
    [extensions] = (folder / "usr/lib/php").glob("2*")
    loaded = [word for name in ("tokenizer", "dom", "simplexml", "xml") for word in ("-d", f"extension={name}")]
    php = [folder / "usr/bin/php8.2", "-n", "-d", f"extension_dir={extensions}", *loaded]
    variables = {"LD_LIBRARY_PATH": debian.libraries(folder), "PATH": "/usr/bin:/bin"}
    assert said([*php, CLIENTS / "send.php", folder, dev.url], env=variables) == SAID


def test_celery(dev, tmp_path):
    """Celery sends, and its worker receives and deletes, with kombu's transport."""
    programs = environment("python-celery", "celery==5.7.0 kombu[sqs]==5.7.0")
    shutil.copy(CLIENTS / "celery_app.py", tmp_path / "app.py")
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ENDPOINT": dev.url, "DONE": str(tmp_path / "done")}
    worker = subprocess.Popen(
        [programs / "celery", "-A", "app", "worker", "--pool", "solo", "--without-mingle", "--without-gossip"],
        cwd=tmp_path,
        env=variables,
        stdout=open(tmp_path / "log", "w"),
        stderr=subprocess.STDOUT,
    )
    try:
        subprocess.run([programs / "python", "app.py"], cwd=tmp_path, env=variables, check=True, timeout=60)
        done = lambda: sorted((tmp_path / "done").read_text().split()) if (tmp_path / "done").exists() else []  # noqa: E731
        wait_for(lambda: done() == sorted(str(n * n) for n in range(20)), "20 tasks", 60)
        queue = dev.sqs.get_queue_url(QueueName="celery")["QueueUrl"]
        wait_for(lambda: dev.counts(queue) == (0, 0, 0), "empty queue")
    finally:
        worker.kill()
        worker.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()
