"""The laws as a pytest suite: `pytest conformance`, or `pytest --pyargs lossaudit.conformance`.

Its modules only parametrise over the registries of laws and subjects and call the engine that
`lossaudit run` calls too; `lossaudit.conformance.plugin` collects them and holds the options.
"""
