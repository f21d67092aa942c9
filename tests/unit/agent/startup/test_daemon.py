"""The command that starts the privileged daemon without a unit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ovn_metadata.agent.startup import daemon


@pytest.mark.parametrize(
    ("helper", "is_ours"),
    [
        pytest.param(None, True, id="not configured"),
        pytest.param("sudo", True, id="Neutron's default, which nobody chose"),
        pytest.param("sudo -E", False, id="sudo with an option"),
        pytest.param("doas", False, id="another program"),
    ],
)
def test_the_configured_helper_takes_precedence(tmp_path, helper, is_ours):
    file = tmp_path / "privileged.conf"
    file.touch()
    settings: Any = SimpleNamespace(
        helper_command=None, root_helper=helper, privileged_config=file
    )
    command = daemon._sudo_command(settings)
    assert (daemon.ROOTWRAP_CONFIG in command) is is_ours
    assert command[0] == (helper or "sudo").split()[0]
    assert command[-3:] == ["privsep-helper", "--config-file", str(file)]
