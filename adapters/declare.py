"""How anyone puts a function of their own under audit: one decorator, or one call.

    @lossaudit.subject(operation="cross_entropy", framework="torch", smoothing="eps/K")
    def my_cross_entropy(logits, target, *, reduction="mean", label_smoothing=0.0): ...

The function takes the tensors of its framework and returns the loss, which the framework
differentiates; with framework="numpy" it takes arrays and returns (loss, gradient), the gradient
that of the sum of what it returned. Which options it is called with, its signature says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Optional, TypeVar

from ..reference.bounds import ALTERNATIVES
from ..reference.vocabulary import Arithmetic, Options, Semantics
from .subject import Interface, Subject
from .torch_bits import LAYOUTS

FORMATS = ("float64", "float32", "bfloat16", "float16")
LIBRARIES = {
    "torch": FORMATS,
    "jax": FORMATS,
    "tensorflow": FORMATS,
    "numpy": ("float64", "float32", "float16"),
}
"""The libraries whose arrays a function may take, and the formats that each of them has."""

TARGETS = {
    "cross_entropy": ("index", "distribution"),
    "cross_entropy_probabilities": ("index", "distribution"),
    "binary_cross_entropy_with_logits": ("binary",),
    "binary_cross_entropy": ("binary",),
}
"""The operations that a function may be declared to be, with their targets, the default first."""

FORMS = {
    "cross_entropy": ("A or B", "A", "B", "C"),
    "cross_entropy_probabilities": ("log p",),
    "binary_cross_entropy_with_logits": ("std, torch or split", "std", "torch", "split"),
    "binary_cross_entropy": ("log p",),
}
"""The forms of the loss that a declaration may name, the default first: any of the textbook's."""

REDUCTIONS = ("none", "sum", "mean")

CONVENTIONS: dict[str, tuple[str, ...]] = {
    "smoothing": ("eps/K", "eps/(K-1)", "toward 1/2"),
    "mean": ("weights", "valid", "rows"),
    "ignore_index": (),
    "all_ignored": ("nan", "zero"),
    "label_policy": (),
    "plus_inf": ("limit", "nan", "unspecified"),
    "soft_gradient": ("sum(q) p - q", "p - q"),
    "guard": ("none", "clip", "clamp log"),
    "guard_eps": (),
    "guard_floor": (),
    "guard_gradient": ("exact", "clamped denominator"),
    "renormalise": ("no", "before", "after"),
    "output": (),
}
"""What may be declared of the semantics, and the values; () where there is no list of them."""

MARK = "__lossaudit__"

Function = TypeVar("Function", bound=Callable[..., Any])


class DeclarationError(ValueError):
    """A declaration that cannot be audited; the text says what is wrong and what would be right."""


@dataclasses.dataclass(frozen=True)
class Declared:
    """A function, and what was declared of it."""

    function: Callable[..., Any]
    subject: Subject


def subject(
    *,
    operation: str,
    framework: str,
    dtypes: Optional[Iterable[str]] = None,
    target: Optional[str] = None,
    arithmetic: Arithmetic | str | None = None,
    reductions: Iterable[str] = REDUCTIONS,
    device: str = "cpu",
    name: Optional[str] = None,
    **conventions: Any,
) -> Callable[[Function], Function]:
    """Declare that a function is a subject; the function itself stays as it is. See `declare`."""

    def mark(function: Function) -> Function:
        declared = declare(
            function,
            operation=operation,
            framework=framework,
            dtypes=dtypes,
            target=target,
            arithmetic=arithmetic,
            reductions=reductions,
            device=device,
            name=name,
            **conventions,
        )
        before: tuple[Declared, ...] = getattr(function, MARK, ())
        # Decorators run from the innermost out.
        setattr(function, MARK, (declared, *before))
        return function

    return mark


def declare(
    function: Callable[..., Any],
    *,
    operation: str,
    framework: str,
    dtypes: Optional[Iterable[str]] = None,
    target: Optional[str] = None,
    arithmetic: Arithmetic | str | None = None,
    reductions: Iterable[str] = REDUCTIONS,
    device: str = "cpu",
    name: Optional[str] = None,
    **conventions: Any,
) -> Declared:
    """The subject that a function is.

    Args:
        function: `function(inputs, target, **options)`. Of the options `weight`, `pos_weight`,
            `ignore_index`, `label_smoothing` and `reduction` it is given those that its signature
            names; one that takes no `reduction` returns the loss of every row.
        operation: a key of TARGETS; what it is, `reference.vocabulary.OPERATIONS` says.
        framework: whose tensors it takes: "torch", "jax", "tensorflow" or "numpy".
        dtypes: the formats to audit; all that the framework has where None.
        target: "index", "distribution" or "binary"; see TARGETS for the default.
        arithmetic: how it computes, which is what its declared bound follows from. None is the
            largest of the textbook's forms that shift by the maximum (A or B for cross-entropy)
            under `arithmetic_of`; a form's name is that form; an Arithmetic is taken as it is.
        reductions: the values of `reduction` that it takes, where it takes any.
        device: where its tensors shall lie, in the words of the framework.
        name: what it is called; its own name where None.
        conventions: the fields of `Semantics` that it promises (CONVENTIONS). One that is not
            given is measured, and what was measured is what its values are judged under.

    Raises:
        DeclarationError: for what is not known, and for a promise that nothing could test.
    """
    _one_of("operation", operation, tuple(TARGETS))
    _one_of("framework", framework, tuple(LIBRARIES))
    target = TARGETS[operation][0] if target is None else target
    _one_of(f"target of {operation}", target, TARGETS[operation])
    formats = LIBRARIES[framework] if dtypes is None else _texts("dtypes", dtypes)
    for dtype in formats:
        _one_of(f"dtype of {framework}", dtype, LIBRARIES[framework])
    called = name or _name(function)
    taken = _options(function, called)
    found = Subject(
        framework=_module(function),
        op=called,
        operation=operation,
        target=target,
        mode="eager",
        dtypes=formats,
        options=frozenset(o for o in taken if _means_something(o, operation, target)),
        reductions=_reductions(reductions) if "reduction" in taken else ("none",),
        semantics=Semantics(),
        arithmetic={dtype: _arithmetic(arithmetic, operation, dtype) for dtype in formats},
        device=device,
        tensors=framework,
        source=_source(function),
        imported=_imported(function, sys.modules.get(getattr(function, "__module__", None) or "")),
        takes_reduction="reduction" in taken,
        layouts=LAYOUTS if framework == "torch" else (),
    )
    return Declared(function, _with_conventions(found, conventions))


def arithmetic_of(operation: str, dtype: str, form: Optional[str] = None) -> Arithmetic:
    """The Arithmetic of a subject that declares none, or only its form.

    Every step is rounded to the dtype, in any order of summation, and subnormal results may become
    zero. The constants are the largest that a library audited by lossaudit has: exp and log within
    4 ulps (NumPy, numpy/numpy#19478), log1p within 5 (Eigen, by Kahan's formula), sigmoid within 7
    (an exponential, two roundings, a reciprocal of 2 ulps and two sums); in 16 bits functions
    compute in float32 and round once, but a sigmoid is put together from rounded steps.
    """
    wide = dtype in ("float64", "float32")
    return Arithmetic(
        form=form or FORMS[operation][0],
        gradient="any",
        working=dtype,
        stored=dtype,
        height="sequential",
        c_exp=8.0 if wide else 1.01,
        c_log=8.0 if wide else 1.01,
        c_log1p=10.0 if wide else 1.01,
        c_sigmoid=14.0,
        flush=True,
        origin="not declared: the largest constants of the libraries that lossaudit audits (loose)",
    )


def declarations(module: ModuleType) -> tuple[Declared, ...]:
    """What the functions of a module declare, in the order in which they stand there.

    Raises:
        DeclarationError: where two subjects of it bear one name.
    """
    found: list[Declared] = []
    seen: set[int] = set()
    for value in list(vars(module).values()):
        try:
            marked: Any = getattr(value, MARK, ())
        except Exception:  # noqa: BLE001, S112 - an object of a user may do anything when asked
            continue
        if isinstance(marked, tuple) and id(value) not in seen:
            seen.add(id(value))
            found += [_found_in(module, each) for each in marked if isinstance(each, Declared)]
    names = [each.subject.op for each in found]
    for name in names:
        if names.count(name) > 1:
            raise DeclarationError(
                f"two subjects are called {name!r}; give one of them another with name=..."
            )
    return tuple(found)


def to_fields(found: Subject) -> dict[str, Any]:
    """A subject as JSON can hold it."""
    fields = dataclasses.asdict(found)
    for key in ("options", "undeclared"):
        fields[key] = sorted(fields[key])
    return fields


def from_fields(fields: dict[str, Any]) -> Subject:
    """The inverse of `to_fields`; the framework is the name under which it is known here."""
    return Subject(
        **{
            **fields,
            "dtypes": tuple(fields["dtypes"]),
            "imported": tuple(fields["imported"]),
            "options": frozenset(fields["options"]),
            "undeclared": frozenset(fields["undeclared"]),
            "reductions": tuple(fields["reductions"]),
            "layouts": tuple(fields["layouts"]),
            "semantics": Semantics(**fields["semantics"]),
            "interface": Interface(**fields["interface"]),
            "arithmetic": {d: Arithmetic(**a) for d, a in fields["arithmetic"].items()},
        }
    )


# ---------------------------------------------------------------------- one argument each


def _one_of(what: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise DeclarationError(f"{what}: {value!r} is not known; there are: {', '.join(allowed)}")


def _texts(what: str, values: Iterable[str]) -> tuple[str, ...]:
    found = (values,) if isinstance(values, str) else tuple(values)
    if not found:
        raise DeclarationError(f"{what}: at least one is needed")
    return tuple(dict.fromkeys(found))


def _name(function: Callable[..., Any]) -> str:
    if not callable(function):
        raise DeclarationError(f"a function is needed, not {function!r}")
    found = getattr(function, "__name__", "") or type(function).__name__
    return "function" if found == "<lambda>" else found


def _module(function: Callable[..., Any]) -> str:
    """The name of the module: that of its file, where it is run as a script."""
    module = str(getattr(function, "__module__", None) or "__main__").rpartition(".")[2]
    return Path(_source(function)).stem or "main" if module == "__main__" else module


def _source(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsourcefile(inspect.unwrap(function)) or ""
    except TypeError:  # a callable object, or one that was not written in Python
        return ""


def _found_in(module: ModuleType, declared: Declared) -> Declared:
    """A declaration with the way to its function, which had no name yet when it was decorated."""
    place = _imported(declared.function, module)
    if not any(place):
        return declared
    return dataclasses.replace(
        declared, subject=dataclasses.replace(declared.subject, imported=place)
    )


def _imported(function: Callable[..., Any], module: Optional[ModuleType]) -> tuple[str, str, str]:
    """The folder and the name by which a module can be imported, and a function's name in it."""
    file = Path(getattr(module, "__file__", None) or "")
    name = "" if module is None else _name_in(module, function)
    if module is None or not name or not file.is_file():
        return ("", "", "")
    file = file.absolute()
    parts = file.parent.parts if file.stem == "__init__" else file.with_suffix("").parts
    dotted = tuple(module.__name__.split("."))
    if parts[-len(dotted) :] != dotted:  # a script, or a file that was loaded by its path
        dotted = parts[-1:]
    folder = str(Path(*parts[: -len(dotted)]))
    installed = folder in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    return ("" if installed else folder, ".".join(dotted), name)


def _name_in(module: ModuleType, function: Callable[..., Any]) -> str:
    """What a function is called in a module, or ''.

    A decorator above ours may have put its wrapper there, which is not what was declared.
    """
    by_itself = str(getattr(function, "__qualname__", ""))
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        there, steps = functools.reduce(getattr, by_itself.split("."), module), ""
        while there is not function:
            there, steps = vars(there)["__wrapped__"], f"{steps}.__wrapped__"
        return by_itself + steps
    return next((name for name, value in vars(module).items() if value is function), "")


def _options(function: Callable[..., Any], name: str) -> frozenset[str]:
    """The options that a signature names."""
    known = {field.name for field in dataclasses.fields(Options)}
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise DeclarationError(f"{name} has no signature to read; wrap it in a `def`") from None
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len([p for p in parameters[:2] if p.kind in by_place]) < 2:
        raise DeclarationError(f"{name} must take the inputs and the target as its first two")
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = frozenset(p.name for p in parameters[2:] if p.kind in by_name and p.name in known)
    for each in parameters[2:]:
        needed = each.default is each.empty and each.kind in (*by_name, by_place[0])
        if needed and each.name != "reduction":
            raise DeclarationError(
                f"{name} needs {each.name!r}, which a plain call does not pass; give it a default"
            )
    return taken


def _means_something(option: str, operation: str, target: str) -> bool:
    """Whether the reference has an option for an operation."""
    if option == "weight":
        return target != "binary"
    if option == "pos_weight":
        return operation == "binary_cross_entropy_with_logits"
    if option == "ignore_index":
        return target == "index"
    return option == "label_smoothing"


def _reductions(values: Iterable[str]) -> tuple[str, ...]:
    found = _texts("reductions", values)
    for value in found:
        _one_of("reductions", value, REDUCTIONS)
    if "none" not in found:
        raise DeclarationError("reductions: 'none' must be among them, since rows are judged")
    return found


def _arithmetic(given: Arithmetic | str | None, operation: str, dtype: str) -> Arithmetic:
    if isinstance(given, Arithmetic):
        allowed = (*FORMS[operation], *ALTERNATIVES)
        _one_of(f"arithmetic.form of {operation}", given.form, allowed)
        return given
    if given is not None:
        _one_of(f"arithmetic of {operation}", given, FORMS[operation])
    return arithmetic_of(operation, dtype, given)


def _with_conventions(found: Subject, given: dict[str, Any]) -> Subject:
    """The subject with what it declares, and the names of what it leaves open."""
    for key, value in given.items():
        _one_of("keyword", key, tuple(CONVENTIONS))
        if CONVENTIONS[key]:
            _one_of(key, value, CONVENTIONS[key])
        if lacking := _untestable(key, found):
            raise DeclarationError(f"{key}={value!r} is declared, but {lacking}")
    open_fields = frozenset(CONVENTIONS) - set(given)
    start = dataclasses.replace(_measured_from(found), **given)
    return dataclasses.replace(found, semantics=start, undeclared=open_fields)


def _untestable(key: str, found: Subject) -> str:
    """Why nothing could test a promise about a field, or ''."""
    if key == "smoothing" and "label_smoothing" not in found.options:
        return f"{found.op} takes no label_smoothing"
    if key in ("mean", "all_ignored") and "mean" not in found.reductions:
        return f"{found.op} takes no reduction='mean'"
    if key in ("ignore_index", "all_ignored") and "ignore_index" not in found.options:
        return f"{found.op} takes no ignore_index for an index target"
    if key == "label_policy" and found.target != "index":
        return "its target is no index"
    if key == "plus_inf" and found.operation != "cross_entropy":
        return f"{found.operation} has a limit there, or none, whatever is declared"
    if key == "soft_gradient" and (found.target != "distribution" or not found.from_logits):
        return "its target is no distribution over logits"
    if key.startswith("guard") and found.from_logits:
        return "it takes logits, and only probabilities are guarded"
    if key == "renormalise" and found.operation != "cross_entropy_probabilities":
        return f"{found.operation} has nothing to renormalise"
    return ""


def _measured_from(found: Subject) -> Semantics:
    """What stands for a convention that is neither declared nor told by any number."""
    smoothing, mean = "none", "rows"
    if "label_smoothing" in found.options:
        smoothing = "toward 1/2" if found.target == "binary" else "eps/K"
    if found.target == "index":
        mean = "weights"  # over the sum of w[y], which is the count of valid rows without weights
    return Semantics(smoothing=smoothing, mean=mean)
