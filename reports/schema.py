"""The JSON Schema of a run file, published as `run.schema.json` beside this module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from ..conformance.run import FORMAT, Run

PUBLISHED = Path(__file__).with_name("run.schema.json")


def run_schema() -> dict[str, Any]:
    """The schema of `conformance.run.Run`, derived from its types."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"lossaudit run file, format {FORMAT}",
        **msgspec.json.schema(Run),
    }


def schema_text() -> str:
    """What `run.schema.json` holds."""
    return json.dumps(run_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":  # python -m lossaudit.reports.schema, after a change of Run
    PUBLISHED.write_text(schema_text(), encoding="utf-8")
