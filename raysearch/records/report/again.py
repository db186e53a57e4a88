"""What was trained again after the search: finalists, techniques left out, the refit."""

from collections.abc import Mapping
from typing import Any

from raysearch.inference.models import REFIT_FOLDER
from raysearch.records.files import read_json
from raysearch.records.report.headline import three
from raysearch.records.report.known import Known
from raysearch.records.report.tables import Table


def trained_again(known: Known) -> list[tuple[str, Table, str]]:
    """Return title, table and a remark of each, where there is a record of it."""
    made = {
        "finalists.json": _finalists,
        "ablation.json": _ablation,
        f"{REFIT_FOLDER}/ensemble.json": _refit,
    }
    paths = {known.run.path / name: tell for name, tell in made.items()}
    return [tell(read_json(path), known.metric) for path, tell in paths.items() if path.is_file()]


def _finalists(told: Mapping[str, Any], metric: str) -> tuple[str, Table, str]:
    heads = ("trial", "architecture", f"{metric} as searched", "mean", "std", "least", "greatest",
             "seeds")  # fmt: skip
    rows = [
        (
            str(one["trial"]), one["architecture"], three(one["searched"]), three(one["mean"]),
            three(one["std"]), three(one["min"]), three(one["max"]), str(one["n"]),
        )
        for one in told["finalists"]
    ]  # fmt: skip
    words = "The search kept the luckiest run of each; the mean says what to expect of another."
    return "Finalists, trained again from scratch", Table(heads, rows, (1,)), words


def _ablation(told: Mapping[str, Any], metric: str) -> tuple[str, Table, str]:
    champion = told["champion"]
    rows = [(f"nothing (trial {champion['trial']})", three(champion["mean"]), "", "")]
    for one in told["techniques"]:
        gain = one["gain"]["mean"]
        rows.append(
            (
                one["technique"], three(one["mean"]), "-" if gain is None else f"{gain:+.3f}",
                three(one["gain"]["std"]),
            )
        )  # fmt: skip
    table = Table(("without", f"{metric} on validation", "gain", "std"), rows)
    words = "A gain above 0 says that the technique helps."
    if len(told["seeds"]) < 2:
        words += " One seed each: a gain below what seeds differ by is chance."
    return "What each technique is worth", table, words


def _refit(told: Mapping[str, Any], metric: str) -> tuple[str, Table, str]:
    rows, test = [], told.get("test") or {}
    for name, row in test.get("rows", {}).items():
        ends = row["intervals"].get(metric)
        between = f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "-"
        rows.append((name, three(row["metrics"].get(metric)), between))
    words = f"{len(told['members'])} members were trained on training and validation images."
    if ends := test.get("minus_model", {}).get(metric):
        words += f" Refit minus model: paired 95 % interval {ends[0]:+.3f} to {ends[1]:+.3f}."
    if not test:
        words += " The test split stayed closed."
    return "Refit", Table(("", f"{metric} on test", "95 %"), rows), words
