"""Stand-ins for the worker pool that call functions in this process.

`InProcess` calls a function of a case, for tests and mutants; `InThisProcess` a declared function
of a library's tensors, by the very path on which a worker calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..reference.vocabulary import BY_ROW, INPUTS_CHANGED, Case, Floats, Outcome
from .client import call_bytes, outcome_from_frame
from .declare import Declared
from .functions import FunctionsRuntime
from .modules import framework_of
from .protocol import HEADER, Frame, unpack_body, unpack_header
from .runtime import Result, call_from_frame
from .subject import Subject
from .worker import Server

Function = Callable[[Case], "tuple[Floats, ...]"]


class InProcess:
    """Asks functions instead of workers.

    Args:
        functions: (case) -> (loss, gradient) for every subject, or by the subject's op or name;
            with a third array, the gradient with respect to the target. float64 arrays hold the
            numbers of the case's format; a loss of another type is said to come in that one.
    """

    def __init__(self, functions: Function | dict[str, Function]) -> None:
        self._functions = functions

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to end."""

    def ask(self, subject: Subject, case: Case) -> Outcome:
        """What the function returns or raises, as an outcome."""
        arrays = {name: getattr(case, name) for name in BY_ROW}
        given = replace(case, **{k: None if a is None else a.copy() for k, a in arrays.items()})
        outcome = self._outcome(subject, given)
        if _bits(given) == _bits(case):
            return outcome
        return replace(outcome, warnings=(INPUTS_CHANGED,))

    def _outcome(self, subject: Subject, case: Case) -> Outcome:
        try:
            loss, gradient, *more = self._function(subject)(case)
            # float64 holds the numbers of any format; another type is what it says.
            narrow = np.asarray(loss).dtype != np.float64
            dtype = np.asarray(loss).dtype.name if narrow else case.dtype
        except Exception as error:  # noqa: BLE001 - what the function raises is the outcome
            return Outcome("raised", message=f"{type(error).__name__}: {error}")
        loss, gradient = np.asarray(loss, np.float64), np.asarray(gradient, np.float64)
        status, message = "returned", ""
        reduction = case.options.reduction
        right = [(case.rows,)] if reduction in ("none", "default") else []
        right += [()] if reduction != "none" else []
        if loss.shape not in right or gradient.shape != case.inputs.shape:
            status = "wrong shape"
            message = f"loss {loss.shape}, gradient {gradient.shape} for inputs {case.inputs.shape}"
        by_target = np.asarray(more[0], np.float64) if more else None
        return Outcome(status, loss, gradient, by_target, dtype, message)

    def versions(self, framework: str) -> dict[str, str]:
        """A framework that runs in this process has no version of its own."""
        return {framework: "in process"}

    def facts(self, framework: str) -> dict[str, str]:
        """No facts that move numbers are known."""
        del framework
        return {}

    def environment(self) -> dict[str, dict[str, Any]]:
        """No worker, no environment."""
        return {}

    def _function(self, subject: Subject) -> Function:
        if callable(self._functions):
            return self._functions
        return self._functions.get(subject.name) or self._functions[subject.op]


def _bits(case: Case) -> list[bytes]:
    arrays = (getattr(case, name) for name in BY_ROW)
    return [b"" if array is None else array.tobytes() for array in arrays]


class InThisProcess:
    """Asks one declared function without a worker: a crash or a hang is this process's own."""

    def __init__(self, declared: Declared) -> None:
        name = declared.subject.framework
        self._framework = framework_of(name, "", (declared.subject,))
        self._runtime = FunctionsRuntime([declared])
        # A worker imports its modules by their full names, which are other types to a type checker.
        self._server: Any = Server()
        self._server.hold("", self._runtime)

    def ask(self, subject: Subject, case: Case) -> Outcome:
        """What the function returns or raises, as an outcome."""
        return outcome_from_frame(_frame(self._server.answer(_frame(self._call(subject, case)))))

    def result(self, subject: Subject, case: Case) -> Result:
        """What the function returns; what it raises is raised."""
        return self._runtime.call(call_from_frame(_frame(self._call(subject, case))))

    def _call(self, subject: Subject, case: Case) -> bytes:
        return call_bytes(self._framework, subject, case)

    def versions(self, framework: str) -> dict[str, str]:
        """Versions of the library whose tensors the function takes."""
        del framework
        return self._runtime.versions()


def _frame(packed: bytes) -> Frame:
    """The frame that a worker's pipe would carry."""
    text, _ = unpack_header(packed[: HEADER.size])
    return unpack_body(packed[HEADER.size :], text)
