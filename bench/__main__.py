"""Run benchmarks, each in a sandbox of its own: `python -m bench [NAME...]`.

Run it with PYTHONPATH=tests:. by the Python of the environment that our
agent is installed in. Neutron's has one of its own (see sandbox.peer).

The results are files in a folder: a JSON for each benchmark, and README.md of
all that are there. A run that was interrupted is finished by --missing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from sandbox import peer

from . import markdown
from .report import QUICK, RESULTS, progress

NAMES = (
    "throughput",
    "provisioning",
    "cloud",
    "memory",
    "first_answer",
    "binds",
    "storm",
    "shield",
    "sessions",
)
# What the quick form runs, as tests/functional/test_figures.py does.
QUICK_NAMES = ("throughput", "provisioning", "cloud")


def main() -> int:
    """Run what the command line names; return 1 if any bound was missed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument(
        "--peer",
        type=Path,
        default=peer.default_prefix(),
        help="Neutron's virtual environment, made if it is not there "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("dist/bench"),
        help="the folder of the results (default: %(default)s)",
    )
    parser.add_argument(
        "--missing",
        action="store_true",
        help="only benchmarks that the folder has no result of",
    )
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]}; there are {NAMES}")
    peer.install(arguments.peer)
    results = arguments.results.resolve()
    results.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        peer.ENVIRONMENT: str(arguments.peer),
        RESULTS: str(results),
    }
    all_names = QUICK_NAMES if os.environ.get(QUICK) else NAMES
    missed = []
    for name in arguments.names or all_names:
        file = results / f"{name}.json"
        if arguments.missing and file.exists():
            continue
        file.unlink(missing_ok=True)
        progress(f"{name} begins")
        begun = time.monotonic()
        inside = [sys.executable, "-m", f"bench.{name}"]
        command = [sys.executable, "-m", "sandbox.enter", *inside]
        if subprocess.run(command, env=environment, check=False).returncode:
            missed.append(name)
        progress(f"{name} took {time.monotonic() - begun:.0f} s")
        page = markdown.render(markdown.read(results))
        (results / "README.md").write_text(f"# Benchmarks\n\n{page}")
    if missed:
        progress(f"failed, or missed a bound: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
