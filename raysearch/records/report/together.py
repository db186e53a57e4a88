"""What ensemble.json says: who answers together, and what each step is worth."""

from collections.abc import Mapping
from typing import Any

from raysearch.records.report.headline import three
from raysearch.records.report.known import Known
from raysearch.records.report.tables import Table
from raysearch.records.terminal.text import short

MODEL, SINGLE, ENSEMBLE = "model", "single", "ensemble"


def members(known: Known) -> Table:
    """The members with their weights; empty where there is no ensemble."""
    by_number = {record.number: record for record in known.records}
    rows = []
    for member in (known.ensemble or {}).get("members", []):
        record = None if member["run"] else by_number.get(member["trial"])
        name = record.recipe.architecture if record else "of another search"
        value = three(record.value) if record else "-"
        rows.append((str(member["trial"]), name, value, f"{member['weight']:.3f}"))
    return Table(("trial", "architecture", f"{known.metric} alone", "weight"), rows, (1,))


def choices(known: Known) -> list[tuple[str, str]]:
    """What was chosen on validation beside the members."""
    told = known.ensemble or {}
    if not told:
        return []
    how = ", ".join(f"{key} {short(value)}" for key, value in told["postprocessing"].items())
    shown = {
        "vote": told["vote"],
        "test-time views": ", ".join(told["tta"]).replace("_", " "),
        "temperature": short(told["temperature"]),
        "threshold": "" if told["threshold"] is None else short(told["threshold"]),
        "post-processing": how.replace("_", " ") or "none",
        "made by": told.get("command") or "",
        "registered": told.get("registered") or "",
        "test split": _opened(told.get("test") or {}),
    }
    if told.get("diversity") is not None and len(told["members"]) > 1:
        shown["diversity"] = f"two members differ on {told['diversity']:.1%}, on average"
    return [(name, text) for name, text in shown.items() if text]


def _opened(test: Mapping[str, Any]) -> str:
    """How often the test split was looked at, and by which commands."""
    times = test.get("opened")
    if not times:
        return ""
    commands = [one["command"] or f"of trial {one['trial']}" for one in test.get("openings", [])]
    return f"opened {'once' if times == 1 else f'{times} times'}: {'; '.join(commands)}"


def steps(known: Known) -> Table:
    """Single, with test-time augmentation, ensemble, both: on validation and on test."""
    told = known.ensemble or {}
    before, test = told.get("validation") or {}, told.get("test") or {}
    after = test.get("rows", {})
    metric = known.metric
    heads = (
        "",
        f"{metric} on validation",
        "on test",
        "95 %",
        "drop",
        "calibration error",
        "ms an image",
    )
    rows = []
    for name in _different(after or before):
        old, new = before.get(name, {}), after.get(name, {})
        ends = new.get("intervals", {}).get(metric)
        lost, seconds = new.get("drop", {}).get(metric), (new or old).get("seconds_per_image")
        rows.append(
            (
                name, three(old.get("metrics", {}).get(metric)),
                three(new.get("metrics", {}).get(metric)),
                f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "-",
                "-" if lost is None else f"{lost:+.3f}",
                three((new or old).get("calibration_error")),
                "-" if seconds is None else f"{1000 * seconds:.3g}",
            )
        )  # fmt: skip
    return Table(heads, rows)


def reliabilities(known: Known) -> tuple[dict[str, list[list[float]]], str]:
    """Return the bins of `raysearch.inference.calibration.reliability` of each row that has them,
    and where they were measured: on test where that was opened, else on validation.
    """
    told = known.ensemble or {}
    test = (told.get("test") or {}).get("rows", {})
    rows, where = (test, "test") if test else (told.get("validation") or {}, "validation")
    warm = told.get("temperature", 1.0)
    names = {name: name for name in _different(rows) if name in (SINGLE, ENSEMBLE, MODEL)}
    if MODEL in names and warm != 1:
        names[MODEL] = f"model (temperature {warm:.3g})"
    found = {
        f"{title}: error {row['calibration_error']:.3f}": row["reliability"]
        for name, title in names.items()
        if (row := rows[name]).get("reliability")
    }
    return found, where


def sentences(known: Known) -> list[str]:
    """What answering together is worth on test images, with the paired interval, whatever it is."""
    rows = ((known.ensemble or {}).get("test") or {}).get("rows", {})
    names = _different(rows) if SINGLE in rows else []
    return [
        f"The {name} scores {three(rows[name]['metrics'][known.metric])} on test, {gain}."
        for name in names
        if (gain := _gain(known, name))
    ]


def verdict(known: Known) -> str:
    """Which model is to be used, and what it gains over the best single trial; empty of none."""
    model, metric = known.model, known.metric
    if model is None or model["metrics"].get(metric) is None:
        return ""
    if known.together == 1:
        return "The model to use is the best trial alone: no ensemble is better on validation."
    gain = _gain(known, MODEL)
    value = three(model["metrics"][metric])
    return (
        f"The model to use is {known.answers}: {metric} {value} on test images"
        f"{f', {gain}' if gain else ''}."
    )


def _gain(known: Known, name: str) -> str:
    """A row against the single best on test, with the paired interval; empty of none."""
    test = (known.ensemble or {}).get("test") or {}
    rows, ends = test.get("rows", {}), test.get("minus_single", {}).get(name, {}).get(known.metric)
    if not ends or SINGLE not in rows:
        return ""
    gain = rows[name]["metrics"][known.metric] - rows[SINGLE]["metrics"][known.metric]
    low, high = ends
    unsure = "" if low > 0 or high < 0 else ", which holds 0: no difference is shown"
    return (
        f"{gain:+.3f} against the single best (paired 95 % interval {low:+.3f} to {high:+.3f}"
        f"{unsure})"
    )


def _different(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The rows that differ: an ensemble of one is that trial, and a model may be any other row."""
    before: list[tuple[Any, Any]] = []
    found = []
    for name, row in rows.items():
        if _said(row) not in before:
            found.append(name)
        before.append(_said(row))
    return found


def _said(row: Mapping[str, Any]) -> tuple[Any, Any]:
    return row.get("nll"), row.get("metrics")
