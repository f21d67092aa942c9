"""The files that decide what root runs: supervisord's, and its programs'.

Each text has a fixed form. Only validated names and folders and root's own
settings go into it.
"""

import shutil
import sys

from .. import names
from ..settings import FleetSettings

# Where the system has its tools; never the PATH of the caller.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

_MAIN_INTERFACE = "supervisor.rpcinterface:make_main_rpcinterface"
_OUR_INTERFACE = "ovn_metadata.privsep.supervisor.extension:make_interface"


def tool(name: str) -> str:
    """Return the absolute path of one of util-linux's tools."""
    return shutil.which(name, path=_PATH) or f"/usr/bin/{name}"


def command(network: str, settings: FleetSettings) -> list[str]:
    """Return the command line of the haproxy of NETWORK (or gateway).

    nsenter and setpriv exec, so the process that supervisord starts becomes
    haproxy: in the network's namespace, as that network's user,
    without any capability or a way to get one back.
    """
    user, places = settings.user_of(network), settings.places
    enter = [tool("nsenter"), f"--net={names.namespace_file(network)}"]
    return [
        *(enter if network != names.GATEWAY else ()),
        tool("setpriv"),
        f"--reuid={user.uid}",
        f"--regid={user.gid}",
        f"--groups={settings.common_gid}",
        "--no-new-privs",
        "--bounding-set=-all",
        "--inh-caps=-all",
        settings.haproxy,
        "-db",
        # haproxy changes to it: supervisord, as root, would follow links
        # of the agent.
        "-C",
        str(places.work_folder(network)),
        "-f",
        str(places.config(network)),
    ]


def render_program(network: str, settings: FleetSettings) -> str:
    """Return the supervisord program file of NETWORK (or gateway).

    supervisord restarts a haproxy that ends within `startsecs` at once, then
    after 2, 3, ... s. After `startretries` it is FATAL: the agent reports it
    and starts it again with back-off. A new supervisord starts the gateway
    first, which all networks need.
    """
    line = " ".join(command(network, settings))
    return f"""\
[program:{names.program_name(network)}]
command={line}
directory=/
umask=027
priority={1 if network == names.GATEWAY else 2}
autorestart=true
startsecs=1
startretries=10
stopwaitsecs=5
redirect_stderr=true
stdout_logfile={settings.places.logs}/{network}.log
stdout_logfile_maxbytes=256KB
stdout_logfile_backups=1
"""


def render_supervisord(settings: FleetSettings) -> str:
    """Return supervisord.conf: one 0700 socket, programs by include."""
    return f"""\
[supervisord]
nodaemon=false
user=root
umask=022
directory=/
logfile={settings.places.logs}/supervisord.log
logfile_maxbytes=1MB
logfile_backups=2
pidfile={settings.places.supervisord_pid}
childlogdir={settings.places.logs}
identifier=ovn-metadata-fleet
minfds=256
strip_ansi=true

[unix_http_server]
file={settings.places.socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory={_MAIN_INTERFACE}

[rpcinterface:fleet]
supervisor.rpcinterface_factory={_OUR_INTERFACE}

[include]
files={settings.places.programs}/*.ini
"""


def supervisord_command(settings: FleetSettings, *options: str) -> list[str]:
    """Return the command line of supervisord itself.

    With this interpreter, isolated, because supervisord loads our extension.
    """
    return [
        sys.executable,
        "-I",
        "-m",
        "supervisor.supervisord",
        "-c",
        str(settings.places.supervisord_conf),
        *options,
    ]
