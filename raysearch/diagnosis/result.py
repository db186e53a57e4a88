"""What one check has found on one node."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from raysearch.errors import RunError

HERE = "this machine"
Verdict = Literal["ok", "warning", "failed"]
# As `raysearch.cluster.on_every_node`: a function and its arguments, answered by node.
Everywhere = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True)
class Result:
    """What one check has found on one node.

    Attributes:
        node: its name in the cluster, or what else was looked at.
        repair: what to do where the verdict is not ok.
    """

    check: str
    node: str
    found: str
    verdict: Verdict = "ok"
    repair: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def passed(results: Iterable[Result]) -> bool:
    """Whether nothing failed."""
    return all(result.verdict != "failed" for result in results)


def answered(
    check: str, answers: Mapping[str, Any], repair: str
) -> tuple[dict[str, Any], list[Result]]:
    """Part the nodes that answered from those that did not, which have failed the check."""
    errors = {node: told for node, told in answers.items() if isinstance(told, RunError)}
    good = {node: told for node, told in answers.items() if node not in errors}
    return good, [Result(check, node, str(told), "failed", repair) for node, told in errors.items()]


def gigabytes(count: float) -> str:
    """Return bytes as 0.8 GB or 120 GB."""
    return f"{count / 1e9:.1f} GB" if count < 1e10 else f"{count / 1e9:.0f} GB"
