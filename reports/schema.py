"""The JSON Schemas of the files of runs, comparisons and sweeps, published beside this module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from ..conformance import comparison
from ..conformance.run import FORMAT, Run
from ..conformance.sweep import record

PUBLISHED = Path(__file__).with_name("run.schema.json")
COMPARISON_PUBLISHED = Path(__file__).with_name("comparison.schema.json")
SWEEP_PUBLISHED = Path(__file__).with_name("sweep.schema.json")


def run_schema() -> dict[str, Any]:
    """The schema of `conformance.run.Run`, derived from its types."""
    return _schema(Run, f"lossaudit run file, format {FORMAT}")


def comparison_schema() -> dict[str, Any]:
    """The schema of `conformance.comparison.Comparison`, derived from its types."""
    title = f"lossaudit comparison file, format {comparison.FORMAT}"
    return _schema(comparison.Comparison, title)


def sweep_schema() -> dict[str, Any]:
    """The schema of `conformance.sweep.record.Sweep`, derived from its types."""
    schema = _schema(record.Sweep, f"lossaudit sweep file, format {record.FORMAT}")
    # The version that is here, which is none of the file's.
    del schema["$defs"]["Job"]["properties"]["lossaudit"]["default"]
    return schema


def schema_text() -> str:
    """What `run.schema.json` holds."""
    return _text(run_schema())


def comparison_schema_text() -> str:
    """What `comparison.schema.json` holds."""
    return _text(comparison_schema())


def sweep_schema_text() -> str:
    """What `sweep.schema.json` holds."""
    return _text(sweep_schema())


def _schema(kind: type, title: str) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **msgspec.json.schema(kind),
    }


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":  # python -m lossaudit.reports.schema, after a change of the types
    PUBLISHED.write_text(schema_text(), encoding="utf-8")
    COMPARISON_PUBLISHED.write_text(comparison_schema_text(), encoding="utf-8")
    SWEEP_PUBLISHED.write_text(sweep_schema_text(), encoding="utf-8")
