"""Reports: stored runs as one self-contained HTML page and as PNG files.

Example::

    report(["results/local/tonight"], "reports/local/tonight")   # PosixPath('reports/local/tonight/index.html')

The way of the data: records -> groups -> charts (descriptions) -> page and PNG.
"""

from suite.reporting.rendering import Rendered, render, report

__all__ = ["Rendered", "render", "report"]
