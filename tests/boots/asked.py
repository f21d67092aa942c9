"""What a boot asks for: cloud-init's requests, a connection for each.

As recorded from cloud-init 22.4, 25.1 and 26.2, against a Nova whose server
has one key: `tests/functional/test_boots.py` records it again.
"""

from __future__ import annotations

REQUESTS = (
    # The local stage sees if there is an OpenStack, then reads the documents.
    "/openstack",
    "/openstack",
    *(
        f"/openstack/2018-08-27/{name}"
        for name in (
            "meta_data.json",
            "user_data",
            "vendor_data.json",
            "vendor_data2.json",
            "network_data.json",
        )
    ),
    # EC2's tree: folders first, then the files in each.
    *(
        f"/latest/meta-data/{name}"
        for name in (
            "",
            "block-device-mapping/",
            "block-device-mapping/ami",
            "block-device-mapping/root",
            "placement/",
            "placement/availability-zone",
            "public-keys/",
            "public-keys/0/openssh-key",
            "ami-id",
            "ami-launch-index",
            "ami-manifest-path",
            "hostname",
            "instance-action",
            "instance-id",
            "instance-type",
            "local-hostname",
            "local-ipv4",
            "public-hostname",
            "public-ipv4",
            "reservation-id",
            "security-groups",
        )
    ),
)
