"""Run benchmarks, each in a sandbox of its own: `python -m bench [NAME...]`.

Run it with PYTHONPATH=tests:. by the Python of the environment that our
agent is installed in. Neutron's has one of its own (see sandbox.peer).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from sandbox import peer

from .report import progress

NAMES = (
    "throughput",
    "provisioning",
    "cloud",
    "memory",
    "first_answer",
    "binds",
)


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
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]}; there are {NAMES}")
    peer.install(arguments.peer)
    environment = {**os.environ, peer.ENVIRONMENT: str(arguments.peer)}
    missed = []
    for name in arguments.names or NAMES:
        progress(f"{name} begins")
        inside = [sys.executable, "-m", f"bench.{name}"]
        command = [sys.executable, "-m", "sandbox.enter", *inside]
        if subprocess.run(command, env=environment, check=False).returncode:
            missed.append(name)
    if missed:
        progress(f"failed, or missed a bound: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
