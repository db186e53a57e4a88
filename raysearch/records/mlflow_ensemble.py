"""A search's ensemble as an MLflow run of its own, under the search's parent beside the trials."""

import hashlib
from collections.abc import Mapping
from typing import Any

from raysearch.inference.choose import MODEL
from raysearch.inference.models import ENSEMBLE
from raysearch.records.gallery import draw_ensemble
from raysearch.records.mlflow_tree import RECORDED, ROLE, SEARCH, MlflowTree
from raysearch.records.run_folder import RunFolder

MEMBER, MEMBER_OF = "ensemble_member", "ensemble_run"
NOTE = "mlflow.note.content"


def record_ensemble(tree: MlflowTree, told: Mapping[str, Any]) -> str:
    """Bring the ensemble's run up to date, and tag the members' runs with their weight.

    Metrics have the trials' names for validation, so that they compare; those of the test split
    begin with `test/`, and `drop/` is what the objective's lost between the two.

    Args:
        told: what ensemble.json holds.

    Returns:
        The run's id.
    """
    client, file = tree.client, tree.run.path / ENSEMBLE
    made = hashlib.sha256(file.read_bytes()).hexdigest()
    identity = {SEARCH: tree.info["id"], ROLE: "ensemble"}
    found = tree.find(identity)
    if found is not None and found.data.tags.get(RECORDED) == made:
        return str(found.info.run_id)
    when = int(told["when"] * 1000)
    if found is None:
        tags = {**identity, **tree.common_tags(), "mlflow.parentRunId": tree.parent}
        found = client.create_run(tree.experiment, when, tags, "ensemble")
    run_id = str(found.info.run_id)
    members = _members(tree, told)
    for key, value in {**_tags(told), NOTE: _note(tree, told, members)}.items():
        client.set_tag(run_id, key, value)
    tree.metrics(run_id, [(_metrics(told), told["when"], 0)])
    client.log_artifact(run_id, str(file))
    for path in draw_ensemble(tree.run, tree.study, told):
        tree.picture(run_id, path, 0)
    _link(tree, run_id, members)
    client.set_terminated(run_id, "FINISHED", when)
    client.set_tag(run_id, RECORDED, made)
    return run_id


def _members(tree: MlflowTree, told: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """The run of each member trial, with what it is called and its weight.

    One that another search trained, which MLflow does not know, is left out.
    """
    found: dict[str, tuple[str, float]] = {}
    for member in told["members"]:
        number, search = member["trial"], tree.info["id"]
        if member["run"] is None:
            if tree.trial(number):
                tree.files(number)
        else:
            place = (tree.run.path / member["place"]).resolve()
            search = RunFolder.read(place.parents[2]).info["id"]
        run = tree.find({SEARCH: search, ROLE: "trial", "trial": str(number)})
        if run is not None:
            name, weight = found.get(run.info.run_id, (run.info.run_name, 0.0))
            found[run.info.run_id] = (name, weight + member["weight"])
    return found


def _link(tree: MlflowTree, run_id: str, members: Mapping[str, tuple[str, float]]) -> None:
    """Tag the members' runs, and no others."""
    for run in tree.client.search_runs([tree.experiment], f"tags.{MEMBER_OF} = '{run_id}'"):
        if run.info.run_id not in members:
            for tag in (MEMBER, MEMBER_OF):
                tree.client.delete_tag(run.info.run_id, tag)
    for member, (_, weight) in members.items():
        tree.client.set_tag(member, MEMBER, f"{weight:.4g}")
        tree.client.set_tag(member, MEMBER_OF, run_id)


def _tags(told: Mapping[str, Any]) -> dict[str, str]:
    """What makes the model; tags, since MLflow lets no parameter change."""
    trials = [f"{one['trial']} ({one['weight']:.4g})" for one in told["members"]]
    return {
        "architecture": "ensemble",
        "members": ", ".join(trials),
        "vote": told["vote"],
        "tta": ", ".join(told["tta"]),
        "temperature": f"{told['temperature']:.4g}",
        "threshold": str(told["threshold"]),
        "postprocessing": ", ".join(f"{k} {v}" for k, v in told["postprocessing"].items())
        or "none",
        "device": told["device"],
        "test_openings": str(told["test"]["opened"]) if told.get("test") else "0",
    }


def _note(
    tree: MlflowTree, told: Mapping[str, Any], members: Mapping[str, tuple[str, float]]
) -> str:
    lines = [
        f"- [{name}](#/experiments/{tree.experiment}/runs/{run_id}), weight {weight:.4g}"
        for run_id, (name, weight) in members.items()
    ]
    parent = f"[search](#/experiments/{tree.experiment}/runs/{tree.parent})"
    return "\n".join([f"The best model of this {parent}'s trials together:", "", *lines])


def _metrics(told: Mapping[str, Any]) -> dict[str, float]:
    validation = told["validation"][MODEL]
    metrics = {**validation["metrics"], **_others(validation)}
    if not told.get("test"):
        return metrics
    rows, metric = told["test"]["rows"], told["metric"]
    for name, row in rows.items():
        place = f"test_{name.replace(' + ', '_').lower()}" if name != MODEL else "test"
        found = {metric: row["metrics"][metric], **_others(row)}
        found = {**row["metrics"], **found} if name == MODEL else found
        metrics |= {f"{place}/{key}": value for key, value in found.items()}
        metrics |= _ends(place, {metric: row["intervals"].get(metric)})
    metrics[f"drop/{metric}"] = rows[MODEL]["drop"][metric]
    against = told["test"]["minus_single"].get(MODEL, {})
    return metrics | _ends("test_minus_single", {metric: against.get(metric)})


def _others(row: Mapping[str, Any]) -> dict[str, float]:
    names = ("calibration_error", "nll", "seconds_per_image")
    return {name: row[name] for name in names if row.get(name) is not None}


def _ends(place: str, intervals: Mapping[str, Any]) -> dict[str, float]:
    told: dict[str, float] = {}
    for name, interval in intervals.items():
        if interval is not None:
            told |= dict(
                zip((f"{place}/{name}_low", f"{place}/{name}_high"), interval, strict=True)
            )
    return told
