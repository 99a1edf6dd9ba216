"""The sanitizer: what Triton's interpreter lets pass and a GPU does not, found while a kernel runs in the interpreter.

Example::

    with Sanitizer() as sanitizer:
        kernel[(4,)](x, out, N)
    for finding in sanitizer.findings:
        print(finding)
"""

from suite.sanitizing.findings import Finding
from suite.sanitizing.sanitizer import Sanitizer

__all__ = ["Finding", "Sanitizer"]
