"""What a node must have before a trial can train there, and what it lacks.

The search has checked everything where it runs. So what is missing elsewhere, or storage that is
away, says nothing of a trial's configuration: the process ends, and the trial is handed out again.
"""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raysearch.errors import RaysearchError, first_line
from raysearch.records.run_folder import INFO
from raysearch.redaction import redacted
from raysearch.search.failures import disk_full

log = logging.getLogger(__name__)

PAUSE_SECONDS = 30.0  # A node that lacks something asks for trials no faster than this.


class NotReady(Exception):
    """A node lacks what a trial needs; another node, or this one later, may have it."""


@contextmanager
def preparing(run: Path, stored: bool = True) -> Iterator[None]:
    """Tell what goes wrong while a node is made ready from what is wrong with a configuration.

    Args:
        run: its folder; a machine that sees the search's own has what the search has checked.
        stored: whether nodes take what they lack from storage; else they are said to share files.

    Raises:
        NotReady: storage, the network or a file failed, or elsewhere than on such a machine the
            data or the weights are not there.
    """
    try:
        yield
    except (OSError, RaysearchError) as error:
        checked = isinstance(error, RaysearchError) and (run / INFO).is_file()
        if checked or not stored or disk_full(error):
            raise
        told = redacted(f"{socket.gethostname()}: {first_line(error)}")
        log.warning("%s; the trial is handed out again", told)
        time.sleep(PAUSE_SECONDS)
        raise NotReady(told) from error
