"""Write the bill of materials: what is needed beside what is packaged.

sbom.cdx.json beside this is CycloneDX, made of setup.py and the RPMs' spec
by a library that also knows whether it is valid. setup.py puts it into every
wheel, and with that into the DEBs and RPMs, where PEP 770 has it:
ovn_metadata_agent-<version>.dist-info/sboms.

    sbom.py [--check]

--check changes nothing and fails if the file is stale or not valid.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import uuid
from pathlib import Path

import release
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

FILE = Path(__file__).with_name("sbom.cdx.json")
# Which versions are installed is decided where it is installed.
NEEDS = "ovn-metadata-agent:needs"
_PYTHON = re.compile(r"(?P<name>[A-Za-z0-9.-]+)(?P<needs>.*)")
_PROGRAM = re.compile(
    r"^Requires: +(?P<name>[a-z-]+)(?: (?P<needs>.+))?$", re.M
)


def requirements(setup: str, spec: str) -> list[tuple[str, str, str]]:
    """Return kind, name and versions of all that SETUP and SPEC require."""
    (libraries,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(setup).body
        if isinstance(node, ast.Assign)
        and getattr(node.targets[0], "id", "") == "REQUIREMENTS"
    )
    found = [("pypi", _PYTHON.fullmatch(each)) for each in libraries]
    found += [("generic", each) for each in _PROGRAM.finditer(spec)]
    return [
        (kind, match["name"], (match["needs"] or "").replace(" ", ""))
        for kind, match in found
        if match and not match["name"].startswith("ovn-metadata-")
    ]


def bill(setup: str, spec: str) -> str:
    """Return the bill of materials of what SETUP and SPEC package."""
    version = release.parse_version(setup)
    bom = Bom()
    bom.metadata.tools.components.clear()
    bom.metadata.component = Component(
        name=release.NAME,
        version=version,
        type=ComponentType.APPLICATION,
        purl=PackageURL("pypi", name=release.NAME, version=version),
        bom_ref=release.NAME,
        licenses=[DisjunctiveLicense(id="Apache-2.0")],
    )
    needed = [
        Component(
            name=name,
            type=ComponentType.LIBRARY
            if kind == "pypi"
            else ComponentType.APPLICATION,
            purl=PackageURL(kind, name=name),
            bom_ref=name,
            properties=[Property(name=NEEDS, value=needs)] if needs else [],
        )
        for kind, name, needs in requirements(setup, spec)
    ]
    bom.components.update(needed)
    bom.register_dependency(bom.metadata.component, needed)
    made = json.loads(JsonV1Dot6(bom).output_as_string())
    # The same text whenever it is made, and by whichever version.
    del made["metadata"]["timestamp"], made["serialNumber"]
    made["metadata"].pop("tools", None)
    text = json.dumps(made, sort_keys=True)
    serial = uuid.uuid5(uuid.NAMESPACE_OID, text)
    made["serialNumber"] = f"urn:uuid:{serial}"
    return json.dumps(made, indent=2, sort_keys=True) + "\n"


def main() -> int:
    """Write the file, or check it; return 1 if it is not as it should be."""
    text = bill(
        (release.ROOT / "setup.py").read_text(),
        (release.ROOT / release.SPEC).read_text(),
    )
    fault: object = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if not fault and sys.argv[1:] == ["--check"]:
        fault = FILE.read_text() != text and f"{FILE} is stale: make options"
    elif not fault:
        FILE.write_text(text)
    if fault:
        print(fault, file=sys.stderr)
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
