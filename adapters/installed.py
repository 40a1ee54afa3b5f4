"""What is installed in an interpreter: imported here, and run by its path in the ones of others.

    python -I <folder>/adapters/installed.py PACKAGE...

prints the version of the interpreter and those of the packages that it lacks. It looks at metadata
only: a framework that is installed and broken is found when it is loaded.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterable


def missing(packages: Iterable[str]) -> list[str]:
    """Those of some packages that this interpreter lacks."""
    return [name for name in packages if not _installed(name)]


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # a build from source may lack metadata
        with contextlib.suppress(ImportError, ValueError):
            return importlib.util.find_spec(distribution.replace("-", "_")) is not None
        return False
    return True


if __name__ == "__main__":
    found = {"python": list(sys.version_info[:3]), "missing": missing(sys.argv[1:])}
    sys.stdout.write(json.dumps(found) + "\n")
