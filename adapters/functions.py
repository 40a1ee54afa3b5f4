"""Calls functions that were declared with `declare.py`, each with the tensors of its library.

A reduced loss from logits is pulled back with 2, and the gradient halved: exact both ways, and a
backward that forgets its cotangent gives half a gradient. (What is pulled back through the losses
of the rows, the law `cotangents` says. From probabilities it is 1, since there a gradient may reach
the largest number of its format.)
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..reference.vocabulary import Options
from .declare import Declared, to_fields
from .protocol import RawArray
from .runtime import NUMPY_TYPES, Call, Result, Unsupported, flags, per_row, raw, subnormals
from .subject import DEVICES, Subject
from .torch_bits import laid_out, to_bits, to_tensor

TENSORFLOW_DEVICES = {"cuda": "GPU:0", "mps": "GPU:0"}
"""TensorFlow's words for the devices that have other names everywhere else."""


class Library(Protocol):
    """How one library's tensors are made, and how it differentiates."""

    def versions(self) -> dict[str, str]: ...

    def facts(self) -> dict[str, str]:
        """What moves its numbers, as the worker of its own framework says it."""
        ...

    def devices(self) -> list[str]:
        """Those of "cpu", "cuda" and "mps" that are there."""
        ...

    def call_function(self, declared: Declared, call: Call) -> Result: ...


def doubled(subject: Subject, options: Options) -> int:
    """What a reduced loss is pulled back with; 1 for the losses of rows."""
    return 2 if subject.from_logits and options.reduction != "none" else 1


def passed(declared: Declared, options: Options, vector: Callable[[Any], Any]) -> dict[str, Any]:
    """The keywords of a call; weights become arrays of the library by `vector`."""
    keywords = {name: getattr(options, name) for name in options.passed()}
    for name in ("weight", "pos_weight"):
        if name in keywords:
            keywords[name] = vector(np.atleast_1d(np.asarray(keywords[name], np.float64)))
    if declared.subject.takes_reduction and options.reduction != "default":
        keywords["reduction"] = options.reduction
    return keywords


def _demand_tensor(loss: Any, kind: type, declared: Declared) -> None:
    if not isinstance(loss, kind):
        raise TypeError(
            f"{declared.subject.op} returned {type(loss).__name__}, where the loss is to be a "
            f"{kind.__name__}"
        )


class TorchLibrary:
    """Functions of torch tensors."""

    def __init__(self) -> None:
        import torch

        self._torch = torch

    def versions(self) -> dict[str, str]:
        return {"torch": self._torch.__version__}

    def facts(self) -> dict[str, str]:
        from .pytorch import facts_of

        return facts_of(self._torch)

    def devices(self) -> list[str]:
        from .pytorch import devices_of

        return devices_of(self._torch)

    def call_function(self, declared: Declared, call: Call) -> Result:
        torch, subject = self._torch, declared.subject

        def tensor(bits: Any, dtype: str) -> Any:
            return to_tensor(torch, bits, dtype, subject.device)

        inputs = laid_out(tensor(call.inputs, call.dtype), call.layout).requires_grad_()
        target = tensor(call.target, "int64" if call.index else call.dtype)

        def vector(values: Any) -> Any:
            return torch.from_numpy(values).to(inputs)

        wanted = [inputs, target.requires_grad_()] if call.by_target else [inputs]
        loss = declared.function(inputs, target, **passed(declared, call.options, vector))
        _demand_tensor(loss, torch.Tensor, declared)
        factor = doubled(subject, call.options)
        asked = torch.ones_like(loss) * factor
        if call.cotangent is not None:
            asked = tensor(call.cotangent, call.dtype).to(loss).reshape(loss.shape)
        if call.direction is None:
            found = torch.autograd.grad(loss, wanted, asked)
        else:  # the Hessian of each row times the direction
            (gradient,) = torch.autograd.grad(loss, inputs, asked, create_graph=True)
            found = torch.autograd.grad(gradient, inputs, tensor(call.direction, call.dtype))
        gradients = [gradient / factor for gradient in found]
        loss = loss[:, 0] if per_row(tuple(loss.shape), len(call.inputs)) else loss
        return Result(*(to_bits(torch, tensor) for tensor in (loss, *gradients)))


class JaxLibrary:
    """Functions of JAX arrays."""

    def __init__(self) -> None:
        import jax

        self._jax = jax
        self._bfloat16 = jax.numpy.bfloat16.dtype

    def versions(self) -> dict[str, str]:
        version = importlib.metadata.version
        return {"jax": self._jax.__version__, "jaxlib": version("jaxlib")}

    def facts(self) -> dict[str, str]:
        from .jax_optax import facts_of

        return facts_of(self._jax)

    def devices(self) -> list[str]:
        return ["cpu", *(name for name in ("cuda", "mps") if self._has(name))]

    def _has(self, device: str) -> bool:
        try:
            return bool(self._jax.devices(device))
        except RuntimeError:  # no such backend, or one that cannot be started
            return False

    def call_function(self, declared: Declared, call: Call) -> Result:
        jax, subject = self._jax, declared.subject
        place = jax.devices(subject.device)[0]
        kind = NUMPY_TYPES.get(call.dtype, self._bfloat16)
        with self._wide(call.dtype), jax.default_device(place):
            inputs = jax.numpy.asarray(call.inputs.view(kind))
            target = jax.numpy.asarray(call.target if call.index else call.target.view(kind))

            def vector(values: Any) -> Any:
                return jax.numpy.asarray(values.astype(kind))

            keywords = passed(declared, call.options, vector)
            wanted = (inputs, target) if call.by_target else (inputs,)

            def loss_of(x: Any, y: Any = target) -> Any:
                return declared.function(x, y, **keywords)

            loss, pull_back = jax.vjp(loss_of, *wanted)
            _demand_tensor(loss, jax.Array, declared)
            factor = doubled(subject, call.options)
            asked = jax.numpy.ones_like(loss) * factor
            if call.cotangent is not None:
                rows = jax.numpy.asarray(call.cotangent.view(kind))
                asked = rows.astype(loss.dtype).reshape(loss.shape)
            gradients = pull_back(asked)
        loss = loss[:, 0] if per_row(tuple(loss.shape), len(call.inputs)) else loss
        return Result(
            raw(jax.device_get(loss), loss.dtype.name),
            *(_divided(jax.device_get(gradient), factor) for gradient in gradients),
        )

    def _wide(self, dtype: str) -> Any:
        """64-bit types where they are asked for; else as whoever imported jax set them."""
        if dtype != "float64":
            return contextlib.nullcontext()
        if hasattr(self._jax, "enable_x64"):
            return self._jax.enable_x64(True)  # noqa: FBT003 - it has no name
        return importlib.import_module("jax.experimental").enable_x64()  # older releases


class TensorFlowLibrary:
    """Functions of TensorFlow tensors."""

    def __init__(self) -> None:
        import tensorflow as tf

        self._tf = tf
        self._bfloat16 = tf.bfloat16.as_numpy_dtype

    def versions(self) -> dict[str, str]:
        return {"tensorflow": self._tf.__version__}

    def facts(self) -> dict[str, str]:
        from .tensorflow_nn import facts_of

        return facts_of(self._tf)

    def devices(self) -> list[str]:
        there = self._tf.config.list_physical_devices("GPU")
        return ["cpu", *(["mps" if sys.platform == "darwin" else "cuda"] if there else [])]

    def call_function(self, declared: Declared, call: Call) -> Result:
        tf, subject = self._tf, declared.subject
        kind = NUMPY_TYPES.get(call.dtype, self._bfloat16)
        with tf.device(TENSORFLOW_DEVICES.get(subject.device, subject.device)):
            inputs = tf.constant(call.inputs.view(kind))
            target = tf.constant(call.target if call.index else call.target.view(kind))

            def vector(values: Any) -> Any:
                return tf.constant(values.astype(kind))

            wanted = [inputs, target] if call.by_target else [inputs]
            with tf.GradientTape() as tape:
                tape.watch(wanted)
                loss = declared.function(inputs, target, **passed(declared, call.options, vector))
            _demand_tensor(loss, tf.Tensor, declared)
            factor = doubled(subject, call.options)
            asked = tf.ones_like(loss) * factor
            if call.cotangent is not None:
                rows = tf.constant(call.cotangent.view(kind))
                asked = tf.reshape(tf.cast(rows, loss.dtype), loss.shape)
            gradients = tape.gradient(loss, wanted, asked)
        if gradients[0] is None:
            raise ValueError(f"the loss of {subject.op} has no gradient in its inputs")
        if gradients[-1] is None:
            raise Unsupported(f"the loss of {subject.op} has no gradient in its target")
        loss = loss[:, 0] if per_row(tuple(loss.shape), len(call.inputs)) else loss
        dense = [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]
        return Result(
            raw(loss.numpy(), loss.dtype.name), *(_divided(array, factor) for array in dense)
        )


class NumpyLibrary:
    """Functions of NumPy arrays, which return the gradient too."""

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__}

    def facts(self) -> dict[str, str]:
        core: Any = getattr(np, "_core", None) or np.core  # its name before NumPy 2
        there: dict[str, bool] = core._multiarray_umath.__cpu_features__  # noqa: SLF001
        return {
            "cpu features": ", ".join(name for name, is_there in there.items() if is_there),
            "subnormals": subnormals(lambda x: x * np.float32(0.5)),
            **flags("NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES", "OMP_NUM_THREADS"),
        }

    def devices(self) -> list[str]:
        return ["cpu"]

    def call_function(self, declared: Declared, call: Call) -> Result:
        if call.by_target:
            raise Unsupported("a function of NumPy arrays returns no gradient in its target")
        kind = NUMPY_TYPES[call.dtype]
        inputs = call.inputs.view(kind)
        target = call.target if call.index else call.target.view(kind)
        keywords = passed(declared, call.options, lambda values: values.astype(kind))
        returned = declared.function(inputs, target, **keywords)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(
                f"{declared.subject.op} returned {type(returned).__name__}, where a function of "
                "NumPy arrays is to return (loss, gradient)"
            )
        loss, gradient = np.asarray(returned[0]), np.asarray(returned[1])
        loss = loss[:, 0] if per_row(loss.shape, len(call.inputs)) else loss
        return Result(raw(loss, loss.dtype.name), raw(gradient, gradient.dtype.name))


def _divided(gradient: Any, factor: int) -> RawArray:
    """The gradient without its cotangent. The library's bfloat16 is one that NumPy can divide."""
    array = np.asarray(gradient)
    return raw(array / array.dtype.type(factor), array.dtype.name)


LIBRARIES: dict[str, Callable[[], Library]] = {
    "torch": TorchLibrary,
    "jax": JaxLibrary,
    "tensorflow": TensorFlowLibrary,
    "numpy": NumpyLibrary,
}


class FunctionsRuntime:
    """The declared functions of one module, or one function alone."""

    def __init__(self, declared: Sequence[Declared]) -> None:
        self._declared = {each.subject.op: each for each in declared}
        tensors = dict.fromkeys(each.subject.tensors for each in declared)
        self._libraries = {name: LIBRARIES[name]() for name in tensors}

    def versions(self) -> dict[str, str]:
        """Versions of the libraries whose tensors the functions take."""
        found: dict[str, str] = {}
        for library in self._libraries.values():
            found.update(library.versions())
        return found

    def facts(self) -> dict[str, str]:
        """What each library says of itself; "devices" are those that `--device` may name."""
        found = {"machine": platform.machine()}
        several = len(self._libraries) > 1
        for name, library in self._libraries.items():
            said = library.facts()
            if "devices" in said:
                said[f"{name} devices"] = said.pop("devices")
            for key, value in said.items():
                found[f"{name} {key}" if several and not key.startswith(name) else key] = value
        return {**found, "devices": ", ".join(self._devices())}

    def _devices(self) -> list[str]:
        """Where all functions can be called that can be called anywhere but on the CPU."""
        movable = [library for name, library in self._libraries.items() if name != "numpy"]
        there = [set(library.devices()) for library in movable] or [{"cpu"}]
        return [name for name in DEVICES if name in set.intersection(*there)]

    def subjects(self) -> list[dict[str, Any]]:
        """What is declared, as JSON can hold it."""
        return [to_fields(each.subject) for each in self._declared.values()]

    def call(self, call: Call) -> Result:
        declared = self._declared[call.op]
        return self._libraries[declared.subject.tensors].call_function(declared, call)
