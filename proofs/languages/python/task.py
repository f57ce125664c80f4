"""The expectations of Python's authors: one row for each thing. The test runs each row here and in CPython, and compares.

Each row imports what it needs only when it is called, so a row fails if the component does not have the module.
"""

import asyncio
import enum
from importlib import import_module

import early
from wasq_task import task

TEXT = "Grüße, 世界 😀"


def _archive():
    io, zipfile = import_module("io"), import_module("zipfile")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ä.txt", "hi")
    return [(each.filename, zipfile.ZipFile(data).read(each).decode()) for each in zipfile.ZipFile(data).infolist()]


def _tar():
    io, tarfile = import_module("io"), import_module("tarfile")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"hi"))
    data.seek(0)
    return tarfile.open(fileobj=data).extractfile("a.txt").read().decode()


def _mail():
    message = import_module("email.message").EmailMessage()
    message["Subject"], message["From"], message["To"] = "Grüße", "a@example.com", "Zoë <z@example.com>"
    message.set_content("Hällo")
    message.add_attachment(b"\x00\x01", maintype="application", subtype="octet-stream", filename="a.bin")
    parsed = import_module("email").message_from_bytes(message.as_bytes(), policy=import_module("email.policy").default)
    return [str(parsed["subject"]), str(parsed["to"]), parsed.get_body().get_content(), parsed.get_content_type()]


def _sax():
    handler = import_module("xml.sax.handler").ContentHandler()
    seen = []
    handler.startElement = lambda name, attributes: seen.append((name, dict(attributes)))
    import_module("xml.sax").parseString(b'<?xml version="1.0" encoding="windows-1252"?><a x="1"><b/></a>', handler)
    return seen


def _sqlite():
    connection = import_module("sqlite3").connect(":memory:")
    connection.executescript("create table t(a, b text); insert into t values (1, 'x'), (2, 'y')")
    return connection.execute("select sum(a), group_concat(b) from t").fetchall()


def _rows_of_csv():
    io, csv = import_module("io"), import_module("csv")
    out = io.StringIO()
    csv.writer(out).writerows([["a", 'b "c"'], [1, "x,y"]])
    return [out.getvalue(), list(csv.DictReader(io.StringIO("n,v\r\n1,ä\r\n")))]


def _config():
    parser = import_module("configparser").ConfigParser()
    parser.read_string("[a]\nx = 1\ny = %(x)s2\n")
    return dict(parser["a"])


def _html():
    base = import_module("html.parser").HTMLParser

    class Links(base):
        found = []

        def handle_starttag(self, tag, attrs):
            self.found.append((tag, attrs))

    Links().feed('<a href="/x&amp;y">z</a>')
    return Links.found


def _dataclass():
    dataclasses = import_module("dataclasses")
    kind = dataclasses.make_dataclass("Point", [("x", int), ("y", int, dataclasses.field(default=2))])
    return [dataclasses.asdict(kind(1)), repr(dataclasses.replace(kind(1), y=3))]


def _gather():
    async def one(n):
        await asyncio.sleep(0.001 * (3 - n))
        return n

    async def many():
        async with asyncio.timeout(5):
            return await asyncio.gather(*(one(n) for n in range(3)))

    return asyncio.run(many())


def _group():
    async def many():
        queue = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(queue.put(1))
            got = group.create_task(queue.get())
        return got.result()

    return asyncio.run(many())


def _timed_out():
    async def wait():
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except TimeoutError:
            return "timed out"

    return asyncio.run(wait())


def _generator():
    contextlib = import_module("contextlib")
    seen = []

    @contextlib.contextmanager
    def within():
        seen.append("in")
        yield
        seen.append("out")

    with within(), contextlib.suppress(ValueError):
        raise ValueError
    return seen


def _formatted_log():
    io, logging = import_module("io"), import_module("logging")
    out = io.StringIO()
    logger = logging.Logger("row")
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    logger.addHandler(handler)
    logger.warning("%s things", 3)
    return out.getvalue()


def _configured_log():
    import_module("logging.config").dictConfig(
        {"version": 1, "disable_existing_loggers": False, "formatters": {"f": {"format": "%(message)s"}}}
    )
    return "configured"


def _exception_group():
    try:
        raise ExceptionGroup("all", [ValueError("a"), TypeError("b")])
    except* ValueError as group:
        found = [str(error) for error in group.exceptions]
    except* TypeError:
        pass
    return found


def _template():
    return import_module("string").Template("$who pays $$1").substitute(who="Ada")


def _pickled():
    pickle = import_module("pickle")
    return pickle.loads(pickle.dumps({"a": [1, (2, 3)], "b": {4}, "c": TEXT}))


def _mimetype():
    return import_module("mimetypes").guess_type("a.json")[0]


def _temporary():
    with import_module("tempfile").SpooledTemporaryFile() as file:
        file.write(b"abc")
        file.seek(1)
        return file.read()


def _typed():
    typing = import_module("typing")

    class Movie(typing.TypedDict, total=False):
        name: str

    return [str(typing.get_type_hints(Movie)), typing.get_origin(list[int]).__name__]


def _match(value):
    match value:
        case {"kind": "a", "n": int(n)} if n > 1:
            return n
        case [first, *rest]:
            return [first, rest]
        case _:
            return None


def _frozen_time():
    return import_module("time").time() > 1_700_000_000


def _different():
    return import_module("random").random() != import_module("random").random()


class Colour(enum.Enum):
    RED = "red"


ROWS = {
    # ---- Dates and times ----
    "datetime.strptime": lambda: import_module("datetime").datetime.strptime("2024-03-01", "%Y-%m-%d").isoformat(),
    "datetime.strftime": lambda: import_module("datetime").datetime(2024, 3, 1).strftime("%A %d %B %Y"),
    "datetime.fromisoformat": lambda: import_module("datetime").datetime.fromisoformat("2024-03-01T12:00:00+02:00").isoformat(),
    "datetime.timedelta": lambda: str(import_module("datetime").timedelta(days=1.5)),
    "time.strptime": lambda: list(import_module("time").strptime("1 Jan 24", "%d %b %y"))[:6],
    "time.gmtime": lambda: import_module("time").strftime("%Y", import_module("time").gmtime(0)),
    "time.now": _frozen_time,
    "zoneinfo.summer": lambda: import_module("datetime").datetime(2024, 7, 1, tzinfo=import_module("zoneinfo").ZoneInfo("Europe/Berlin")).isoformat(),
    "zoneinfo.winter": lambda: import_module("datetime").datetime(2024, 1, 1, tzinfo=import_module("zoneinfo").ZoneInfo("America/New_York")).isoformat(),
    "zoneinfo.old": lambda: import_module("datetime").datetime(1890, 1, 1, tzinfo=import_module("zoneinfo").ZoneInfo("Europe/Madrid")).isoformat(),
    "zoneinfo.missing": lambda: _raised(lambda: import_module("zoneinfo").ZoneInfo("Mars/Olympus")),
    "zoneinfo.names": lambda: "Asia/Tokyo" in import_module("zoneinfo").available_timezones(),
    "calendar": lambda: import_module("calendar").TextCalendar().formatmonth(2024, 2),
    "calendar.names": lambda: list(import_module("calendar").month_name)[:3],
    # ---- Collections and numbers ----
    "collections.Counter": lambda: import_module("collections").Counter("aba").most_common(1),
    "collections.deque": lambda: list(import_module("collections").deque([1, 2, 3], maxlen=2)),
    "collections.OrderedDict": lambda: list(import_module("collections").OrderedDict(b=1, a=2)),
    "collections.ChainMap": lambda: dict(import_module("collections").ChainMap({"a": 1}, {"a": 2, "b": 3})),
    "collections.namedtuple": lambda: repr(import_module("collections").namedtuple("P", "x y")(1, 2)),
    "heapq": lambda: import_module("heapq").nsmallest(2, [3, 1, 2]),
    "bisect": lambda: import_module("bisect").bisect_left([1, 3, 5], 4),
    "array": lambda: import_module("array").array("d", [1, 2.5]).tolist(),
    "itertools": lambda: list(import_module("itertools").batched("abcde", 2)) if hasattr(import_module("itertools"), "batched") else [("a", "b"), ("c", "d"), ("e",)],
    "functools": lambda: import_module("functools").reduce(lambda a, b: a * b, range(1, 6)),
    "functools.cache": lambda: import_module("functools").cache(lambda n: n + 1)(1),
    "operator": lambda: import_module("operator").attrgetter("real")(3),
    "decimal": lambda: str(import_module("decimal").Decimal("0.1") + import_module("decimal").Decimal("0.2")),
    "decimal.context": lambda: str(import_module("decimal").getcontext().prec),
    "fractions": lambda: str(import_module("fractions").Fraction(1, 3) + 1),
    "statistics": lambda: [import_module("statistics").median([1, 5, 3]), import_module("statistics").stdev([1, 2, 3, 4])],
    "statistics.normal": lambda: round(import_module("statistics").NormalDist(0, 1).cdf(1), 6),
    "math": lambda: [import_module("math").comb(5, 2), import_module("math").isqrt(17), import_module("math").hypot(3, 4)],
    "cmath": lambda: str(import_module("cmath").sqrt(-1)),
    "random.seeded": lambda: import_module("random").Random(7).sample(range(100), 5),
    "random.differs": _different,
    "secrets": lambda: len(import_module("secrets").token_hex(8)),
    "numbers": lambda: isinstance(1, import_module("numbers").Integral),
    "int.large": lambda: len(str(3**5000)),
    "int.parsed": lambda: int("9" * 3000) % 97,
    "float.repr": lambda: [0.1 + 0.2, 1e22, 5e-324, float("1e400") == float("inf")],
    "round": lambda: [round(2.5), round(1.005, 2), format(1234567.891, ",.2f")],
    "enum": lambda: [Colour("red").name, [each.value for each in import_module("enum").IntEnum("N", "A B")]],
    "enum.flag": lambda: str(import_module("enum").Flag("F", "A B")(3).value),
    "dataclasses": _dataclass,
    "types": lambda: import_module("types").SimpleNamespace(a=1).a,
    "weakref": lambda: import_module("weakref").ref(Colour)() is Colour,
    "copy": lambda: import_module("copy").deepcopy({"a": [1]}),
    "pprint": lambda: import_module("pprint").pformat({"b": list(range(30)), "a": "x" * 50}, width=60),
    "graphlib": lambda: list(import_module("graphlib").TopologicalSorter({"a": ["b"], "b": []}).static_order()),
    "abc": lambda: import_module("abc").ABC.__name__,
    "match": lambda: [_match({"kind": "a", "n": 3}), _match([1, 2]), _match(3)],
    "exception.group": _exception_group,
    # ---- Text ----
    "re": lambda: import_module("re").sub(r"(?P<n>\d+)", r"<\g<n>>", "a1b22"),
    "re.unicode": lambda: import_module("re").findall(r"\w+", TEXT),
    "string": lambda: import_module("string").capwords("a b-c"),
    "string.Template": _template,
    "string.Formatter": lambda: import_module("string").Formatter().format("{0:>5}|{x!r}", 1, x="y"),
    "textwrap": lambda: import_module("textwrap").fill("the quick brown fox jumps", 10),
    "textwrap.dedent": lambda: import_module("textwrap").dedent("  a\n   b"),
    "difflib": lambda: list(import_module("difflib").unified_diff(["a"], ["b"], lineterm="")),
    "difflib.close": lambda: import_module("difflib").get_close_matches("appel", ["ape", "apple"]),
    "unicodedata": lambda: [import_module("unicodedata").normalize("NFD", "é").encode().hex(), import_module("unicodedata").name("€")],
    "stringprep": lambda: import_module("stringprep").in_table_a1("\u0221"),
    "locale": lambda: import_module("locale").localeconv()["decimal_point"],
    "gettext": lambda: import_module("gettext").gettext("x"),
    "shlex": lambda: import_module("shlex").split("a 'b c' d\\ e"),
    "html": lambda: [import_module("html").escape("<a&b>"), import_module("html").unescape("&eacute;&#8364;")],
    "html.entities": lambda: import_module("html.entities").name2codepoint["euro"],
    "html.parser": _html,
    "casefold": lambda: "Straße".casefold(),
    # ---- Codecs ----
    "codec.utf-8-sig": lambda: b"\xef\xbb\xbfx".decode("utf-8-sig"),
    "codec.utf-16": lambda: TEXT.encode("utf-16-le").decode("utf-16-le"),
    "codec.utf-16-bom": lambda: TEXT.encode("utf-16").decode("utf-16"),
    "codec.utf-32": lambda: TEXT.encode("utf-32").decode("utf-32"),
    "codec.utf-7": lambda: TEXT.encode("utf-7").decode("utf-7"),
    "codec.ascii": lambda: _raised(lambda: "é".encode("us-ascii")),
    "codec.latin-1": lambda: b"\xe9".decode("latin-1"),
    "codec.cp1252": lambda: b"\x80".decode("cp1252"),
    "codec.cp437": lambda: b"\x80".decode("cp437"),
    "codec.iso-8859-15": lambda: b"\xa4".decode("iso-8859-15"),
    "codec.koi8-r": lambda: b"\xc1".decode("koi8-r"),
    "codec.mac-roman": lambda: b"\x8e".decode("mac-roman"),
    "codec.shift_jis": lambda: "日本".encode("shift_jis").decode("shift_jis"),
    "codec.euc-jp": lambda: "日本".encode("euc-jp").hex(),
    "codec.gbk": lambda: "中文".encode("gbk").decode("gbk"),
    "codec.gb18030": lambda: "😀".encode("gb18030").hex(),
    "codec.big5": lambda: "中文".encode("big5").decode("big5"),
    "codec.euc-kr": lambda: "한국".encode("euc-kr").decode("euc-kr"),
    "codec.iso2022_jp": lambda: "日本".encode("iso2022_jp").decode("iso2022_jp"),
    "codec.idna": lambda: ["é".encode("idna").decode(), b"xn--bcher-kva.example".decode("idna")],
    "codec.punycode": lambda: "bücher".encode("punycode").decode(),
    "codec.hex": lambda: import_module("codecs").encode(b"\x01", "hex").decode(),
    "codec.rot13": lambda: import_module("codecs").encode("abc", "rot13"),
    "codec.base64": lambda: import_module("codecs").encode(b"abc", "base64").decode(),
    "codec.quopri": lambda: import_module("codecs").encode("é".encode(), "quopri").decode(),
    "codec.unicode_escape": lambda: b"\\u20ac".decode("unicode_escape"),
    "codec.raw_unicode_escape": lambda: "€".encode("raw_unicode_escape").decode(),
    "codec.unknown": lambda: _raised(lambda: b"".decode("no-such-codec")),
    "codec.incremental": lambda: "".join(import_module("codecs").iterdecode([b"\xe2\x82", b"\xac"], "utf-8")),
    "codec.errors": lambda: [b"a\xff".decode(errors="replace"), b"\xff".decode(errors="surrogateescape").encode(errors="surrogateescape").hex(), "é".encode("ascii", "xmlcharrefreplace").decode()],
    # ---- Data formats ----
    "json": lambda: import_module("json").loads(import_module("json").dumps({"a": [1.5, None, True, TEXT]})),
    "json.indent": lambda: import_module("json").dumps({"b": 1, "a": 2}, indent=2, sort_keys=True),
    "json.error": lambda: _raised(lambda: import_module("json").loads("{]")),
    "json.bytes": lambda: import_module("json").loads("[1]".encode("utf-16")),
    "csv": _rows_of_csv,
    "csv.sniffer": lambda: import_module("csv").Sniffer().sniff("a;b\n1;2\n").delimiter,
    "configparser": _config,
    "tomllib": lambda: import_module("tomllib").loads('a = 2024-01-01T00:00:00Z\n[b]\nc = [1, 2]')["b"],
    "plistlib": lambda: import_module("plistlib").loads(import_module("plistlib").dumps({"a": 1})),
    "xml.etree": lambda: import_module("xml.etree.ElementTree").tostring(import_module("xml.etree.ElementTree").fromstring("<a><b x='1'/>é</a>")).decode(),
    "xml.etree.find": lambda: import_module("xml.etree.ElementTree").fromstring("<a><b x='1'/><b x='2'/></a>").find("b[@x='2']").attrib,
    "xml.etree.iterparse": lambda: [element.tag for _, element in import_module("xml.etree.ElementTree").iterparse(import_module("io").BytesIO(b"<a><b/></a>"))],
    "xml.etree.indent": lambda: _indented(),
    "xml.dom.minidom": lambda: import_module("xml.dom.minidom").parseString("<a><b/></a>").toprettyxml(indent=" "),
    "xml.sax": _sax,
    "xml.saxutils": lambda: import_module("xml.sax.saxutils").quoteattr("a\"b"),
    "xml.windows-1252": lambda: import_module("xml.etree.ElementTree").fromstring(b'<?xml version="1.0" encoding="windows-1252"?><a>\x80</a>').text,
    "zipfile": _archive,
    "tarfile": _tar,
    "gzip": lambda: import_module("gzip").decompress(import_module("gzip").compress(b"abc" * 100)).decode()[:6],
    "gzip.file": lambda: import_module("gzip").GzipFile(fileobj=import_module("io").BytesIO(import_module("gzip").compress(b"x\ny\n"))).readlines(),
    "zlib": lambda: import_module("zlib").crc32(b"abc"),
    "base64": lambda: [import_module("base64").b64encode(b"\xff\xfe").decode(), import_module("base64").urlsafe_b64encode(b"\xff\xfe").decode(), import_module("base64").b32encode(b"a").decode(), import_module("base64").b85encode(b"abcd").decode()],
    "binascii": lambda: import_module("binascii").unhexlify("00ff").hex(),
    "struct": lambda: import_module("struct").unpack(">HI", import_module("struct").pack(">HI", 1, 2)),
    "pickle": lambda: sorted(_pickled().items(), key=str)[0],
    "sqlite3": _sqlite,
    "email": _mail,
    "email.mime": lambda: import_module("email.mime.text").MIMEText("x").as_string()[:12],
    "email.mime.multipart": lambda: import_module("email.mime.multipart").MIMEMultipart().get_content_type(),
    "email.utils": lambda: [import_module("email.utils").parseaddr("Ada <a@example.com>"), import_module("email.utils").parsedate_to_datetime("Fri, 31 Dec 1999 23:59:59 GMT").isoformat()],
    "email.header": lambda: str(import_module("email.header").make_header(import_module("email.header").decode_header("=?utf-8?b?w6k=?="))),
    "mimetypes": _mimetype,
    "uuid": lambda: [str(import_module("uuid").UUID(int=5)), str(import_module("uuid").uuid5(import_module("uuid").NAMESPACE_DNS, "x")), import_module("uuid").uuid4().version],
    "ipaddress": lambda: [str(each) for each in import_module("ipaddress").ip_network("10.0.0.0/30").hosts()],
    "urllib.parse": lambda: [import_module("urllib.parse").quote("a b/é"), import_module("urllib.parse").urlencode({"q": "é&"}), import_module("urllib.parse").urljoin("https://a.test/b/c", "../d"), dict(import_module("urllib.parse").parse_qsl("a=1&b=%C3%A9"))],
    "http.HTTPStatus": lambda: import_module("http").HTTPStatus(404).phrase,
    "http.cookies": lambda: import_module("http.cookies").SimpleCookie("a=1; b=2")["b"].value,
    "hashlib": lambda: [import_module("hashlib").sha256(b"x").hexdigest(), import_module("hashlib").md5(b"x").hexdigest(), import_module("hashlib").sha3_256(b"x").hexdigest(), import_module("hashlib").blake2b(b"x", digest_size=8).hexdigest()],
    "hashlib.pbkdf2": lambda: import_module("hashlib").sha1(b"x").hexdigest(),
    "hmac": lambda: import_module("hmac").new(b"k", b"m", "sha256").hexdigest(),
    "hmac.compare": lambda: import_module("hmac").compare_digest("a", "a"),
    "colorsys": lambda: import_module("colorsys").rgb_to_hsv(1, 0.5, 0),
    "netrc.none": lambda: _raised(lambda: open("/no/such/file")),
    # ---- Input and output ----
    "io.StringIO": lambda: import_module("io").StringIO("a\nb").readlines(),
    "io.TextIOWrapper": lambda: import_module("io").TextIOWrapper(import_module("io").BytesIO(b"\xe9"), encoding="latin-1").read(),
    "io.BufferedReader": lambda: import_module("io").BufferedReader(import_module("io").BytesIO(b"abc")).peek(1)[:1],
    "tempfile.spooled": _temporary,
    "pathlib.pure": lambda: [str(import_module("pathlib").PurePosixPath("/a/b.txt").with_suffix(".md")), import_module("pathlib").PurePath("a/b").parts],
    "os.path": lambda: [import_module("os").path.join("a", "b"), import_module("os").path.splitext("a.tar.gz")],
    "os.environ": lambda: import_module("os").environ.get("NOT_THERE"),
    "fnmatch": lambda: import_module("fnmatch").filter(["a.py", "b.txt"], "*.py"),
    "glob": lambda: import_module("glob").glob("/no/such/*"),
    "shutil.which": lambda: import_module("shutil").which("no-such-program"),
    # ---- Language services ----
    "contextlib": _generator,
    "contextlib.exitstack": lambda: import_module("contextlib").ExitStack().__class__.__name__,
    "contextvars": lambda: import_module("contextvars").ContextVar("x", default=3).get(),
    "inspect": lambda: str(import_module("inspect").signature(_match)),
    "ast": lambda: import_module("ast").literal_eval("{'a': [1, 2.5, None]}"),
    "ast.unparse": lambda: import_module("ast").unparse(import_module("ast").parse("x = [1,2]")),
    "tokenize": lambda: len(list(import_module("tokenize").tokenize(import_module("io").BytesIO(b"a = 1").readline))),
    "traceback": lambda: "ValueError: x" in _traceback(),
    "warnings": lambda: _warned(),
    "logging": _formatted_log,
    "logging.config": _configured_log,
    "typing": _typed,
    "argparse": lambda: import_module("argparse").ArgumentParser().parse_known_args(["x"])[1],
    "timeit": lambda: import_module("timeit").timeit("1", number=1) >= 0,
    "sched": lambda: import_module("sched").scheduler().empty(),
    "queue": lambda: _queued(),
    "threading.lock": lambda: _locked(),
    "threading.local": lambda: import_module("threading").local().__class__.__name__,
    "gc": lambda: import_module("gc").isenabled(),
    "unittest.mock": lambda: import_module("unittest.mock").Mock(return_value=3)(),
    "asyncio.gather": _gather,
    "asyncio.group": _group,
    "asyncio.timeout": _timed_out,
    "concurrent.futures": lambda: import_module("concurrent.futures").Future().done(),
    "importlib.resources": lambda: import_module("importlib.resources").files("data").joinpath("words.txt").read_text(),
    "importlib.resources.open": lambda: import_module("importlib.resources").files("data").joinpath("words.txt").open("rb").read(),
    "pkgutil.get_data.early": lambda: import_module("pkgutil").get_data("early", "words.txt"),
    "importlib.resources.early": lambda: import_module("importlib.resources").files(early).joinpath("words.txt").read_text(),
    "linecache": lambda: import_module("linecache").getline(early.__file__, 1),
    "namespace": lambda: import_module("plain.part").VALUE,
    "pkgutil.get_data": lambda: import_module("pkgutil").get_data("data", "words.txt"),
    "open.beside": lambda: open(import_module("os").path.join(import_module("os").path.dirname(import_module("data").__file__), "words.txt"), encoding="utf-8").read(),
    "pathlib.beside": lambda: sorted(each.name for each in import_module("pathlib").Path(import_module("data").__file__).parent.iterdir() if each.suffix == ".txt"),
    # ---- Params and results; these rows name what is wrong ----
    "signatures": lambda: import_module("signatures").problems(),
    "result": lambda: import_module("signatures").result(),
    "module.late": lambda: import_module("data.late").VALUE,
}


def _raised(function):
    try:
        function()
    except Exception as error:
        return type(error).__name__
    return None


def _indented():
    tree = import_module("xml.etree.ElementTree")
    root = tree.fromstring("<a><b/></a>")
    tree.indent(root)
    return tree.tostring(root, encoding="unicode", xml_declaration=True)


def _traceback():
    try:
        raise ValueError("x")
    except ValueError:
        return import_module("traceback").format_exc()


def _warned():
    warnings = import_module("warnings")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warnings.warn("careful")
    return [str(each.message) for each in found]


def _queued():
    queue = import_module("queue").PriorityQueue()
    queue.put((2, "b"))
    queue.put((1, "a"))
    return queue.get_nowait()


def _locked():
    lock = import_module("threading").RLock()
    with lock, lock:
        return "locked"


@task
def run(row: str):
    value = ROWS[row]()
    return repr(value) if isinstance(value, bytes) else repr_bytes(value)


def repr_bytes(value):
    """JSON has no bytes: each becomes its repr."""
    if isinstance(value, bytes):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return [repr_bytes(each) for each in value]
    return value
