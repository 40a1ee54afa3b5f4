"""Adapters: one file a framework, and the workers that run them in the subjects' interpreters.

Importing this package, or the registry, imports no framework.
"""
