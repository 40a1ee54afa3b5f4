"""What is installed in an interpreter: imported here, and run by its path in the ones of others.

    python -I <folder>/adapters/installed.py PACKAGE...

prints the version of the interpreter and those of the packages that it lacks; without a package,
all distributions that it has and what it is. It looks at metadata only: a framework that is
installed and broken is found when it is loaded.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
import sysconfig
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


def distributions() -> dict[str, str]:
    """The version of every distribution here, by its normalised name."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # what an interrupted removal left has none
            # The first on the path is the one that is imported.
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), str(distribution.version))
    return dict(sorted(found.items()))


if __name__ == "__main__":
    asked = sys.argv[1:]
    found = {"python": list(sys.version_info[:3]), "missing": missing(asked)}
    if not asked:
        found["executable"] = os.path.realpath(sys.executable)
        found["platform"] = sysconfig.get_platform()
        found["installed"] = distributions()
    sys.stdout.write(json.dumps(found) + "\n")
