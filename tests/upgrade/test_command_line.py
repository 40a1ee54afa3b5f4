"""The whole way: requirements, environments made by pip, two audits, a search, reports, exit codes.

Without network: wheels made by hand lie in a folder, and NumPy's is packed again from where it is
installed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lossaudit.cli import NOTHING_NEW, REGRESSED, UNUSABLE
from lossaudit.conformance.compare import compare
from lossaudit.conformance.run import read_run

pytestmark = pytest.mark.slow  # two environments with pip and NumPy: half a minute

ANOTHER_SMOOTHING = (
    "+ label_smoothing / classes",
    "+ (1 - hot) * label_smoothing / max(classes - 1, 1)",
)


def write_wheel(folder: Path, version: str, text: str) -> None:
    """The tiny framework as a wheel: a zip with its module and what pip asks for."""
    info = f"tinyloss-{version}.dist-info"
    files = {
        "tinyloss.py": text,
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: tinyloss\nVersion: {version}\nRequires-Dist: numpy\n"
        ),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"tinyloss-{version}-py3-none-any.whl", "w") as wheel:
        for name, content in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(name, content)


def pack_numpy(folder: Path) -> None:
    """NumPy's wheel, of the files that its installation wrote down."""
    found = importlib.metadata.distribution("numpy")
    tags = [
        line.removeprefix("Tag: ")
        for line in (found.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    ]
    python, abi, _ = tags[0].split("-")
    platforms = ".".join(tag.split("-")[2] for tag in tags)
    name = f"numpy-{found.version}-{python}-{abi}-{platforms}.whl"
    # Scripts lie outside, and are made anew from the entry points.
    inside = [f for f in found.files or () if ".." not in f.parts and "__pycache__" not in f.parts]
    left_out = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
    kept = [f for f in inside if not (f.parent.suffix == ".dist-info" and f.name in left_out)]
    (info,) = {f.parts[0] for f in kept if f.parts[0].endswith(".dist-info")}
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for file in kept:
            wheel.write(str(found.locate_file(file)), str(file))
        record = "".join(f"{file},,\n" for file in (*kept, f"{info}/RECORD"))
        wheel.writestr(f"{info}/RECORD", record)


@pytest.fixture(scope="module")
def shop(workshop, version, repository, tmp_path_factory) -> Path:
    """A folder of wheels, an adapter, and a place for environments."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "wheels").mkdir()
    (folder / "path").mkdir()
    (folder / "path" / "lossaudit").symlink_to(repository)
    write_wheel(folder / "wheels", "1.0", version())
    write_wheel(folder / "wheels", "2.0", version(ANOTHER_SMOOTHING))
    write_wheel(folder / "wheels", "3.0", "raise ImportError('libtiny.so: cannot open')\n")
    pack_numpy(folder / "wheels")
    (folder / "tiny.py").write_text(workshop.adapter_text)
    return folder


@pytest.fixture(scope="module")
def upgrade(shop) -> Callable[..., subprocess.CompletedProcess[str]]:
    def command(old: str, new: str, out: str, *more: str) -> subprocess.CompletedProcess[str]:
        words = ["upgrade", "--from", old, "--to", new, "--adapter", "tiny.py", "--out", out]
        return subprocess.run(
            [sys.executable, "-m", "lossaudit", *words, "--depth", "quick", *more],
            cwd=shop,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env={
                **os.environ,
                "COLUMNS": "200",
                "LOSSAUDIT_CACHE": str(shop / "cache"),
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_FIND_LINKS": str(shop / "wheels"),
                "PIP_NO_INDEX": "1",
            },
        )

    return command


def script_says(shop: Path, number: str, script: str) -> list[float]:
    """The losses that the script of a change prints in the environment of a version.

    The adapter imports lossaudit for its declarations, which is not installed there.
    """
    (home,) = (shop / "cache" / "environments").glob(f"tinyloss-{number}-*")
    ran = subprocess.run(
        [home / "venv" / "bin" / "python", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(shop / "path")},
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[0])


def test_an_upgrade_from_requirements_to_reports(shop, upgrade):
    done = upgrade("tinyloss==1.0", "tinyloss==2.0", "first", "--markdown", "summary.md")
    assert done.returncode == REGRESSED, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    # The framework of an adapter is in nobody's record: the package that changed names the sides.
    assert "tinyloss 1.0 -> 2.0" in done.stdout
    assert done.stderr.count("making an environment for tinyloss==") == 2
    summary = (shop / "summary.md").read_text()
    for text in (summary, done.stdout):
        assert "eps/(K-1)" in text.replace("\\", ""), "which Markdown escapes"
    assert len(summary.splitlines()) <= 60
    page = (shop / "first" / "comparison.html").read_text()
    assert "eps/(K-1)" in page

    old, new = (read_run(shop / "first" / name) for name in ("old.json.gz", "new.json.gz"))
    written = json.loads((shop / "first" / "comparison.json").read_text())
    again = compare(old, new)
    assert written["complete"]
    assert [(c["field"], c["old"], c["new"]) for c in written["conventions"]] == [
        (c.field, c.old, c.new) for c in again.conventions
    ]
    assert [c.field for c in again.conventions] == ["smoothing"]
    assert {kind for c in again.compared for kind in c.kinds} == {"convention"}
    assert len(written["searched"]) == 4
    assert not list((shop / "first").glob("*.journal")), "nothing is left to go on with"

    (change,) = (
        c for c in written["changes"] if (c["region"], c["output"]) == ("ordinary", "loss")
    )
    for number, side in (("1.0", "old"), ("2.0", "new")):
        # It asks copies of the row, one of which at least shows the change.
        assert float(change[side][0]) in script_says(shop, number, change["snippet"])

    kept = upgrade("tinyloss==1.0", "tinyloss==2.0", "again", "--fail-on", "never")
    assert kept.returncode == NOTHING_NEW, kept.stdout + kept.stderr
    assert kept.stderr.count("using the environment for tinyloss==") == 2
    second = json.loads((shop / "again" / "comparison.json").read_text())
    for field in ("compared", "changes", "conventions", "presence", "laws"):
        assert second[field] == written[field]


def test_the_same_requirements_twice_do_not_move(upgrade):
    done = upgrade("tinyloss==1.0", "tinyloss == 1.0", "same", "--law", "value")
    assert done.returncode == NOTHING_NEW, done.stdout + done.stderr


def test_a_version_that_nobody_has_is_told_by_its_name(upgrade):
    done = upgrade("tinyloss==1.0", "tinyloss==9.9", "absent")
    assert done.returncode == UNUSABLE, done.stderr
    assert "tinyloss==9.9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_version_that_does_not_load_is_told_with_its_reason(upgrade):
    done = upgrade("tinyloss==1.0", "tinyloss==3.0", "broken")
    assert done.returncode == UNUSABLE, done.stdout + done.stderr
    assert "libtiny.so: cannot open" in done.stderr
    assert "Traceback" not in done.stderr
