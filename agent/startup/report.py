"""The report at SIGUSR2: oslo.reports' "guru meditation", with our status."""

import json
import logging
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from oslo_config import cfg
from oslo_reports import report
from oslo_reports.generators import conf as configuration
from oslo_reports.generators import process, threading, version

from ..config import options
from ..core.masking import masker

LOG = logging.getLogger(__name__)


def log(conf: cfg.ConfigOpts, status: Mapping[str, Any]) -> None:
    """Log the report: a line each, no secret.

    So it gets to wherever the log goes; a syslog takes no long message.
    """
    text = report.TextReport(f"{options.PROGRAM}: report")
    product = SimpleNamespace(
        vendor_string=lambda: options.PROGRAM,
        product_string=lambda: options.PROGRAM,
        version_string_with_package=options.version,
    )
    for title, generator in (
        ("Package", version.PackageReportGenerator(product)),
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
