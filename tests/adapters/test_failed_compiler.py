"""A compiler that fails says nothing about the op; an op that raises says nothing of a compiler."""

from __future__ import annotations

from lossaudit.adapters.pytorch import failed_compiler


class CppCompileError(RuntimeError):
    """As torch._inductor.exc has it."""


class BackendCompilerFailed(RuntimeError):
    """As torch._dynamo.exc has it: the inner exception is an attribute."""

    def __init__(self, inner):
        super().__init__(f"backend='inductor' raised: {type(inner).__name__}: {inner}")
        self.inner_exception = inner


def test_a_failed_compiler_is_told_from_an_op_that_raises(monkeypatch):
    import sys
    import types

    fake = types.SimpleNamespace(__file__="/opt/my env/torch/__init__.py")
    monkeypatch.setitem(sys.modules, "torch", fake)
    assert not failed_compiler(IndexError("Target 7 is out of bounds."))
    assert not failed_compiler(BackendCompilerFailed(IndexError("Target 7 is out of bounds.")))
    said = failed_compiler(BackendCompilerFailed(CppCompileError("g++ ...")))
    assert "'/opt/my env/torch' has a space" in said
    fake.__file__ = "/opt/env/torch/__init__.py"
    assert "could not build its C++ code" in failed_compiler(CppCompileError("no g++"))
