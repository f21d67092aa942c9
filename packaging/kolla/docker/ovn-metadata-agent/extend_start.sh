#!/bin/bash
# kolla_start reads this before it becomes the command, as root, in both
# containers.

if [[ $CMD == *ovn-metadata-agent* ]]; then
    # Neutron's other agents log there as the same user, and can write to the
    # folder above. So not as root, which would follow their links.
    setpriv --reuid=neutron --regid=neutron --init-groups \
        mkdir -p /var/log/kolla/neutron

    # The privileged daemon sets /proc/sys/net of the networks' namespaces.
    # Engines mount it read-only if a container is not privileged, and
    # kolla-ansible has no option to change that.
    if [[ ! -w /proc/sys/net/ipv4/ip_forward ]]; then
        mount -o remount,bind,rw /proc/sys
    fi
fi

# No process in either container can gain rights. The agent then starts no
# supervisord, which would end with its container.
CMD="setpriv --no-new-privs $CMD"
