"""Reports: a Run in; HTML, Markdown and terminal text out, and the JSON Schema of the run file.

This room knows nothing of frameworks, numerics or workers. It may import the standard library,
Jinja2, Rich, msgspec, and of lossaudit only `conformance.run` and `conformance.events`; the pytest
hook (`pytest_html.py`) also `conformance.plugin`.
Text in a Run comes from frameworks and users: it passes `text.py` before anyone sees it.
"""
