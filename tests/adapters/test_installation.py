"""Environments that are made: kept, made anew where that is needed, and what is said of failures.

Most tests have a Python whose venv and pip are played; those that take seconds have the real ones.
Both without network: real packages are wheels of a few hundred bytes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lossaudit.adapters.environments import Environment, UnusableEnvironment, examine
from lossaudit.adapters.installation import (
    GIVEN,
    WITHHELD,
    FailedInstallation,
    cache,
    environment_for,
    installed,
)

PLAYED = """\
#!{python} -IS
# A Python whose `-m venv` copies it, and whose `-m pip install` notes what is asked for.
import json, os, pathlib, shutil, subprocess, sys
here, stage = pathlib.Path(__file__), pathlib.Path({stage!r})
installed = here.parent / "installed.json"
has = json.loads(installed.read_text()) if installed.exists() else {{}}
asked = sys.argv[1:]
if any(word.endswith("installed.py") for word in asked):
    facts = {{"python": [3, 11, 7], "missing": [n for n in asked[2:] if n not in has]}}
    facts.update(executable=str(here), platform="played", installed=has)
    print(json.dumps(facts))
    sys.exit()
what = "pip" if "pip" in asked else "venv"
with (stage / "calls").open("a") as calls:
    print(json.dumps([what, os.getpid(), asked]), file=calls)
(stage / "variables").write_text(json.dumps(dict(os.environ)))
script = stage / (what + ".sh")
if script.exists():
    code = subprocess.call(["sh", str(script)])
    if code:
        sys.exit(code)
if what == "venv":
    (pathlib.Path(asked[-1]) / "bin").mkdir(parents=True)
    shutil.copy(here, pathlib.Path(asked[-1]) / "bin" / "python")
else:
    for text in asked[asked.index("off") + 1 :]:
        name, _, version = text.partition("==")
        has.setdefault(name, version or "1.0")
    if not (stage / "elsewhere").exists():
        installed.write_text(json.dumps(has))
"""

START = """\
import sys
from lossaudit.adapters.installation import environment_for
try:
    environment_for(sys.argv[2], "old", lambda line: print(line, flush=True), sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


class Stage:
    """Where a played Python is, and what becomes of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = str(folder / "python")
        Path(self.python).write_text(PLAYED.format(python=sys.executable, stage=str(folder)))
        Path(self.python).chmod(0o755)
        self.said: list[str] = []

    def plays(self, what: str, script: str) -> None:
        """A script of the shell, in the folder of the stage, that pip or venv runs first."""
        text = f"cd '{self.folder}'\n{textwrap.dedent(script)}"
        (self.folder / f"{what}.sh").write_text(text)

    def calls(self, what: str) -> list[list[str]]:
        """The arguments of each call of pip or venv."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [asked for which, _, asked in map(json.loads, lines) if which == what]

    def process_of_last_call(self) -> int:
        return json.loads((self.folder / "calls").read_text().splitlines()[-1])[1]

    def variables(self) -> dict[str, str]:
        return json.loads((self.folder / "variables").read_text())

    def environment(self, text: str = "tiny==1.0") -> Environment:
        self.said.clear()
        return environment_for(text, "old", self.said.append, self.python)

    def started(self, text: str = "tiny==1.0") -> subprocess.Popen[str]:
        """Another process that asks for the same, in a group of its own as from a terminal."""
        command = [sys.executable, "-c", START, self.python, text]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def waits_for(self, name: str) -> None:
        until((self.folder / name).exists, f"no {name}")


def until(holds: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.01)


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout


def is_alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def folder_of(environment: Environment) -> Path:
    return Path(environment.python).parents[2]


@pytest.fixture(autouse=True)
def kept_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LOSSAUDIT_CACHE", str(folder))
    return folder


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "stage").mkdir()
    return Stage(tmp_path / "stage")


# --- what is made, and kept -----------------------------------------------------------------------


def test_an_environment_is_made_once(stage: Stage, kept_in: Path):
    made = stage.environment("b==2 tiny==1.0")
    assert made.name == "old"
    folder = folder_of(made)
    assert folder.parent == kept_in / "environments"
    assert folder.name.startswith("b-2-tiny-1.0-")
    assert installed(made) == {"b": "2", "tiny": "1.0", "numpy": "1.0"}
    assert stage.said[0].startswith("making an environment for b==2 tiny==1.0 with Python 3.11.7")
    assert stage.said[-1].endswith("s: b 2, tiny 1.0, numpy 1.0")

    calls = (stage.folder / "calls").read_text()
    assert stage.environment(" tiny==1.0  B==2") == made
    assert (stage.folder / "calls").read_text() == calls
    (line,) = stage.said
    assert line.startswith("using the environment for b==2 tiny==1.0 of ")
    assert "b 2, tiny 1.0, numpy 1.0" in line


def test_numpy_is_added_with_what_was_asked_for_where_it_is_missing(stage: Stage):
    stage.environment("b==2 tiny==1.0")
    assert [call[call.index("off") + 1 :] for call in stage.calls("pip")] == [
        ["b==2", "tiny==1.0"],
        ["b==2", "tiny==1.0", "numpy"],
    ]
    stage.environment("numpy==1.26")
    assert stage.calls("pip")[-1][-1] == "numpy==1.26"


def test_no_option_chooses_an_index(stage: Stage):
    stage.environment()
    for call in stage.calls("pip"):
        options = {word for word in call if word.startswith("--")}
        assert options == {"--disable-pip-version-check", "--no-input", "--progress-bar"}


def test_another_set_or_interpreter_makes_another(stage: Stage, tmp_path: Path):
    (tmp_path / "other").mkdir()
    made = [stage.environment(text) for text in ("tiny==1.0", "tiny==1.1", "tiny")]
    made.append(Stage(tmp_path / "other").environment("tiny==1.0"))
    assert len({each.python for each in made}) == 4


def test_an_interpreter_may_be_named_as_in_a_shell(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(stage.folder), prepend=os.pathsep)
    python = Path(stage.python).rename(stage.folder / "python3.99")
    monkeypatch.chdir(stage.folder)
    named = environment_for("tiny", "old", stage.said.append, "python3.99")
    assert environment_for("tiny", "old", stage.said.append, "./python3.99") == named
    assert environment_for("tiny", "old", stage.said.append, str(python)) == named
    with pytest.raises(UnusableEnvironment, match="nowhere does not exist"):
        environment_for("tiny", "old", stage.said.append, "nowhere")


def test_a_long_set_has_a_folder_whose_name_is_short(stage: Stage):
    text = " ".join(f"package-{i}==1.{i}" for i in range(40))
    assert len(folder_of(stage.environment(text)).name) < 100


def test_the_cache_is_where_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("LOSSAUDIT_CACHE", "~/own")
    assert cache() == Path("/home/me/own")
    monkeypatch.setenv("LOSSAUDIT_CACHE", "own")
    assert cache() == tmp_path / "own"
    monkeypatch.delenv("LOSSAUDIT_CACHE")
    assert cache() == Path("/xdg/lossaudit")
    for ignored in ("relative", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache() == Path("/home/me/.cache/lossaudit")


def test_a_cache_that_cannot_be_written_is_named(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOSSAUDIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(FailedInstallation, match="Set LOSSAUDIT_CACHE to another") as caught:
        stage.environment()
    assert (
        f"environment old: the folder where environments are kept cannot be used: {tmp_path}"
        in (str(caught.value))
    )


def test_a_kept_environment_needs_no_write(stage: Stage):
    made = stage.environment()
    (folder_of(made) / "lock").unlink()
    assert stage.environment() == made
    assert not (folder_of(made) / "lock").exists()


# --- what is made anew ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamp", "said"),
    [
        (None, "an installation that did not finish is begun anew"),
        ("", "made.json is damaged"),
        ('{"made": "now"', "made.json is damaged"),
        ('{"made": "now"}', "made.json is damaged"),
        ("[1]", "made.json is damaged"),
        ('{"made": "now", "installed": [1]}', "made.json is damaged"),
        ('{"made": "now", "installed": {"tiny": "0.9"}}', "was changed after it was made"),
    ],
)
def test_without_a_sound_record_it_is_made_anew(stage: Stage, stamp: str | None, said: str):
    made = stage.environment()
    file = folder_of(made) / "made.json"
    record = json.loads(file.read_text())
    if stamp is None:
        file.unlink()
    else:
        file.write_text(stamp)
    left = folder_of(made) / "venv" / "left"
    left.write_text("by the first")
    assert stage.environment() == made
    assert [said in line for line in stage.said].count(True) == 1
    assert len(stage.calls("venv")) == 2
    assert not left.exists()
    assert json.loads(file.read_text())["installed"] == record["installed"]
    stage.environment()
    assert len(stage.calls("venv")) == 2


def test_an_environment_that_somebody_changed_is_made_anew(stage: Stage):
    made = stage.environment()
    Path(made.python).unlink()
    assert stage.environment() == made
    assert "was changed" in stage.said[0]
    assert installed(made)["tiny"] == "1.0"


def test_a_local_file_that_changed_is_installed_into_another(stage: Stage, tmp_path: Path):
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    wheel.write_bytes(b"first")
    first = stage.environment(str(wheel))
    wheel.write_bytes(b"second")
    second = stage.environment(str(wheel))
    wheel.write_bytes(b"first")
    assert stage.environment(str(wheel)) == first != second


# --- what is withheld from pip --------------------------------------------------------------------


def test_variables_that_lead_elsewhere_do_not_reach_pip(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    for name in (*WITHHELD, *GIVEN):
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("PIP_CONSTRAINT", "/constraints.txt")
    stage.environment()
    seen = stage.variables()
    assert not set(seen) & set(WITHHELD)
    assert seen["PIP_USER"] == "0"
    assert seen["PIP_INDEX_URL"] == "https://mirror.example/simple"
    assert seen["PIP_CONSTRAINT"] == "/constraints.txt"
    for name in ("PIP_TARGET", "PIP_PREFIX", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        assert name in WITHHELD


# --- failures -------------------------------------------------------------------------------------


def failure(stage: Stage, text: str = "tiny==1.0") -> str:
    with pytest.raises(FailedInstallation) as caught:
        stage.environment(text)
    return str(caught.value)


def test_what_pip_says_reaches_the_user_and_the_log(stage: Stage):
    stage.plays(
        "pip",
        """
        echo 'Collecting tiny==1.0'
        echo '  Downloading tiny-1.0-py3-none-any.whl.metadata (5 kB)'
        echo '  Downloading tiny-1.0-py3-none-any.whl (5.4 MB)'
        echo 'WARNING: something'
        printf 'Installing collected packages: tiny\\n\\377\\n'
        """,
    )
    made = stage.environment("tiny==1.0 numpy==1.26")
    assert stage.said[1:-1] == [
        "Collecting tiny==1.0",
        "Downloading tiny-1.0-py3-none-any.whl (5.4 MB)",
        "Installing collected packages: tiny",
    ]
    log = (folder_of(made) / "install.log").read_text()
    assert "WARNING: something" in log
    assert "metadata (5 kB)" in log


def test_a_failure_of_pip_says_which_package_and_why_and_is_tried_again(stage: Stage):
    message = (
        "ERROR: Could not find a version that satisfies the requirement tiny==1.0 "
        "(from versions: 0.8, 0.9)"
    )
    stage.plays("pip", f"echo '{message}' >&2; exit 1")
    said = failure(stage)
    assert said.startswith(
        "environment old: cannot install tiny==1.0: "
        "no version satisfies tiny==1.0; there is 0.8, 0.9\n"
    )
    log = Path(said.splitlines()[-1].removeprefix("All that was printed: "))
    assert message in log.read_text()
    assert not (log.parent / "made.json").exists()
    assert not (log.parent / "venv").exists()
    stage.plays("pip", "exit 0")
    assert installed(stage.environment())["tiny"] == "1.0"
    assert message not in log.read_text()


def test_a_failure_to_add_numpy_is_one(stage: Stage):
    stage.plays("pip", "[ -e first ] && { echo ERROR: no NumPy; exit 1; }; touch first")
    assert "cannot install tiny==1.0: no NumPy" in failure(stage)


def test_a_python_without_venv_says_what_to_install(stage: Stage):
    stage.plays("venv", "echo 'ensurepip is not available'; exit 1")
    said = failure(stage)
    assert said.startswith(f"environment old: cannot make one with {stage.python}: this Python")
    assert "apt install python3.11-venv" in said


def test_a_success_that_went_elsewhere_is_none(stage: Stage):
    (stage.folder / "elsewhere").touch()
    said = failure(stage)
    assert "pip reported success, but the environment has no tiny and no numpy" in said


# --- several processes, and ends in the middle ----------------------------------------------------

WAITS = "touch begun; while [ ! -e go ]; do sleep 0.02; done"


def test_of_two_processes_at_once_one_makes_it_and_the_other_waits(stage: Stage):
    stage.plays("pip", WAITS)
    with stage.started() as first, stage.started() as second:
        stage.waits_for("begun")
        both = {process: lines_of(process) for process in (first, second)}
        openings = {next(lines).split()[0]: process for process, lines in both.items()}
        assert set(openings) == {"making", "waiting"}
        (stage.folder / "go").touch()
        last = next(both[openings["waiting"]])
        assert [process.wait(60) for process in (first, second)] == [0, 0]
    assert last.startswith("using the environment for tiny==1.0 of ")
    assert len(stage.calls("venv")) == 1


@pytest.mark.parametrize("what", ["venv", "pip"])
def test_ctrl_c_ends_what_was_started_and_the_next_start_makes_it_anew(stage: Stage, what: str):
    stage.plays(what, WAITS)
    with stage.started() as process:
        stage.waits_for("begun")
        player = stage.process_of_last_call()
        assert os.getsid(player) != os.getsid(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said = list(lines_of(process))
        assert process.wait(60) == 130
    assert said[-1] == "interrupted\n"
    assert not is_alive(player)
    (stage.folder / f"{what}.sh").unlink()
    made = stage.environment()
    assert installed(made)["tiny"] == "1.0"
    assert ("did not finish" in stage.said[0]) == (what == "pip")
    assert not [line for line in stage.said if "waiting" in line]


def test_a_pip_that_does_not_heed_ctrl_c_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lossaudit.adapters.installation.GRACE_SECONDS", 0.1)
    stage.plays("pip", "trap '' INT; echo Collecting tiny; exec sleep 600")

    def interrupt(line: str) -> None:
        if line.startswith("Collecting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        environment_for("tiny==1.0", "old", interrupt, stage.python)
    assert not is_alive(stage.process_of_last_call())


def test_what_a_killed_process_left_is_waited_for_and_made_anew(stage: Stage):
    stage.plays("pip", WAITS)
    with stage.started() as process:
        stage.waits_for("begun")
        player = stage.process_of_last_call()
        process.kill()
    assert is_alive(player)  # it installs on: nobody else may meanwhile
    with stage.started() as process:
        lines = lines_of(process)
        assert next(lines).startswith("waiting for another process")
        (stage.folder / "go").touch()
        rest = list(lines)
        assert process.wait(60) == 0
    assert rest[0] == "an installation that did not finish is begun anew\n"
    assert rest[-1].endswith("tiny 1.0, numpy 1.0\n")
    assert not is_alive(player)
    assert len(stage.calls("venv")) == 2


# --- the real venv and pip ------------------------------------------------------------------------


def wheel(folder: Path, name: str, version: str, *requires: str) -> Path:
    """A package of one empty module, as a wheel."""
    info = f"{name}-{version}.dist-info"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": "".join([*lines, *(f"Requires-Dist: {each}\n" for each in requires)]),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that the user's own configuration of pip names."""
    folder = tmp_path / "wheels"
    wheel(folder, "numpy", "1.26")
    wheel(folder, "numpy", "2.4")
    wheel(folder, "tiny", "1.0")
    wheel(folder, "old", "1.0", "numpy<2")
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        f"[global]\nno-index = true\nfind-links = {folder}\n[install]\nuser = true\n"
    )
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    return folder


def test_pip_makes_it_where_nothing_outside_is_seen(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    outside = tmp_path / "outside"
    with zipfile.ZipFile(index / "numpy-1.26-py3-none-any.whl") as archive:
        archive.extractall(outside)
    for name in ("PYTHONPATH", "PIP_TARGET", "PIP_PREFIX"):
        monkeypatch.setenv(name, str(outside))
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    before = sorted(outside.rglob("*"))
    said: list[str] = []
    made = environment_for("tiny", "new", said.append)
    examine(made)
    found = installed(made)
    assert (found["tiny"], found["numpy"]) == ("1.0", "2.4")
    assert set(found) <= {"tiny", "numpy", "pip", "setuptools"}
    assert "lossaudit" not in found
    assert sorted(outside.rglob("*")) == before
    assert "Installing collected packages: numpy" in said


@pytest.mark.slow
@pytest.mark.usefixtures("index")
def test_numpy_is_one_that_goes_with_what_was_asked_for():
    found = installed(environment_for("old", "new", print))
    assert found["numpy"] == "1.26"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tiny==99", ": no version satisfies tiny==99; there is 1.0\nAsk for one of them."),
        ("nonexistent-package", ": nothing was found for nonexistent-package\nCheck how"),
        (
            "clash tiny==1.0",
            " do not go together:\n    The user requested tiny==1.0\n    clash 1.0 depends on tiny",
        ),
    ],
)
def test_pip_itself_says_what_it_cannot_install(index: Path, text: str, reason: str):
    wheel(index, "clash", "1.0", "tiny<1")
    with pytest.raises(FailedInstallation) as caught:
        environment_for(text, "new", print)
    assert str(caught.value).startswith(f"environment new: cannot install {text}: ")
    assert reason in str(caught.value)


BACKEND = """import os, shutil, time
def build_wheel(folder, settings=None, metadata=None):
    stage = os.environ["STAGE"]
    open(os.path.join(stage, "begun"), "w").write(str(os.getpid()))
    if not os.path.exists(os.path.join(stage, "go")):
        time.sleep(600)
    return os.path.basename(shutil.copy(os.environ["WHEEL"], folder))
"""


@pytest.mark.slow
def test_a_folder_that_is_being_built_can_be_interrupted_and_changed(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(BACKEND)
    monkeypatch.setenv("STAGE", str(tmp_path))
    monkeypatch.setenv("WHEEL", str(wheel(index, "local", "1.0", "numpy")))
    begun = tmp_path / "begun"
    command = [sys.executable, "-c", START, sys.executable, str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        until(lambda: begun.exists() and bool(begun.read_text()), "pip builds nothing")
        os.killpg(process.pid, signal.SIGINT)
        assert list(lines_of(process))[-1] == "interrupted\n"
    until(lambda: not is_alive(int(begun.read_text())), "the build goes on")

    (tmp_path / "go").touch()
    said: list[str] = []
    made = environment_for(str(folder), "new", said.append)
    assert "did not finish" in said[0]
    assert installed(made)["local"] == "1.0"
    monkeypatch.setenv("WHEEL", str(wheel(index, "local", "1.1", "numpy")))
    assert environment_for(str(folder), "new", said.append) == made
    (folder / "module.py").write_text("changed = True\n")
    changed = environment_for(str(folder), "new", said.append)
    assert changed != made
    assert installed(changed)["local"] == "1.1"
