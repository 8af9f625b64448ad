"""Run the benchmarks: ``python -m bench [reads] [refresh] [propagation] [footprint] [scale]``."""

from __future__ import annotations

import os
import platform
import sys

from . import footprint, propagation, reads, refresh, scale

RUNS = {
    "reads": reads.run,
    "refresh": refresh.run,
    "propagation": propagation.run,
    "footprint": footprint.run,
    "scale": scale.run,
}


def main() -> None:
    """Run the named benchmarks, or all."""
    names = sys.argv[1:] or list(RUNS)
    unknown = [name for name in names if name not in RUNS]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(RUNS)}")
    print(f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores")
    for name in names:
        RUNS[name]()


if __name__ == "__main__":
    main()
