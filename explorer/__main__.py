"""Run `python -m explorer`."""

import os
import sys

if not sys.stderr.isatty():  # other libraries draw bars of their own, unless told before they are imported
    os.environ.setdefault("TQDM_DISABLE", "1")

from explorer.cli import main

main()
