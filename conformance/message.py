"""A finding in words: what a failing test says."""

from __future__ import annotations

from .run import CaseRecord, Finding, KnownRecord


def told(item: Finding | KnownRecord, statement: str) -> str:
    """The law, the smallest input, the value, the right value, the error and a script."""
    if isinstance(item, KnownRecord):
        return f"known finding {item.entry} is gone: {item.detail}"
    lines = [
        f"{item.law}: {statement}",
        f"  {item.subject} {item.dtype}, finding {item.id}",
        f"  {item.kind} in {item.rows} rows of {item.output} in the region {item.region}",
        *([f"  smallest input: {_row(item.case, item.row)}"] if item.case.operation else []),
    ]
    if item.value:
        lines += [f"  value: {_joined(item.value)}", f"  right: {_joined(item.right)}"]
    if item.ulps is not None:
        lines.append(f"  error: {item.ulps:.6g} ulps{_allowed(item)}")
    lines.append(f"  {item.message}")
    if item.snippet:
        lines += ["", "Reproduce it with:", "", _indented(item.snippet)]
    return "\n".join(lines)


def _row(case: CaseRecord, row: int) -> str:
    options = [
        f"{name}={value}"
        for name, value in (
            ("weight", case.weight),
            ("pos_weight", case.pos_weight),
            ("ignore_index", case.ignore_index),
            ("label_smoothing", case.label_smoothing if case.label_smoothing != "0.0" else None),
            ("where", case.where),
            ("axis", case.axis if case.axis != -1 else None),
            ("gamma", case.gamma),
            ("alpha", case.alpha),
            ("reduction", case.reduction if case.reduction != "none" else None),
            ("sample_weight", _of_row(case.sample_weight, case, row)),
            ("cotangent", _of_row(case.cotangent, case, row)),
            ("direction", _of_row(case.direction, case, row)),
        )
        if value is not None
    ]
    if not case.inputs:
        shown = "an empty batch"
    elif case.reduction != "none":
        shown = f"inputs {case.inputs}, target {case.target}"
    else:
        target = case.target[row]
        shown = f"inputs {_joined(case.inputs[row])}, target {target}"
    return ", ".join([shown, *options])


def _of_row(values: list[str] | list[list[str]] | None, case: CaseRecord, row: int) -> str | None:
    """That of the row, or all of them where the case is one whole."""
    if values is None:
        return None
    chosen = values[row] if case.reduction == "none" and values else values
    return chosen if isinstance(chosen, str) else str(chosen).replace("'", "")


def _joined(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"


def _allowed(item: Finding) -> str:
    parts = []
    if item.demand_ulps is not None:
        parts.append(f"demand {item.demand_ulps:.4g}")
    if item.declared_ulps is not None:
        parts.append(f"declared bound {item.declared_ulps:.4g}")
    return f" ({', '.join(parts)})" if parts else ""


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
