"""Imports and files of a run: a component has no files, so the build keeps modules and data in its memory.

While the component is made, `collect` looks at the modules that are loaded, and at what their functions import
later. It compiles those modules and keeps them, and the data files of the packages, compressed. In a run, an
import finds the modules here, and `open`, `os.stat` and `os.listdir` find the files.
"""

import ast
import builtins
import errno
import gc
import importlib
import inspect
import io
import marshal
import os
import stat
import sys
import types
import zlib
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from opcode import opmap

# Modules of the standard library that need threads, processes, a screen or a keyboard, or that few tasks need. If only a
# function of the standard library imports them, they are not kept.
_NOT_FOR_ALL = frozenset(
    """_aix_support _android_support _apple_support _ios_support _osx_support _pyrepl antigravity argparse asyncio bdb cmd
    code codeop concurrent ctypes curses doctest ensurepip ftplib getopt getpass http.client http.cookiejar idlelib
    importlib.metadata lib2to3 multiprocessing netrc pdb pickle pickletools platform profile pstats pty py_compile pydoc pydoc_data readline rlcompleter runpy site smtplib ssl subprocess sysconfig tarfile test this tkinter
    trace tracemalloc tty turtle turtledemo unittest urllib.request venv webbrowser xmlrpc zipapp""".split()
)
# Modules that the interpreter has in C.
_IN_C = frozenset(["_pydatetime", "_pydecimal", "_pyio"])
# Imports that no source shows, because C code or a text names the module.
_HIDDEN = {
    # For integers with many digits.
    "json": ["_pylong"],
    "datetime": ["_strptime"],
    "time": ["_strptime"],
    "pickle": ["_compat_pickle"],
    "xml.sax": ["xml.sax.expatreader"],
    "xml.dom": ["xml.dom.minidom"],
    "zoneinfo": ["zoneinfo._common"],
    "asyncio": ["wasq_task.event_loop"],
    "socket": ["wasq_task.sockets"],
    "sysconfig": ["_sysconfigdata__wasi_wasm32-wasi"],
}
# Packages whose modules are all kept, because texts choose among them.
_WHOLE = ("encodings",)
_STDLIB = "/python"
# Not where other programs look for zones: some, such as dateutil, read only the old form of these files.
_ZONES = "/zoneinfo"
_TLS = os.path.join(os.path.dirname(__file__), "tls.py")
_IMPORT_NAME, _EXTENDED_ARG = opmap["IMPORT_NAME"], opmap["EXTENDED_ARG"]
_DATA_BYTES_MAX = 64 << 20
# Free memory that is filled, for each size of a piece. More makes the component hardly smaller, and its memory larger.
_FREE_BYTES = 2 << 20


class _Module:
    """A module that is not loaded yet."""

    def __init__(self, path, is_package, code):
        self.path, self.is_package, self.code = path, is_package, code


_modules: dict[str, _Module] = {}
# Compressed contents by path.
_files: dict[str, bytes] = {}
_sizes: dict[str, int] = {}
# The names in each folder of the files.
_folders: dict[str, set[str]] = {}
_distributions: dict[str, str] = {}


# ---- Imports in a run ----


class _Loader:
    def __init__(self, name):
        self._module = _modules[name]

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(marshal.loads(zlib.decompress(self._module.code)), module.__dict__)

    def is_package(self, name):
        return self._module.is_package

    def get_data(self, path):
        return read(path)

    def get_filename(self, name=None):
        return self._module.path

    def get_source(self, name=None):
        return None

    def get_resource_reader(self, name):
        from importlib.resources.readers import FileReader

        return FileReader(_Place(self._module.path))


class _Place:
    def __init__(self, path):
        self.path = path


class _Finder:
    """The last one that an import asks."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        module = _modules.get(name)
        if module is None:
            hint = _hint(name)
            if hint is not None:
                raise ModuleNotFoundError(f"No module named {name!r}: {hint}", name=name)
            return None
        spec = ModuleSpec(name, _Loader(name), origin=module.path, is_package=module.is_package)
        spec.has_location = True
        if module.is_package:
            spec.submodule_search_locations = [os.path.dirname(module.path)]
        return spec

    @staticmethod
    def find_distributions(context=None):
        from importlib.metadata import PathDistribution
        from pathlib import Path

        wanted = getattr(context, "name", None)
        wanted = None if wanted is None else _normal(wanted)
        return (PathDistribution(Path(path)) for name, path in _distributions.items() if wanted in (None, name))

    @staticmethod
    def invalidate_caches():
        pass


def _normal(name):
    return name.lower().replace("-", "_").replace(".", "_")


def _hint(name):
    top = name.partition(".")[0]
    if top not in sys.stdlib_module_names or top in sys.builtin_module_names or top.startswith("_"):
        return None
    if top in ("ctypes", "multiprocessing", "subprocess", "tkinter", "curses", "readline", "fcntl", "termios"):
        return "a task cannot have it"
    return f"write `import {name}` at the top of task.py, so that it goes into the component"


# ---- Imports while the component is made ----


class _OwnTls:
    """Hands out our own `ssl`."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "ssl" and not _sealed:
            return ModuleSpec("ssl", SourceFileLoader("ssl", _TLS), origin=_TLS)
        return None


class _NativeCode:
    """Refuses modules of native code by name."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        last = name.rpartition(".")[2]
        for folder in sys.path if path is None else path:
            names = _names_in(folder)
            if f"{last}.py" in names or f"{last}/__init__.py" in names:
                return None
            for found in names:
                if found.startswith(f"{last}.") and found.endswith((".so", ".pyd", ".dylib")):
                    why = f"{name} is native code ({folder}/{found}), and a task can only have Python code"
                    # Without its `name`: `from . import x` hides an error that has the name of x.
                    raise ModuleNotFoundError(why)
        return None


def check_late_imports(module):
    """Imports the packages that the functions of the task's own modules import, so that native code fails now.

    An import in a `try` is left alone: the task may have another way. Any other failure is left to the run.
    """
    own = os.path.dirname(module.__file__)
    sources = [found.__file__ for found in list(sys.modules.values()) if os.path.dirname(getattr(found, "__file__", None) or "") == own]
    names = {}
    for source in sources:
        with open(source, "rb") as text:
            tree = ast.parse(text.read())
        functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        for node in (node for function in functions for node in _outside_of_try(function)):
            if isinstance(node, ast.Import):
                names |= {alias.name: (source, node.lineno) for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names[node.module] = (source, node.lineno)
    for name, (source, line) in names.items():
        if name in sys.modules:
            continue
        try:
            if _is_installed(name.partition(".")[0]):
                importlib.import_module(name)
            else:
                _NativeCode.find_spec(name)
        except (Exception, SystemExit) as error:
            native = native_cause(error)
            if native is not None:
                raise ModuleNotFoundError(f"{source}:{line}: import {name}: {native}") from None


def _outside_of_try(node):
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Try):
            yield child
            yield from _outside_of_try(child)


def _is_installed(name):
    """Whether it comes from a package that was installed, and not from the task's folder or the standard library."""
    folders = (_names_in(folder) for folder in sys.path if _has_packages(folder))
    return any(f"{name}.py" in names or f"{name}/__init__.py" in names for names in folders)


def _has_packages(folder):
    return any(name.endswith(".dist-info") for name in _names_in(folder))


def native_cause(error):
    """The refusal of native code among the causes of an error, or None. Some packages wrap it into long advice."""
    found = None
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and " is native code (" in str(error):
            found = error
        error = error.__cause__ or error.__context__
    return found


def _names_in(folder):
    try:
        names = _real_listdir(folder)
    except OSError:
        return []
    return names + [f"{name}/__init__.py" for name in names if os.path.isfile(f"{folder}/{name}/__init__.py")]


class _AfterImport:
    """Changes a module of the standard library once it is loaded."""

    def __init__(self, patches):
        self._patches = patches

    def find_spec(self, name, path=None, target=None):
        patch = self._patches.get(name)
        if patch is None:
            return None
        spec = PathFinder.find_spec(name, path) or _Finder.find_spec(name, path)
        if spec is not None:
            spec.loader = _Patching(spec.loader, patch)
        return spec


class _Patching:
    def __init__(self, loader, patch):
        self._loader, self._patch = loader, patch

    def exec_module(self, module):
        self._loader.exec_module(module)
        self._patch(module)

    def __getattr__(self, name):
        return getattr(self._loader, name)


def _patch_socket(module):
    import select

    from . import sockets

    sockets.patch(module)
    sockets.patch_select(select)


def _patch_asyncio(module):
    from . import event_loop

    event_loop.patch(module)


def _patch_zoneinfo(module):
    module.reset_tzpath([_ZONES])


def _refuse_threads():
    import threading

    def refuse(*_, **__):
        raise RuntimeError("a task has no threads; call the functions one after the other")

    threading._start_joinable_thread = refuse


def install():
    """Prepares imports, before the task's own module is loaded."""
    _refuse_threads()
    _replace_files()
    patches = {"socket": _patch_socket, "asyncio": _patch_asyncio, "zoneinfo": _patch_zoneinfo}
    sys.meta_path.insert(0, _AfterImport(patches))
    sys.meta_path.insert(0, _OwnTls)
    sys.meta_path.insert(0, _NativeCode)


# ---- Files in a run ----


def read(path) -> bytes:
    """The contents of a file that the build kept."""
    path = _absolute(path)
    if path not in _files:
        raise FileNotFoundError(errno.ENOENT, "the component has no such file", path)
    return zlib.decompress(_files[path])


def _absolute(path):
    if not os.fsdecode(path):
        raise FileNotFoundError(errno.ENOENT, "a path without a name", path)
    return os.path.normpath(os.path.join("/", os.fsdecode(path)))


# Whether the component is made, so that there are no files but those that are kept.
_sealed = False
_real_open, _real_stat, _real_listdir, _real_scandir = io.open, os.stat, os.listdir, os.scandir


def _open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
    if not _sealed or isinstance(file, int) or opener is not None:
        return _real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    if set(mode) & set("wax+"):
        why = "a task has no files to write to; use io.BytesIO or io.StringIO"
        raise OSError(errno.EROFS, why, os.fsdecode(file))
    data = io.BytesIO(read(file))
    data.name = os.fsdecode(file)
    if "b" in mode:
        return data
    return io.TextIOWrapper(data, encoding or "utf-8", errors, newline)


def _stat(path, *, dir_fd=None, follow_symlinks=True):
    if not _sealed or isinstance(path, int):
        return _real_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
    found = _absolute(path)
    if found in _folders:
        return os.stat_result((stat.S_IFDIR | 0o555, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    if found not in _files:
        raise FileNotFoundError(errno.ENOENT, "the component has no such file", found)
    size = _sizes[found]
    return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, size, 0, 0, 0))


def _lstat(path, *, dir_fd=None):
    return _stat(path, dir_fd=dir_fd, follow_symlinks=False)


def _listdir(path="."):
    if not _sealed:
        return _real_listdir(path)
    found = _absolute(path)
    if found not in _folders:
        raise FileNotFoundError(errno.ENOENT, "the component has no such folder", found)
    return sorted(_folders[found])


class _Entry:
    def __init__(self, folder, name):
        self.name, self.path = name, os.path.join(os.fsdecode(folder), name)

    def __fspath__(self):
        return self.path

    def is_dir(self, *, follow_symlinks=True):
        return _absolute(self.path) in _folders

    def is_file(self, *, follow_symlinks=True):
        return not self.is_dir()

    def is_symlink(self):
        return False

    def is_junction(self):
        return False

    def stat(self, *, follow_symlinks=True):
        return _stat(self.path)


class _Entries(list):
    def __enter__(self):
        return iter(self)

    def __exit__(self, *_):
        pass

    def close(self):
        pass


def _scandir(path="."):
    if not _sealed:
        return _real_scandir(path)
    return _Entries(_Entry(path, name) for name in _listdir(path))


def _replace_files():
    """Done before the task is loaded: modules in C remember these functions."""
    builtins.open = io.open = _open
    if "tokenize" in sys.modules:
        # It has kept the function for itself.
        sys.modules["tokenize"]._builtin_open = _open
    get_data = SourceFileLoader.get_data
    SourceFileLoader.get_data = lambda self, path: read(path) if _sealed and path in _files else get_data(self, path)
    os.stat, os.lstat, os.listdir, os.scandir = _stat, _lstat, _listdir, _scandir


def _keep_file(path, data):
    _files[path], _sizes[path] = zlib.compress(data, 9), len(data)
    while path != "/":
        path, _, name = path.rpartition("/")
        path = path or "/"
        _folders.setdefault(path, set()).add(name)


# ---- Collecting ----


def collect():
    """Keeps what a run may still import, and gives the component its files. The last step of a build."""
    loaded = {name: module for name, module in list(sys.modules.items()) if getattr(module, "__file__", None)}
    seen, waiting = set(loaded), []
    packages = set()
    for name, module in loaded.items():
        path = module.__file__
        if path.endswith(".py"):
            _, imports = _compiled(name, path)
            waiting += imports
        _note_package(packages, path)
        waiting += _HIDDEN.get(name, ())
        if name in _WHOLE:
            waiting += _within(name, os.path.dirname(path))
    project = os.path.dirname(loaded["task"].__file__)
    packages |= {(project, name) for name in _packages_in(project)}
    waiting += ["importlib.resources.readers", "importlib.metadata", "pathlib"] if packages else []
    kept_packages = set()
    while waiting or packages - kept_packages:
        for package in packages - kept_packages:
            kept_packages.add(package)
            waiting += _keep_package(package)
        if not waiting:
            continue
        name = waiting.pop()
        parent = name.rpartition(".")[0]
        if name in seen:
            continue
        seen.add(name)
        if parent and parent not in seen:
            waiting.append(parent)
        path = _find(name)
        if path is None:
            folder = _find_folder(name)
            if folder is not None:
                # A package without __init__.py.
                _modules[name] = _Module(f"{folder}/__init__.py", True, zlib.compress(marshal.dumps(compile("", folder, "exec"))))
            continue
        code, imports = _compiled(name, path)
        if code is None:
            continue
        waiting += imports
        waiting += _HIDDEN.get(name, ())
        _modules[name] = _Module(path, _is_package(path), zlib.compress(marshal.dumps(code)))
        _note_package(packages, path)
    for name, module in loaded.items():
        # Their sources, so that tracebacks show the lines of the author.
        if _is_authors(module.__file__):
            with _real_open(module.__file__, "rb") as file:
                _keep_file(module.__file__, file.read())
    if "zoneinfo" in seen:
        _keep_zones()
    sys.meta_path.remove(_NativeCode)
    sys.meta_path.append(_Finder)
    sys.path_importer_cache.clear()
    global _sealed
    _sealed = True
    _clear_free_memory()


def _clear_free_memory():
    """Fills free memory with zeros. A component contains its memory, and what compilers left behind there would stay in it."""
    gc.collect()
    for size in (1 << exponent for exponent in (20, 18, 16, 14, 12, 10)):
        held = [bytearray(size) for _ in range(_FREE_BYTES // size)]
        del held


def _is_package(path):
    return path.endswith("/__init__.py")


def _is_authors(path):
    return path.endswith(".py") and not path.startswith((_STDLIB, "/world", "/bundled")) and "/wasq_task/" not in path


def _roots():
    return [folder for folder in sys.path if not folder.startswith((_STDLIB, "/world", "/bundled")) and os.path.isdir(folder)]


def _note_package(packages, path):
    """Notes the top-level package of a module that is not the standard library's, and not the SDK's."""
    for root in _roots():
        inner = path.removeprefix(f"{root}/")
        if inner == path:
            continue
        top, slash, _ = inner.partition("/")
        if not slash:
            # A module without a package has no data files, but its distribution has a name and a version.
            _keep_distribution(root, top.removesuffix(".py"))
        elif top != "wasq_task":
            packages.add((root, top))


def _keep_package(package):
    """Keeps the data files of a package; returns the names of its modules."""
    root, top = package
    modules, size = [], 0
    for folder, folders, names in os.walk(os.path.join(root, top)):
        folders[:] = [name for name in folders if name not in ("__pycache__", "node_modules", "tests", "test") and name[0] != "."]
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".py"):
                inner = os.path.relpath(path, root).removesuffix(".py").removesuffix("/__init__")
                modules.append(inner.replace("/", "."))
            elif not name.endswith((".pyc", ".pyi", ".pyx", ".pxd", ".c", ".so", ".pyd", ".dylib", ".a")):
                with _real_open(path, "rb") as file:
                    data = file.read()
                size += len(data)
                if size > _DATA_BYTES_MAX:
                    raise RuntimeError(f"the package {top} has more than {_DATA_BYTES_MAX >> 20} MiB of data files")
                _keep_file(path, data)
    _keep_distribution(root, top)
    return modules


def _keep_distribution(root, top):
    """Keeps what `importlib.metadata` reads of the distribution that a package came with."""
    for name in os.listdir(root):
        if not name.endswith(".dist-info"):
            continue
        folder = os.path.join(root, name)
        try:
            with _real_open(os.path.join(folder, "RECORD"), encoding="utf-8") as file:
                ours = any(line.startswith((f"{top}/", f"{top}.py,")) for line in file)
        except OSError:
            continue
        if ours:
            for part in ("METADATA", "entry_points.txt", "top_level.txt"):
                path = os.path.join(folder, part)
                if os.path.isfile(path):
                    with _real_open(path, "rb") as file:
                        _keep_file(path, file.read())
            _distributions[_normal(name.partition("-")[0])] = folder


def _packages_in(project):
    """The author's own packages."""
    names = set(_real_listdir(project)) - {"build", "tests", "test", "venv"}
    return [name for name in names if os.path.isfile(os.path.join(project, name, "__init__.py"))]


def _within(package, folder):
    names = (name for name in os.listdir(folder) if name.endswith(".py") and name != "__init__.py")
    return [f"{package}.{name.removesuffix('.py')}" for name in names]


def _find(name):
    if name == "ssl":
        return _TLS
    inner = name.replace(".", "/")
    for folder in sys.path:
        for path in (f"{folder}/{inner}/__init__.py", f"{folder}/{inner}.py"):
            if os.path.isfile(path):
                return path
    return None


def _find_folder(name):
    inner = name.replace(".", "/")
    folders = (f"{folder}/{inner}" for folder in sys.path if not folder.startswith(_STDLIB))
    return next((folder for folder in folders if os.path.isdir(folder)), None)


def _compiled(name, path):
    """The code of a module, and the names of the modules that it imports, now or later. The code is `None` if the file
    is for another version of Python, which this one never imports."""
    try:
        with _real_open(path, "rb") as file:
            source = file.read()
        if path.startswith(_STDLIB):
            code = compile(source, path, "exec", dont_inherit=True, optimize=2)
            return code, _imports_of_library(code, name, source, path)
        tree = ast.parse(source, path)
        code = compile(tree, path, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        if os.path.dirname(path) == os.path.dirname(sys.modules["task"].__file__):
            # The author's own mistake.
            raise
        return None, set()
    # `collect` names the modules that the SDK itself imports later.
    return code, set() if name.startswith("wasq_task.") else _imports_of(tree, _package(name, path))


def _package(name, path):
    return name if _is_package(path) else name.rpartition(".")[0]


def _imports_of(tree, package):
    """The modules that a source imports, by its syntax tree."""
    found, waiting = set(), [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _never(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found |= _named(package, node.level, node.module or "", [alias.name for alias in node.names])
        elif isinstance(node, ast.Call) and node.args and _is_import_call(node.func):
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str) and named.value:
                name = named.value.lstrip(".")
                found |= _named(package, len(named.value) - len(name), name, [])
        waiting += ast.iter_child_nodes(node)
    return found


def _named(package, level, base, names):
    """The modules that `from base import names` may mean."""
    if level:
        outer = package.split(".")
        base = ".".join([*outer[: len(outer) - level + 1], *([base] if base else [])])
    return {base, *(f"{base}.{name}" for name in names)} if base else set()


def _imports_of_library(code, name, source, path):
    """The same for a module of the standard library, by its code: that is much faster."""
    end = source.find(b"\nif __name__ == ")
    last_line = source.count(b"\n", 0, end) if end >= 0 else None
    package, top = _package(name, path), name.partition(".")[0]
    found = set()
    waiting = [(code, True)]
    while waiting:
        code, at_once = waiting.pop()
        for line, level, base, names in _import_instructions(code):
            if last_line is not None and line > last_line:
                continue
            for each in _named(package, level, base, names) - _IN_C:
                outer = each.partition(".")[0]
                if at_once or outer == top or not _NOT_FOR_ALL & {each, outer}:
                    found.add(each)
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                # The body of a class runs at once, that of a function does not.
                waiting.append((inner, at_once and not inner.co_flags & inspect.CO_OPTIMIZED))
    return found


def _import_instructions(code):
    raw, at = code.co_code, -1
    while (at := raw.find(_IMPORT_NAME, at + 1)) >= 0:
        if at % 2:
            continue
        # The level, a small number, and the names, a constant, are loaded just before.
        name, before = _argument(raw, at)
        names, before = _argument(raw, before)
        level, _ = _argument(raw, before)
        line = next((line for start, end, line in code.co_lines() if start <= at < end), None)
        yield line or 0, level, code.co_names[name], code.co_consts[names] or ()


def _argument(raw, at):
    """The argument of the instruction at an offset, and the offset of the instruction before it."""
    argument, shift, at = raw[at + 1], 8, at - 2
    while at >= 0 and raw[at] == _EXTENDED_ARG:
        argument |= raw[at + 1] << shift
        shift, at = shift + 8, at - 2
    return argument, at


def _never(test):
    """Whether the condition of an `if` does not hold in a task."""
    if isinstance(test, ast.UnaryOp):
        return False
    names = {getattr(node, "id", getattr(node, "attr", getattr(node, "value", None))) for node in ast.walk(test)}
    return "TYPE_CHECKING" in names or "__main__" in names


def _is_import_call(function):
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def _keep_zones():
    """Keeps the time zones that `wasq build` has written beside the SDK."""
    source = os.path.join(os.path.dirname(__file__), "zones")
    with _real_open(source, "rb") as file:
        data = file.read()
    while data:
        name_length, length = data[0], int.from_bytes(data[1:5], "little")
        name, data = data[5 : 5 + name_length].decode(), data[5 + name_length :]
        _keep_file(f"{_ZONES}/{name}", data[:length])
        data = data[length:]
