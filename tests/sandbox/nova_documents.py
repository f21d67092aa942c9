"""What Nova has to tell an instance: OpenStack's documents, EC2's tree.

As many as a real Nova has for a server with one key: a boot asks for each.
"""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import struct

_VERSIONS = (
    *("2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30"),
    *("2016-10-06", "2017-02-22", "2018-08-27", "2020-10-14", "latest"),
)
_KEY_NAME = "boot"


def public_key(server_id: str) -> str:
    """Return the SSH key that the owner of SERVER_ID gave Nova."""
    kind = b"ssh-ed25519"
    point = hashlib.sha256(server_id.encode()).digest()
    parts = (struct.pack("!I", len(part)) + part for part in (kind, point))
    key = base64.b64encode(b"".join(parts)).decode()
    return f"{kind.decode()} {key} {server_id}"


def document(path: str, server_id: str, project: str, name: str) -> str | None:
    """Return what is at PATH for the server; None if there is nothing."""
    root, _, rest = posixpath.normpath(path).lstrip("/").partition("/")
    if root == "openstack":
        return _openstack(rest, server_id, project, name)
    kind, _, rest = rest.partition("/")
    if kind != "meta-data":
        return None
    return _ec2(rest, server_id, name)


def _openstack(
    rest: str, server_id: str, project: str, name: str
) -> str | None:
    if not rest:
        return "\n".join(_VERSIONS)
    version, _, file = rest.partition("/")
    documents = {
        "meta_data.json": {
            "uuid": server_id,
            "project_id": project,
            "name": name,
            "hostname": name,
            "availability_zone": "nova",
            "launch_index": 0,
            "public_keys": {_KEY_NAME: public_key(server_id)},
        },
        "network_data.json": {"links": [], "networks": [], "services": []},
        "vendor_data.json": {},
        "vendor_data2.json": {},
    }
    if version not in _VERSIONS or file not in documents:
        return None
    return json.dumps(documents[file])


def _ec2(rest: str, server_id: str, name: str) -> str | None:
    leaves = {
        "ami-id": "ami-00000001",
        "ami-launch-index": "0",
        "ami-manifest-path": "FIXME",
        "block-device-mapping/ami": "vda",
        "block-device-mapping/root": "/dev/vda",
        "hostname": name,
        "instance-action": "none",
        "instance-id": server_id,
        "instance-type": "m1.small",
        "local-hostname": name,
        "local-ipv4": "",
        "placement/availability-zone": "nova",
        "public-hostname": name,
        "public-ipv4": "",
        "public-keys/0/openssh-key": public_key(server_id),
        "reservation-id": "r-00000001",
        "security-groups": "default",
    }
    if rest in leaves:
        return leaves[rest]
    below = f"{rest}/" if rest else ""
    # A folder ends in "/"; but keys are listed with their names.
    names = {
        head + slash
        for leaf in leaves
        if leaf.startswith(below)
        for head, slash, _ in (leaf.removeprefix(below).partition("/"),)
    }
    if rest == "public-keys":
        names = {f"0={_KEY_NAME}"}
    return "\n".join(sorted(names)) or None
