"""The packages of PyPI that tasks use most and that are pure Python: each is imported, and does one real thing.

The rows of HTTP get the answer `{"n": 5}` from https://api.example.com/x.
"""

import datetime

import attr
import bs4
import certifi
import charset_normalizer
import click
import colorama
import dateutil.parser
import dateutil.tz
import decorator
import html5lib
import httpx
import idna
import itsdangerous
import jinja2
import jmespath
import jwt
import markdown
import markupsafe
import more_itertools
import packaging.version
import pygments
import pygments.formatters
import pygments.lexers
import pyparsing
import pytz
import requests
import six
import sortedcontainers
import tabulate
import tomli
import tqdm
import typing_extensions
import urllib3
import werkzeug.security
import yaml

from wasq_task import task

URL = "https://api.example.com/x"
JULY = datetime.datetime(2024, 7, 1, 12)


def _attrs():
    @attr.define
    class Point:
        x: int = attr.field(validator=attr.validators.instance_of(int))

    return attr.asdict(Point(3))


def _click():
    from click.testing import CliRunner

    command = click.Command("hi", params=[click.Option(["--name"])], callback=lambda name: click.echo(f"hi {name}"))
    return CliRunner().invoke(command, ["--name", "Ada"]).output


def _requests_session():
    session = requests.Session()
    session.headers["x-from"] = "row"
    adapter = requests.adapters.HTTPAdapter(max_retries=urllib3.Retry(2, backoff_factor=0))
    session.mount("https://", adapter)
    return session.post(URL, json={"a": 1}, auth=("me", "pass"), timeout=5).status_code


def _urllib_request():
    import urllib.request

    request = urllib.request.Request(URL, data=b"a=1", headers={"x-a": "1"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return [response.status, response.read().decode()]


def _http_client():
    import http.client

    connection = http.client.HTTPSConnection("api.example.com")
    connection.request("GET", "/x", headers={"accept": "application/json"})
    response = connection.getresponse()
    return [response.status, response.getheader("content-type"), response.read().decode()]


def _denied():
    try:
        requests.get("https://elsewhere.test/")
    except requests.ConnectionError as error:
        return "add \"https://elsewhere.test\"" in str(error)


def _not_http():
    import socket

    with socket.create_connection(("db.example.com", 5432)) as connection:
        connection.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
        try:
            connection.recv(1)
        except OSError as error:
            return str(error)


def _boto3():
    import boto3

    client = boto3.client("sqs", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b", endpoint_url=URL)
    return client.meta.service_model.service_name


def _pygments():
    return pygments.highlight("x = 1", pygments.lexers.get_lexer_by_name("python"), pygments.formatters.HtmlFormatter(nowrap=True))


def _template():
    environment = jinja2.Environment(loader=jinja2.PackageLoader("pages"), autoescape=True)
    return environment.get_template("hello.html").render(name="<Ada>", items=[1, 2])


ROWS = {
    "requests": lambda: requests.get(URL, params={"q": "é"}, headers={"x-a": "1"}).json(),
    "requests.session": _requests_session,
    "requests.denied": _denied,
    "httpx": lambda: httpx.get(URL, timeout=5).json(),
    "httpx.client": lambda: _httpx_client(),
    "urllib3": lambda: urllib3.request("GET", URL).json(),
    "urllib.request": _urllib_request,
    "http.client": _http_client,
    "socket": _not_http,
    "boto3": _boto3,
    "certifi": lambda: open(certifi.where()).read().count("BEGIN CERTIFICATE") > 100,
    "charset_normalizer": lambda: charset_normalizer.from_bytes("Grüße aus München, schöne Straße".encode("cp1252")).best() is not None,
    "idna": lambda: idna.encode("bücher.example").decode(),
    "dateutil.parser": lambda: dateutil.parser.parse("1 July 2024 12:00 +0200").isoformat(),
    "dateutil.tz": lambda: JULY.replace(tzinfo=dateutil.tz.gettz("Europe/Berlin")).isoformat(),
    "pytz": lambda: pytz.timezone("Europe/Berlin").localize(JULY).isoformat(),
    "six": lambda: six.ensure_str(b"x"),
    "packaging": lambda: str(packaging.version.Version("1.10") > packaging.version.Version("1.9")),
    "attrs": _attrs,
    "typing_extensions": lambda: typing_extensions.get_overloads(_attrs),
    "click": _click,
    "jinja2": lambda: jinja2.Template("{% for x in xs %}{{ x|upper }}{% endfor %}").render(xs="ab"),
    "jinja2.package": _template,
    "markupsafe": lambda: str(markupsafe.escape("<a>")),
    "yaml": lambda: yaml.safe_load(yaml.safe_dump({"a": [1, "ä", None]})),
    "jmespath": lambda: jmespath.search("a[?b>`1`].b", {"a": [{"b": 1}, {"b": 2}]}),
    "pyparsing": lambda: pyparsing.Word(pyparsing.nums).parse_string("123").as_list(),
    "pygments": _pygments,
    "markdown": lambda: markdown.markdown("# a\n\n| x | y |\n|---|---|\n| 1 | 2 |", extensions=["tables"]),
    "bs4": lambda: [each["href"] for each in bs4.BeautifulSoup("<a href=x>1</a><a href=y>", "html.parser").select("a[href]")],
    "html5lib": lambda: bs4.BeautifulSoup("<p>a<p>b", "html5lib").body.decode(),
    "html5lib.tree": lambda: html5lib.parse("<p>a").tag,
    "tabulate": lambda: tabulate.tabulate([[1, 2]], headers=["a", "b"], tablefmt="github"),
    "tomli": lambda: tomli.loads("a = 1"),
    "colorama": lambda: colorama.Fore.RED,
    "tqdm": lambda: list(tqdm.tqdm([1, 2], disable=True)),
    "decorator": lambda: decorator.decorator(lambda f, *a: f(*a) + 1)(lambda x: x)(1),
    "more_itertools": lambda: list(more_itertools.chunked(range(5), 2)),
    "sortedcontainers": lambda: list(sortedcontainers.SortedList([3, 1, 2])),
    "jwt": lambda: jwt.decode(jwt.encode({"a": 1}, "k" * 32, algorithm="HS256"), "k" * 32, algorithms=["HS256"]),
    "itsdangerous": lambda: itsdangerous.Signer("k").unsign(itsdangerous.Signer("k").sign("x")).decode(),
    "werkzeug": lambda: werkzeug.security.safe_join("/a", "b"),
    "importlib.metadata": lambda: _version(),
}


def _version():
    from importlib.metadata import distribution

    return distribution("requests").metadata["name"]


def _httpx_client():
    with httpx.Client(headers={"x-a": "1"}) as client:
        return client.post(URL, data={"a": "1"}).json()


@task
def run(row: str):
    return ROWS[row]()
