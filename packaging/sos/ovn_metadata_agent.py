"""sos: what support needs of ovn-metadata-agent, without a secret.

The DEB and the RPM put it beside sos' own plugins. It runs with sos 4.0 and
newer, on the Python that sos has, and uses nothing of the agent's code.
"""

from sos.report.plugins import (
    DebianPlugin,
    Plugin,
    RedHatPlugin,
    SuSEPlugin,
    UbuntuPlugin,
)

_NAMES = "passw|secret|token|credential|signature|api[_-]?key|transport_url"
# Regular expression -> what stands instead of it.
_MASKS = {
    # An option, with the lines that continue it.
    rf"(?im)^([\w.-]*(?:{_NAMES})[\w.-]*[ \t]*[=:])"
    r"[ \t]*\S.*(?:\n[ \t]+\S.*)*": r"\1 ***",
    rf"(?im)((?:{_NAMES})[\w.-]*[\"']?[ \t]*=)[ \t]*\S.*": r"\1 ***",
    r"(?s)-----BEGIN [A-Z0-9 ]{1,40}-----.*?"
    r"(?:-----END [A-Z0-9 ]{1,40}-----|\Z)": "***",
    # A user and a password before the last @ of a word.
    r"(?m)(^|[\s=,\"'])[^\s:@=\"']{0,80}:\S{1,400}@": r"\1***@",
    # A signature, or a line of a key.
    r"[A-Za-z0-9+/]{40,}={0,2}": "***",
}


# Not IndependentPlugin: Debian 12's sos ignores such plugins.
class OvnMetadataAgent(
    Plugin, DebianPlugin, RedHatPlugin, SuSEPlugin, UbuntuPlugin
):
    """Collect the agent's status, dump, configuration and logs."""

    short_desc = "OVN metadata agent"
    plugin_name = "ovn_metadata_agent"
    profiles = ("network", "openstack", "openstack_compute")
    packages = ("ovn-metadata-agent", "ovn-metadata-fleet")
    commands = ("agent-status",)
    services = ("ovn-metadata-agent", "ovn-metadata-fleet")

    def setup(self):
        """Say what is collected, and what never is."""
        # Maps hold signatures; beside the gateway's are Nova's certificates.
        self.add_forbidden_path(
            [
                "/run/ovn-metadata-fleet/read",
                "/run/ovn-metadata-fleet/work",
                "/var/lib/neutron/ovn-metadata-proxy",
                "/etc/ovn-metadata-agent/*.pem",
                "/etc/ovn-metadata-agent/*.key",
                "/etc/ovn-metadata-agent/*.crt",
            ]
        )
        # Not the logs, nor the haproxies' configurations: sos would follow a
        # link that the agent's user made in their folders. The dump has them.
        self.add_copy_spec(
            [
                "/etc/ovn-metadata-agent/*.conf",
                "/etc/default/ovn-metadata-agent",
                "/etc/sysconfig/ovn-metadata-agent",
            ]
        )
        self.add_cmd_output(
            [
                "agent-status",
                "agent-status --json",
                f"agent-status dump {self.get_cmd_output_path()}",
                "supervisorctl -s "
                "unix:///run/ovn-metadata-fleet/supervisord.sock status",
            ]
        )

    def postproc(self):
        """Mask the secrets in what was collected."""
        for pattern, mask in _MASKS.items():
            self.do_path_regex_sub(r"/etc/.*", pattern, mask)
            self.do_cmd_output_sub("agent-status", pattern, mask)
            self.do_cmd_output_sub("journalctl", pattern, mask)
