"""The plots of the report as Vega-Lite specs, which the page draws (see `templates/base.js`).

A spec names no colour of axes, text or background: those are the page's, light or dark. Where the
reader chooses what is shown, its data is named "points" and a script of the page gives the rows.
"""

from __future__ import annotations

from typing import Any

from ..conformance.run import Run
from . import misuse, profiles


def specs(run: Run) -> dict[str, dict[str, Any]]:
    """Name of each plot -> its Vega-Lite spec."""
    return misuse.specs(run) | profiles.specs(run)
