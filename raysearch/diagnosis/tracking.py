"""Whether MLflow can be written to."""

import os
from pathlib import Path

from raysearch.diagnosis.disk import nearest
from raysearch.diagnosis.result import HERE, Result
from raysearch.records.mlflow_tree import connect, tracking_uri
from raysearch.redaction import redacted

LOCAL = "sqlite:///"
REPAIR = (
    "start the tracking server, or correct MLFLOW_TRACKING_URI; without the variable records go "
    "to a database in the output folder"
)


def check_tracking(output: Path) -> Result:
    """Ask the tracking server or database for an experiment, as the driver would.

    Args:
        output: the folder of the searches.
    """
    uri = tracking_uri(output)
    if uri.startswith(LOCAL) and not Path(uri.removeprefix(LOCAL)).exists():
        return _to_be_made(Path(uri.removeprefix(LOCAL)))
    try:
        connect(uri).search_experiments(max_results=1)
    except Exception as error:  # MLflow and its stores raise whatever they like.
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        found = f"{redacted(uri)}: {redacted(line)[:160]}"
        return Result("tracking", HERE, found, "failed", REPAIR)
    return Result("tracking", HERE, f"{redacted(uri)} answers")


def _to_be_made(database: Path) -> Result:
    there = nearest(database.parent)
    if os.access(there, os.W_OK | os.X_OK):
        return Result("tracking", HERE, f"{database}: made by the first search")
    return Result("tracking", HERE, f"{there}: cannot be written", "failed", REPAIR)
