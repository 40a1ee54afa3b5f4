"""What the plots of the report have in common; they are Vega-Lite specs that the page draws.

A spec names no colour of axes, text or background: those are the page's, light or dark (see
`templates/base.js`). Where the reader chooses what is shown, its data is named "points" and a
script of the page gives the rows.
"""

from __future__ import annotations

COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#a89600",
    "#7f5fc4",
)
"""Okabe and Ito's for the colour-blind, the yellow darkened and the black a violet, since paper may
be white and the page dark."""

GREY = "#858d96"

DASHES = ([1, 0], [7, 3], [2, 3], [9, 3, 2, 3], [4, 4], [12, 4], [1, 2], [6, 2, 1, 2, 1, 2])
"""Of lines, so that nothing is told by colour alone."""
