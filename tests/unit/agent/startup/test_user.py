"""Becoming the service user."""

from __future__ import annotations

import os
import pwd

import pytest

from ovn_metadata.agent.errors import StartError
from ovn_metadata.agent.startup import user


def test_capabilities_that_root_lacks_are_named(monkeypatch):
    """As in a container that may not have them."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "initgroups", refuse)
    with pytest.raises(StartError, match="nobody: root lacks CAP_SETUID"):
        user.drop_to(pwd.getpwnam("nobody"))
