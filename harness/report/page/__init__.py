"""Makes one HTML page of files of results: everything is in it, so that it opens without a network.

The page's own HTML, CSS and JavaScript are files beside this one.
"""

from harness.report.page.gathered import NothingMeasured, gathered
from harness.report.page.html import page_html

__all__ = ["NothingMeasured", "gathered", "page_html"]
