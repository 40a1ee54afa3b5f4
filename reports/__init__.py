"""Reports: a Run or a Comparison in; HTML, Markdown and terminal text out, and the JSON Schemas.

This room knows nothing of frameworks, numerics or workers. It may import the standard library,
Altair, vl-convert, Jinja2, Rich, msgspec, and of lossaudit only `conformance.run`,
`conformance.comparison`, `conformance.events`
and the words of `conformance.misuse` and `conformance.examples`; the pytest hook
(`pytest_html.py`) also `conformance.plugin`.
Text in a Run comes from frameworks and users: it passes `text.py` before anyone sees it.
"""
