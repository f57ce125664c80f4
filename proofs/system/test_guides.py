"""The guides for task authors, word for word: the test saves each file and types each command."""

import hashlib
import json
import re

import pytest

from conftest import LANGUAGES, ROOT, wait_for

pytestmark = pytest.mark.authors

# A file to save has its name above it. Every other block is shell commands to type.
PARTS = re.compile(r"(?:^`(?P<file>hello/\S+)`\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_guide_word_for_word(author, language):
    guide = (ROOT / "docs" / f"{language}.md").read_text()
    typed, saved = [], []
    for part in PARTS.finditer(guide):
        file, kind, text = part["file"], part["kind"], part["text"]
        if file:
            (author.folder / file).write_text(text)
            saved.append(file)
        elif kind == "sh":
            typed += follow(author, text)
        else:
            pytest.fail(f"a block that is neither saved nor typed: {text}")
    assert len(saved) == 3 and {"wasq new", "wasq test", "wasq dev", "wasq enqueue", "wasq check"} <= set(typed)

    # The last saved version is live. The `wasq dev` that the guide left running has built it.
    built = hashlib.sha256((author.folder / "hello/build/hello.wasm").read_bytes()).hexdigest()
    live = wait_for(lambda: (t := author.live("hello")) and t["version"] > 1 and t, "a second version", 120)
    if language not in ("python", "javascript", "typescript"):  # These two builders are not reproducible.
        assert live["digest"] == built
    assert live["settings"]["allow_hosts"] == ["https://api.github.com"]


def test_the_guide_of_what_must_not_happen_twice(author):
    guide = (ROOT / "docs" / "once.md").read_text()
    parts = re.compile(r"^`(?P<file>order/\S+)`\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
    [new, test] = re.findall(r"^```sh\n(wasq .*)\n```$", guide, re.MULTILINE)
    author.shell(new)
    saved = {part["file"]: part["text"] for part in parts.finditer(guide)}
    for file, text in saved.items():
        (author.folder / file).write_text(text)
    assert list(saved) == ["order/task.py", "order/order.toml", "order/tests.toml"]
    assert "3 tests of order, 0 failed" in author.shell(test)


def follow(author, text):
    """Types a block of commands; returns the first two words of each."""
    for command in text.splitlines():
        if command == "wasq dev hello":
            # Any free port, because others may be running here.
            author.dev("hello")
            continue
        printed = author.shell(command)
        if command == "wasq test hello":
            count = re.search(r"^(\d+) tests of hello, 0 failed$", printed, re.MULTILINE)
            assert count and int(count[1]) in (2, 3), printed
        elif command.startswith("wasq enqueue"):
            assert json.loads(printed) == {"greeting": "Hello, Ada!"}
        elif command.startswith("wasq check"):
            assert printed.startswith("fits "), printed
    return [" ".join(command.split()[:2]) for command in text.splitlines()]
