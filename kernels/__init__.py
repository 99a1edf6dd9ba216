"""Our operators: one folder per family, in it one folder per operator. Read the operator's spec.py first.

`kernels` is also the import name of a Hugging Face package that transformers probes for by version; the version below
is one that no caller accepts, so that this package is never taken for it.
"""

__version__ = "0"
