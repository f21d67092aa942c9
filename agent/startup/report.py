"""The report at SIGUSR2: oslo.reports' "guru meditation", with our status."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg
from oslo_reports import report
from oslo_reports.generators import conf as configuration
from oslo_reports.generators import process, threading, version

from ..core.masking import masker

LOG = logging.getLogger(__name__)


class _Product:
    """What `PackageReportGenerator` asks for."""

    def __init__(self, program: str, number: str) -> None:
        self.vendor_string = lambda: "ovn-metadata-agent"
        self.product_string = lambda: program
        self.version_string_with_package = lambda: number


def log(
    conf: cfg.ConfigOpts, program: str, number: str, status: Mapping[str, Any]
) -> None:
    """Log the report of PROGRAM, version NUMBER: a line each, no secret.

    So it gets to wherever the log goes; a syslog takes no long message.
    """
    text = report.TextReport(f"{program}: report")
    for title, generator in (
        ("Package", version.PackageReportGenerator(_Product(program, number))),
        ("Threads", threading.ThreadReportGenerator()),
        ("Processes", process.ProcessReportGenerator()),
        ("Configuration", configuration.ConfigReportGenerator(conf)),
        ("Status", lambda: json.dumps(status, indent=1)),
    ):
        text.add_section(title, generator)
    # oslo.config masks the options that are marked as secret. A password in
    # a URL is masked here.
    masked = masker([conf.metadata_proxy_shared_secret or ""])(text.run())
    for line in masked.splitlines():
        LOG.warning("report: %s", line)
