"""What ensemble.json says: who answers together, and what each step is worth."""

from collections.abc import Mapping
from typing import Any

from raysearch.records.report.headline import three
from raysearch.records.report.known import Known
from raysearch.records.report.tables import Table
from raysearch.records.terminal.text import short

MODEL, SINGLE = "model", "single"


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
    }
    if told.get("diversity") is not None and len(told["members"]) > 1:
        shown["diversity"] = f"two members differ on {told['diversity']:.1%}, on average"
    return [(name, text) for name, text in shown.items() if text]


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


def sentences(known: Known) -> list[str]:
    """What answering together is worth on test images, with the paired interval, whatever it is."""
    told = known.ensemble or {}
    test, count = told.get("test") or {}, len(told.get("members", []))
    rows = test.get("rows", {})
    if SINGLE not in rows:
        return []
    found = []
    for name in _different(rows):
        ends = test.get("minus_single", {}).get(name, {}).get(known.metric)
        if not ends:
            continue
        gain = rows[name]["metrics"][known.metric] - rows[SINGLE]["metrics"][known.metric]
        low, high = ends
        verdict = "" if low > 0 or high < 0 else ", which holds 0: no difference is shown"
        found.append(
            f"The {name} of {count} members scores {three(rows[name]['metrics'][known.metric])} on "
            f"test, {gain:+.3f} against the single best (paired 95 % interval {low:+.3f} to "
            f"{high:+.3f}{verdict})."
        )
    return found


def _different(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The rows that there are; the model only where it is none of the others."""
    others = [row.get("nll") for name, row in rows.items() if name != MODEL]
    return [name for name in rows if name != MODEL or rows[name].get("nll") not in others]
