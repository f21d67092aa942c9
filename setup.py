"""Packaging: agent/ and privsep/ are installed below ovn_metadata."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.egg_info import egg_info

ROOTS = {"ovn_metadata.agent": "agent", "ovn_metadata.privsep": "privsep"}

# The oldest versions are Debian 12's.
REQUIREMENTS = [
    "oslo.config>=9.0.0",
    "oslo.log>=5.0.1",
    "oslo.privsep>=3.0.1",
    "oslo.reports>=2.4.0",
    "oslo.rootwrap>=6.3.1",
    "ovsdbapp>=2.1.0",
    "prometheus-client>=0.16.0",
    "psutil>=5.9.4",
    "pyroute2>=0.7.2",
    "supervisor>=4.2.5",
]
TEST_REQUIREMENTS = [
    "botocore",
    "gunicorn",
    "httptools",
    "hypothesis",
    "import-linter",
    "jinja2",
    "jsonschema",
    "mypy",
    "pytest",
    "pytest-xdist",
    "ruff",
    "types-jsonschema",
    "types-psutil",
    "uvicorn",
]

# Below <prefix>/etc what goes to /etc as it is; below <prefix>/share what
# a packager puts in its place (systemd has several).
ETC = "etc/ovn-metadata-agent"
SHARE = "share/ovn-metadata-agent"

# A link from README.md into the repository leads nowhere on PyPI: its text
# and the file's name stay. A picture goes.
README = re.sub(
    r"!?\[([^]]+)\]\((?!https?:)([^)#]+)[^)]*\)",
    lambda link: (
        ""
        if link[0].startswith("!")
        else link[1]
        if link[2].rstrip("/").endswith(link[1].rstrip("/"))
        else f"{link[1]} ({link[2]})"
    ),
    Path(__file__).with_name("README.md").read_text("utf-8"),
)


class EggInfo(egg_info):  # type: ignore[misc]  # untyped
    """Have the bill of materials where PEP 770 has it in a wheel.

    Whatever is in this folder is copied to the wheel's dist-info.
    """

    def run(self) -> None:
        """Write it with the rest."""
        super().run()
        folder = Path(self.egg_info, "sboms")
        folder.mkdir(exist_ok=True)
        bill = Path(__file__).with_name("packaging") / "sbom.cdx.json"
        shutil.copyfile(bill, folder / "ovn-metadata-agent.cdx.json")


setup(
    cmdclass={"egg_info": EggInfo},
    name="ovn-metadata-agent",
    version="0.1.0",
    description="Instance metadata for OVN networks, one agent per chassis",
    long_description=README,
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="openstack ovn neutron nova metadata haproxy",
    classifiers=[
        "Environment :: OpenStack",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: System :: Networking",
    ],
    python_requires=">=3.11",
    package_dir=ROOTS,
    packages=[
        name
        for root, folder in ROOTS.items()
        for name in (root, *(f"{root}.{sub}" for sub in find_packages(folder)))
    ],
    package_data={root: ["py.typed"] for root in ROOTS},
    data_files=[
        (
            ETC,
            [
                "etc/ovn-metadata-agent/agent.conf.sample",
                "etc/ovn-metadata-agent/privileged.conf",
                "rootwrap/rootwrap.conf",
            ],
        ),
        (f"{ETC}/rootwrap.d", ["rootwrap/metadata.filters"]),
        (
            f"{SHARE}/systemd",
            [
                "etc/systemd/ovn-metadata-agent.service",
                "etc/systemd/ovn-metadata-fleet.service",
                "etc/systemd/ovn-metadata-privsep.socket",
                "etc/systemd/ovn-metadata-privsep@.service",
            ],
        ),
        (f"{SHARE}/sudoers.d", ["rootwrap/sudoers.d/ovn-metadata-agent"]),
        (f"{SHARE}/sysusers.d", ["etc/sysusers.d/ovn-metadata-agent.conf"]),
        (
            f"{SHARE}/tmpfiles.d",  # noqa: S108 # no temporary file
            ["etc/tmpfiles.d/ovn-metadata-agent.conf"],
        ),
        (f"{SHARE}/logrotate.d", ["etc/logrotate.d/ovn-metadata-agent"]),
    ],
    install_requires=REQUIREMENTS,
    extras_require={"test": TEST_REQUIREMENTS},
    entry_points={
        "console_scripts": [
            "agent-status = ovn_metadata.agent.commands.status:main",
            "ovn-metadata-agent = ovn_metadata.agent.main:main",
            "ovn-metadata-cleanup = ovn_metadata.agent.commands.cleanup:main",
            "ovn-metadata-fleet = "
            "ovn_metadata.privsep.supervisor.command:main",
            "ovn-metadata-privsep = ovn_metadata.privsep.daemon:main",
            "ovn-metadata-rootwrap = ovn_metadata.privsep.rootwrap:main",
        ]
    },
)
