#!/bin/bash
# kolla_start reads this before it becomes the command, as root, in both
# containers.

if [[ $CMD == *ovn-metadata-agent* ]]; then
    # Neutron's other agents log there as the same user; who can write to the
    # folder above, so not as root, who would follow their links.
    setpriv --reuid=neutron --regid=neutron --init-groups \
        mkdir -p /var/log/kolla/neutron

    # The privileged daemon sets /proc/sys/net of the networks' namespaces.
    # Engines mount it read-only where a container is not privileged, and
    # kolla-ansible has no option against that.
    if [[ ! -w /proc/sys/net/ipv4/ip_forward ]]; then
        mount -o remount,bind,rw /proc/sys
    fi
fi

# Nothing in either container gains rights by what it starts. The agent starts
# no supervisord then, which would end with its container.
CMD="setpriv --no-new-privs $CMD"
