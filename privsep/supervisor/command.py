"""`ovn-metadata-fleet`: run the fleet's supervisord in the foreground.

For a systemd unit or a container of its own, which outlives the agent's.
"""

import argparse
import os
import sys
from pathlib import Path

from .. import settings
from ..errors import PrivilegedError, SettingsError, sentence
from ..fleet import program, start


def main() -> int:
    """Write supervisord's configuration and become supervisord."""
    parser = argparse.ArgumentParser(
        prog="ovn-metadata-fleet", description=__doc__
    )
    parser.add_argument(
        "--config-file",
        type=Path,
        help=f"root's settings (default: {settings.DEFAULT_FILE})",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="start nothing; exit with 0 if it would start, else with 1",
    )
    arguments = parser.parse_args()
    file = arguments.config_file or settings.DEFAULT_FILE
    try:
        files = settings.existing(file)
        if arguments.config_file and not files:
            raise SettingsError(f"no {file}; create it (it may be empty)")
        settings.check_owner(files)
        fleet_settings = settings.load(file)
        settings.check_run_dir(fleet_settings)
        start.check_use(fleet_settings)
        for warning in settings.warnings():
            print(f"ovn-metadata-fleet: warning: {warning}", file=sys.stderr)
        if arguments.check:
            return 0
        if os.geteuid() != 0:
            raise SettingsError("run it as root: use sudo")
        start.write_configuration(fleet_settings)
    except (PrivilegedError, OSError) as error:
        print(f"ovn-metadata-fleet: {sentence(error)}", file=sys.stderr)
        return 1
    command = program.supervisord_command(fleet_settings, "--nodaemon")
    environment = {"PATH": os.defpath}  # nothing else of root's, except:
    if "NOTIFY_SOCKET" in os.environ:  # where systemd waits for our start
        environment["NOTIFY_SOCKET"] = os.environ["NOTIFY_SOCKET"]
    return os.execve(command[0], command, environment)  # noqa: S606
