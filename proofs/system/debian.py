"""Programs of Debian, unpacked into target/ and not installed: a test must not change the machine."""

import fcntl
import re
import shutil
import subprocess

from conftest import ROOT


def unpacked(name, packages):
    """A folder with packages, and with what they need and the machine does not have."""
    folder = ROOT / "target" / name
    stamp = folder / "unpacked.txt"
    with open(ROOT / "target" / f"{name}.lock", "w") as lock:
        # Tests that run side by side may want the same.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != packages:
            unpack(folder, packages)
            stamp.write_text(packages)
    return folder


def unpack(folder, packages):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        download(folder, packages.split())
    except subprocess.CalledProcessError:
        # A machine that has never asked for the lists of packages.
        subprocess.run(["apt-get", "update", "--quiet"], check=True, capture_output=True)
        download(folder, packages.split())
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "--extract", package, folder], check=True)
        package.unlink()


def download(folder, packages):
    install = ["apt-get", "install", "--simulate", "--no-install-recommends", *packages]
    plan = subprocess.run(install, check=True, capture_output=True, text=True).stdout
    missing = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
    subprocess.run(["apt-get", "download", *{*packages, *missing}], cwd=folder, check=True, capture_output=True)


def libraries(folder):
    """The folders with its shared libraries, as LD_LIBRARY_PATH takes them."""
    return ":".join(sorted({str(file.parent) for file in folder.rglob("*.so*")}))
