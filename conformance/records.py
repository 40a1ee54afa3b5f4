"""Cases to records and back: exact numbers as text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..reference.vocabulary import Case, Floats, Options
from .run import CaseRecord, packed, unpacked


def number(value: float) -> str:
    """Text that reads back to the same float64."""
    return repr(float(value))


def numbers(row: Floats) -> list[str]:
    """The numbers of a row, long runs of equal ones as "0.0*70000"."""
    return packed(number(value) for value in np.asarray(row, dtype=np.float64).reshape(-1))


def expanded(texts: Iterable[str]) -> list[float]:
    """What `numbers` wrote.

    Raises:
        ValueError: if a text is no number and no run of one.
    """
    return [float(text) for text in unpacked(texts)]


def is_recordable(case: Case) -> bool:
    """Whether a record can hold the case: the shapes are those that every law asks."""
    ordinary = (case.rows,) if case.target_kind == "index" else case.inputs.shape
    return case.inputs.ndim == 2 and case.target.shape == ordinary


def to_record(case: Case) -> CaseRecord:
    options = case.options
    target: list[int | list[str]]
    if case.target.ndim == 1:
        target = [int(label) for label in case.target]
    else:
        target = [numbers(row) for row in case.target]
    return CaseRecord(
        operation=case.operation,
        dtype=case.dtype,
        inputs=[numbers(row) for row in case.inputs],
        target=target,
        weight=None if options.weight is None else numbers(np.array(options.weight)),
        pos_weight=None if options.pos_weight is None else number(options.pos_weight),
        ignore_index=options.ignore_index,
        label_smoothing=number(options.label_smoothing),
        where=None if options.where is None else list(options.where),
        axis=options.axis,
        gamma=None if options.gamma is None else number(options.gamma),
        alpha=None if options.alpha is None else number(options.alpha),
        reduction=options.reduction,
        sample_weight=None if case.sample_weight is None else numbers(case.sample_weight),
        cotangent=None if case.cotangent is None else numbers(case.cotangent),
        by_target=case.by_target,
        direction=None if case.direction is None else [numbers(row) for row in case.direction],
        layout=case.layout,
    )


def from_record(record: CaseRecord) -> Case:
    """The case of a record.

    Raises:
        ValueError: if a number cannot be read or the shapes do not fit.
    """
    rows = [expanded(row) for row in record.inputs]
    inputs = np.array(rows, dtype=np.float64).reshape(len(rows), len(rows[0]) if rows else 0)
    if record.target and isinstance(record.target[0], list):
        target = np.array([expanded(row) for row in record.target if isinstance(row, list)])
    else:
        target = np.array(record.target, dtype=np.int64)
    if target.shape[0] != inputs.shape[0]:
        raise ValueError(f"{inputs.shape[0]} rows of inputs, {target.shape[0]} targets")
    options = Options(
        weight=None if record.weight is None else tuple(expanded(record.weight)),
        pos_weight=None if record.pos_weight is None else float(record.pos_weight),
        ignore_index=record.ignore_index,
        label_smoothing=float(record.label_smoothing),
        where=None if record.where is None else tuple(record.where),
        axis=record.axis,
        gamma=None if record.gamma is None else float(record.gamma),
        alpha=None if record.alpha is None else float(record.alpha),
        reduction=record.reduction,
    )
    case = Case(record.operation, record.dtype, inputs, target, options)
    return replace(
        case,
        sample_weight=_by_row(record.sample_weight, case),
        cotangent=_by_row(record.cotangent, case),
        by_target=record.by_target,
        direction=_by_entry(record.direction, case),
        layout=record.layout,
    )


def _by_row(texts: list[str] | None, case: Case) -> Floats | None:
    if texts is None:
        return None
    values = expanded(texts)
    if len(values) != case.rows:
        raise ValueError(f"{case.rows} rows of inputs, {len(values)} numbers for them")
    return np.array(values)


def _by_entry(texts: list[list[str]] | None, case: Case) -> Floats | None:
    if texts is None:
        return None
    values = np.array([expanded(row) for row in texts]).reshape(len(texts), -1)
    if values.shape != case.inputs.shape:
        raise ValueError(f"inputs of shape {case.inputs.shape}, a direction of {values.shape}")
    return values
