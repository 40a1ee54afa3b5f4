"""Runs the chunks of a sweep on the workers of a Dask scheduler, or of one that it begins itself.

Chunks go out as workers get free, a few ahead for each thread, and what was done comes back as it
is done. Dask begins a chunk again whose worker died; a worker needs lossaudit and the framework.
"""

from __future__ import annotations

import importlib.util
import logging
import pickle
import queue
import signal
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...adapters.client import UnusableFramework
from ...adapters.worker import usable_cores
from .block import Unaskable
from .chunk import Done, run_chunk
from .engine import AHEAD, Engine, SweepError
from .plan import CannotSweep, Job

if TYPE_CHECKING:
    from distributed import Client, Future

LOCAL = "local"
"""The address that stands for a scheduler with workers of its own on this machine."""

CONNECT_SECONDS = 15.0
"""In which a scheduler answers that is there."""

ALONE_SECONDS = 300.0
"""After so long without any worker there is no sense in waiting: one starts in seconds, but a
machine for it may have to be given first."""

LOOK_SECONDS = 2.0
"""Between two looks at which workers there are."""

GOES_ON = "What was done is kept; the same command goes on"


def on_dask(address: str, jobs: int | None = None) -> Engine:
    """An engine of a Dask scheduler.

    Args:
        address: of the scheduler, such as "tcp://host:8786", or LOCAL for one that begins and ends
            with the sweep, on this machine.
        jobs: worker processes of a local one; None for one per core.

    Raises:
        SweepError: Dask is not installed, or this is no address. What else goes wrong is told where
            the engine is used.
    """
    if importlib.util.find_spec("distributed") is None:
        raise SweepError(
            "--scheduler needs Dask, which is not installed here: pip install 'lossaudit[dask]'"
        )
    if address != LOCAL and "://" not in address:
        raise SweepError(
            f"{address!r} is no scheduler: give its address, such as tcp://host:8786, or {LOCAL!r}"
        )

    def engine(job: Job, numbers: Sequence[int]) -> Iterator[Done]:
        with _client(address, jobs) as client:
            yield from _Crew(client, address).done(job, numbers)

    return engine


class _Call:
    """A call of `run_chunk` that is made where it is unpickled.

    A Dask worker ends without a word over a function that it cannot import. What it lacks while it
    unpickles is an error of that task alone; and the scheduler needs no lossaudit.
    """

    def __init__(self, job: Job, number: int) -> None:
        self._arguments = job, number

    def __reduce__(self) -> tuple[Callable[[Job, int], Done], tuple[Job, int]]:
        return run_chunk, self._arguments


@contextmanager
def _client(address: str, jobs: int | None) -> Iterator[Client]:
    """A connection to the scheduler, which is begun where it shall be a local one."""
    from distributed import Client

    with ExitStack() as stack:
        stack.enter_context(_silence())
        where = address if address != LOCAL else stack.enter_context(_cluster(jobs))
        try:
            client = Client(where, timeout=CONNECT_SECONDS, set_as_default=False)
        except Exception as error:  # what an address or another version's scheduler leads to
            raise SweepError(
                f"no Dask scheduler answers at {address} within {CONNECT_SECONDS:g} s "
                f"({_text(error)}). Start one with `dask scheduler`"
            ) from error
        stack.enter_context(client)
        yield client


@contextmanager
def _cluster(jobs: int | None) -> Iterator[str]:
    """The address of a scheduler on the loopback, with worker processes of one thread."""
    from distributed import LocalCluster

    # No limit of memory: a chunk needs little, and Dask does not see the framework's process.
    cluster = LocalCluster(
        n_workers=jobs or usable_cores() or 1,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        # No pages; and what tells whether it lives, it tells on a port that is known to nobody.
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        memory_limit=0,
        silence_logs=logging.CRITICAL,
        preload=[__name__],
    )
    with cluster:
        yield cluster.scheduler_address


def dask_setup(worker: object) -> None:
    """Called by Dask in each worker process of a local cluster: Ctrl-C is for their parent."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _silence() -> Iterator[None]:
    """Without what Dask logs and warns of: what matters is raised, once and in words."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "tornado")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"distributed\.")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class _Crew:
    """The workers of a scheduler, as seen from here."""

    def __init__(self, client: Client, address: str) -> None:
        self._client: Any = client  # typed as if each call could be of an asynchronous one
        self._address = address
        self._threads = 0
        self._looked = self._peopled = time.monotonic()
        self._compare()

    def done(self, job: Job, numbers: Sequence[int]) -> Iterator[Done]:
        """Chunks as they are done."""
        name, waiting = f"lossaudit-{uuid.uuid4().hex}", iter(numbers)
        running: dict[int, Future] = {}
        ready = queue.SimpleQueue[int]()
        try:
            while True:
                self._look()
                room = AHEAD * max(1, self._threads) - len(running)
                for _, number in zip(range(room), waiting, strict=False):
                    running[number] = self._client.submit(
                        pickle.loads,
                        pickle.dumps(_Call(job, number)),
                        key=f"{name}-{number}",
                        pure=False,
                    )
                    running[number].add_done_callback(partial(_note, ready, number))
                if not running:
                    return
                number = self._next(ready)
                yield self._result(running.pop(number), number)
        finally:
            self._client.cancel(list(running.values()), force=True)

    def _next(self, ready: queue.SimpleQueue[int]) -> int:
        """The number of a chunk that ended; meanwhile the workers are watched."""
        while True:
            self._look()
            try:
                return ready.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue

    def _result(self, future: Future, number: int) -> Done:
        """What a chunk that ended has seen; where its worker is lost since, it is begun again.

        Raises:
            Unaskable, UnusableFramework: as where it was done.
            SweepError: it cannot be done.
        """
        from distributed import KilledWorker

        while True:
            self._look()
            try:
                return future.result(timeout=LOOK_SECONDS)
            except TimeoutError as error:
                if future.done():  # it is the chunk's own, of a file system or the like
                    raise SweepError(f"chunk {number} failed: {error!r}. {GOES_ON}") from error
            except (Unaskable, UnusableFramework):
                raise
            except CannotSweep as error:  # what is here, and what is there, are not the same
                raise SweepError(f"on a worker of {self._address}: {error}. {GOES_ON}") from error
            except KilledWorker as error:
                raise SweepError(
                    f"{error.allowed_failures + 1} workers died over chunk {number}, the last one "
                    f"at {error.last_worker.address}: out of memory? {GOES_ON}"
                ) from error
            except CancelledError as error:
                raise self._gone() from error
            except ImportError as error:
                raise SweepError(
                    f"a worker of {self._address} cannot load lossaudit ({_text(error)}): install "
                    f"lossaudit {__version__} there, with the framework. {GOES_ON}"
                ) from error
            except Exception as error:  # a bug, or a machine where something is missing
                raise SweepError(
                    f"chunk {number} failed on a worker of {self._address}: {_text(error)}. "
                    f"{GOES_ON}"
                ) from error

    def _look(self) -> None:
        """See which workers there are, now and then.

        Raises:
            SweepError: none have been there for long, or the scheduler is gone.
        """
        now = time.monotonic()
        if self._threads and now < self._looked + LOOK_SECONDS:
            return
        try:
            self._threads = sum(self._client.nthreads().values())
        except OSError as error:
            raise self._gone() from error
        self._looked = now
        if self._threads:
            self._peopled = now
        elif now > self._peopled + ALONE_SECONDS:
            raise SweepError(
                f"the scheduler at {self._address} has had no worker for {ALONE_SECONDS:g} s: "
                f"start one with `dask worker {self._address}`. {GOES_ON}"
            )

    def _compare(self) -> None:
        """Demand one version of Dask: others need not understand each other.

        Raises:
            SweepError: there are several.
        """
        found = self._client.get_versions()
        mine = found["client"]["packages"]["distributed"]
        others = {f"the worker at {at}": said for at, said in found["workers"].items()}
        for who, said in {
            f"the scheduler at {self._address}": found["scheduler"],
            **others,
        }.items():
            theirs = said["packages"]["distributed"]
            if theirs != mine:
                raise SweepError(
                    f"{who} has distributed {theirs}, and here is distributed {mine}: install the "
                    f"same there. {GOES_ON}"
                )

    def _gone(self) -> SweepError:
        return SweepError(f"the scheduler at {self._address} is gone. {GOES_ON}")


def _note(ready: queue.SimpleQueue[int], number: int, future: Future) -> None:
    del future
    ready.put(number)


def _text(error: Exception) -> str:
    """The first line of what went wrong."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
