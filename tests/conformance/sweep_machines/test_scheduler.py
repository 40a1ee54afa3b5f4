"""Sweeps on Dask: real schedulers and workers on the loopback."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from typer.testing import CliRunner

from lossaudit import cli
from lossaudit.adapters.client import UnusableFramework
from lossaudit.conformance.sweep import scheduler
from lossaudit.conformance.sweep.block import Unaskable
from lossaudit.conformance.sweep.engine import (
    AHEAD,
    Journal,
    SweepError,
    in_processes,
    read_journal,
    sweep,
)
from lossaudit.conformance.sweep.plan import Inputs, Job, asking, subject_of
from lossaudit.conformance.sweep.record import finished, read_sweep
from lossaudit.conformance.sweep.scheduler import on_dask

START_SECONDS = 60


class Cluster:
    """A scheduler and workers, each a process as its command line starts it."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._folder, self._environment = folder, environment
        self.processes: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file]
        self._start("scheduler", *options)
        deadline = time.monotonic() + START_SECONDS
        while not (file.exists() and file.read_text().endswith("}")):
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        self.address: str = json.loads(file.read_text())["address"]

    def worker(self, threads: int = 1, **environment: str) -> subprocess.Popen[bytes]:
        options = ["--no-nanny", "--no-dashboard", "--nthreads", str(threads)]
        where = ["--local-directory", self._folder]
        return self._start("worker", self.address, *options, *where, **environment)

    def _start(self, *arguments: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                cwd=self._folder,
                env={**os.environ, **self._environment, **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait(10)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A scheduler with a worker of one thread, and one of two."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    made.worker()
    made.worker(threads=2)
    yield made
    made.close()


@pytest.fixture
def another(tmp_path) -> Iterator[Callable[..., Cluster]]:
    """A scheduler for one test, without workers."""
    made: list[Cluster] = []

    def make(**environment: str) -> Cluster:
        made.append(Cluster(tmp_path, **environment))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_sweep_on_a_scheduler_is_the_one_of_this_process(cluster, job, alone, kept) -> None:
    assert kept(job(), on_dask(cluster.address)) == alone()


def test_the_command_line_sweeps_on_a_scheduler(cluster, tmp_path) -> None:
    what = ["sweep", "quick", "--backend", "sweep_numbers", "--dtype", "float16"]
    for name, options in (("here", ["--jobs", "1"]), ("there", ["--scheduler", cluster.address])):
        out = tmp_path / f"{name}.json"
        done = CliRunner().invoke(cli.app, [*what, *options, "--out", str(out)])
        assert done.exit_code == 0, done.output
    here, there = (read_sweep(tmp_path / f"{name}.json") for name in ("here", "there"))
    assert here.curves == there.curves
    assert (here.cost.jobs, there.cost.jobs) == (1, 0)


def test_only_some_chunks_are_with_the_scheduler_at_a_time(cluster, job) -> None:
    from distributed import Client

    one, most = job(chunk=512), 0
    engine = on_dask(cluster.address)(one, range(len(one.chunks())))
    with Client(cluster.address, set_as_default=False) as client:
        for _ in engine:
            most = max(most, tasks_of(client))
        while tasks_of(client):
            time.sleep(0.02)  # the last one is released a moment after it was taken
    # Three threads; the chunk that was just taken may not be forgotten yet.
    assert AHEAD <= most <= AHEAD * 3 + 1
    assert len(one.chunks()) > 2 * most


def tasks_of(client: Any) -> int:
    """How many tasks a scheduler knows."""
    return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def test_a_sweep_that_is_left_takes_its_chunks_back(cluster, job) -> None:
    from distributed import Client

    one = job("slow")
    engine = on_dask(cluster.address)(one, range(len(one.chunks())))
    next(iter(engine))
    assert isinstance(engine, Generator)
    engine.close()
    with Client(cluster.address, set_as_default=False) as client:
        deadline = time.monotonic() + 10
        while tasks_of(client):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_what_cannot_be_asked_is_told_as_without_a_scheduler(cluster, job) -> None:
    with pytest.raises(Unaskable) as here:
        list(in_processes(1)(job("widened"), [0]))
    with pytest.raises(Unaskable) as there:
        list(on_dask(cluster.address)(job("widened"), [0]))
    assert str(there.value) == str(here.value)


@pytest.fixture(scope="module")
def unusable(tmp_path_factory) -> Job:
    """A job whose interpreter is not there."""
    subject = subject_of("torch", "binary_cross_entropy_with_logits", "eager")
    absent = str(tmp_path_factory.mktemp("absent") / "python")
    return Job(askings=[asking(subject, "bfloat16", Inputs())], python=absent)


def test_a_framework_that_cannot_be_used_is_told_as_here(cluster, unusable) -> None:
    with pytest.raises(UnusableFramework, match=r"torch cannot be used: .*absent") as here:
        list(in_processes(1)(unusable, [0]))
    with pytest.raises(UnusableFramework) as there:
        list(on_dask(cluster.address)(unusable, [0]))
    assert str(there.value) == str(here.value)
    assert there.value.framework == "torch"


def test_a_framework_that_cannot_be_used_is_told_from_other_processes(unusable) -> None:
    with pytest.raises(UnusableFramework, match=r"torch cannot be used: .*absent"):
        list(in_processes(2)(unusable, [0]))


def test_a_worker_with_another_lossaudit_is_refused(cluster, job) -> None:
    one = msgspec.structs.replace(job(), lossaudit="0.0.1", code="of that one")
    says = r"on a worker of tcp://.*: this sweep was begun by lossaudit 0\.0\.1 with other code"
    with pytest.raises(SweepError, match=says):
        list(on_dask(cluster.address)(one, [0]))


def test_a_cluster_with_another_dask_is_refused(monkeypatch, cluster, job) -> None:
    from distributed import Client

    told: Any = Client.get_versions

    def get_versions(client: Client) -> dict[str, Any]:
        found = told(client)
        found["client"]["packages"]["distributed"] = "2020.1.0"
        return found

    monkeypatch.setattr(Client, "get_versions", get_versions)
    says = r"the scheduler at tcp://.* has distributed .*, and here is distributed 2020"
    with pytest.raises(SweepError, match=says):
        list(on_dask(cluster.address)(job(), [0]))


def test_without_dask_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SweepError, match=r"pip install 'lossaudit\[dask\]'"):
        on_dask("tcp://127.0.0.1:8786")


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(SweepError, match="'somewhere' is no scheduler"):
        on_dask("somewhere")


@pytest.mark.parametrize("scheme", ["tcp", "nonsense"])
def test_an_address_without_a_scheduler_is_told_soon(monkeypatch, job, scheme) -> None:
    monkeypatch.setattr(scheduler, "CONNECT_SECONDS", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(SweepError, match=f"no Dask scheduler answers at {address}"):
            list(on_dask(address)(job(), [0]))


@pytest.mark.slow  # a scheduler of its own, 3 s
def test_a_scheduler_without_workers_is_not_waited_for_forever(monkeypatch, job, another) -> None:
    monkeypatch.setattr(scheduler, "ALONE_SECONDS", 0.5)
    monkeypatch.setattr(scheduler, "LOOK_SECONDS", 0.1)
    with pytest.raises(SweepError, match=r"has had no worker for 0\.5 s: start one with `dask"):
        list(on_dask(another().address)(job(), [0]))


@pytest.mark.slow  # a scheduler and workers of its own, 5 s
def test_a_worker_killed_in_the_middle_loses_nothing(job, alone, kept, another) -> None:
    cluster = another()
    victim, _ = [cluster.worker() for _ in range(2)]
    orphans: list[int] = []

    def kill_one(_: object) -> None:
        if not orphans:  # it may have started later than the other one
            orphans.extend(children(victim.pid))
            if orphans:
                victim.kill()

    one = job("slow", chunk=1024)
    assert kept(one, on_dask(cluster.address), heard=kill_one) == alone("slow")
    assert victim.wait(10) == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in orphans):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    every = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in every for child in file.read_text().split()]


@pytest.mark.slow  # a scheduler and workers of its own, 5 s
def test_a_chunk_that_kills_its_workers_ends_the_sweep_in_words(job, kept, another) -> None:
    cluster = another(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1")
    for _ in range(3):
        cluster.worker()
    with pytest.raises(SweepError, match=r"^2 workers died over chunk \d+, the last one at tcp://"):
        kept(job("deadly"), on_dask(cluster.address))


@pytest.mark.slow  # a scheduler and a worker of its own, 4 s
def test_a_scheduler_that_ends_is_told_and_what_was_done_is_kept(
    monkeypatch, job, alone, kept, another
) -> None:
    monkeypatch.setattr(scheduler, "CONNECT_SECONDS", 1.0)
    cluster = another()
    cluster.worker()
    begun = []

    def kill_scheduler(_: object) -> None:
        begun.append(1)
        if len(begun) == 4:
            cluster.processes[0].kill()

    with pytest.raises(SweepError, match=rf"the scheduler at {cluster.address} is gone"):
        kept(job("slow", chunk=2048), on_dask(cluster.address), heard=kill_scheduler)
    assert 4 <= len(begun) < len(job("slow", chunk=2048).chunks())
    assert kept(job("slow", chunk=2048), in_processes(1)) == alone("slow")


@pytest.mark.slow  # a scheduler and a worker of its own, 3 s each
@pytest.mark.parametrize("lacking", ["scheduler", "worker"])
def test_lossaudit_is_needed_by_workers_alone(job, another, tmp_path, lacking) -> None:
    hidden = tmp_path / "hidden" / "lossaudit"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError('No module named lossaudit')")
    found = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    without = {"PYTHONPATH": str(hidden.parent)}
    cluster = another(**without if lacking == "scheduler" else found)
    cluster.worker(**without if lacking == "worker" else found)
    engine = on_dask(cluster.address)
    if lacking == "scheduler":
        assert [done.number for done in engine(job(), [0])] == [0]
    else:
        with pytest.raises(SweepError, match=r"cannot load lossaudit \(.*No module .*\): install"):
            list(engine(job(), [0]))


@pytest.mark.slow  # starts a scheduler and workers, 5 s
def test_a_local_cluster_does_the_same_and_leaves_nothing(job, alone, begun, same) -> None:
    sweeping = begun(job(), "dask")
    assert sweeping.process.wait(60) == 0
    assert same(finished(*read_journal(sweeping.journal)[:2])) == alone()
    assert sweeping.left() == []


@pytest.mark.slow  # starts a scheduler and workers, 7 s each
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_local_cluster_ends_with_the_sweep_and_the_next_goes_on(
    job, alone, begun, same, end
) -> None:
    one = job("slow", chunk=2048)
    sweeping = begun(one, "dask")
    sweeping.chunks(4)
    found, ports = listening(sweeping.processes())
    assert found == {"127.0.0.1"}
    assert 8787 not in ports
    assert sweeping.end(end) == (130 if end == signal.SIGINT else -end)
    assert sweeping.left() == []
    if end == signal.SIGINT:
        assert sweeping.said() == ""
    journal = Journal.opened(sweeping.journal, one)
    assert 4 <= len(journal.done) < len(one.chunks())
    sweep(journal, in_processes(1))
    assert same(finished(*read_journal(sweeping.journal)[:2])) == alone("slow")


def listening(processes: list[int]) -> tuple[set[str], set[int]]:
    """The addresses and ports on which processes wait for connections."""
    found = [
        connection.laddr
        for pid in processes
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    return {address.ip for address in found}, {address.port for address in found}
