"""Run `python -m explorer`, which is also the command `layer-redundancy`."""

import os
import sys
from typing import NoReturn

from explorer import interrupts
from explorer.garbage import put_off_collecting


def run() -> NoReturn:
    """Run the command line; until its libraries are imported, a signal ends the process at once."""
    interrupts.leave_at_once()  # what follows takes seconds
    put_off_collecting()
    if sys.stderr is None or not sys.stderr.isatty():  # others draw bars of their own, unless told before their import
        os.environ.setdefault("TQDM_DISABLE", "1")
    from explorer.cli import main

    try:
        main()
    except SystemExit as exit_:
        if interrupts.received() is not None:
            interrupts.end(int(exit_.code or 0))
        raise


if __name__ == "__main__":
    run()
