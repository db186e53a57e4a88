"""Trials of other searches, to begin with or to learn from: do they fit, and what did they see?"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raysearch.config import Study
from raysearch.data import Cache, Data
from raysearch.data.splits import Splits, read_splits
from raysearch.errors import ConfigError, DataError, RunError
from raysearch.models import build
from raysearch.records.evaluation import cache_folder
from raysearch.records.run_folder import RunFolder
from raysearch.search.variants import all_specs
from raysearch.study import load_study
from raysearch.training.checkpoint import BEST, FINAL
from raysearch.training.trained import load_trained
from raysearch.training.warm_start import start_from


def check_sources(study: Study) -> tuple[str, ...]:
    """Make sure that what trials begin with, and learn from, can be read and fits.

    Returns:
        What there is to say about it: how many weights each network begins with.

    Raises:
        RunError: a trial's folder without a readable checkpoint, or whose weights do not fit.
        ConfigError: teachers of another task or other classes.
    """
    for folder in study.teachers:
        task = load_trained(folder).task
        if (task.kind, task.bands, task.classes) != (
            study.what.kind,
            study.what.bands,
            study.what.classes,
        ):
            raise ConfigError(
                f"teachers: {folder} tells {len(task.classes)} classes apart in {task.bands} bands "
                f"({task.kind}), not this study's; name a trial of the same classes in their order"
            )
    specs = all_specs(study) if study.init_from else {}
    metric, notes = study.objective.metric, []
    for name, folder in study.init_from.items():
        source = load_trained(folder)
        value = source.metrics.get(metric)
        had = f", which had {metric} {value:.4f}" if value is not None else ""
        for spec in specs.get(name, []):
            bare = spec | ({"encoder_weights": None} if "encoder_weights" in spec else {})
            copied = start_from(build(bare, study.what), bare, study.what, source)
            notes.append(
                f"{name} begins with {copied.taken}/{copied.total} weights of {folder}{had}"
            )
    return tuple(dict.fromkeys(notes))


def check_unseen(study: Study, data: Data) -> tuple[str, ...]:
    """Make sure that no source has learned from, or was chosen by, what this search holds out.

    Sources of a source count too. Images are the same where their files' bytes are.

    Returns:
        What there is to say about sources of which that cannot be known.

    Raises:
        RunError: a source has seen this search's validation or test images.
    """
    ours = {
        part: {data.cache.file_digests[name] for name in getattr(data.splits, part)}
        for part in ("val", "test")
    }
    notes = []
    for folder in _lineage([*study.init_from.values(), *study.teachers]):
        seen = _seen(folder, data)
        if isinstance(seen, str):
            notes.append(
                f"{folder}: {seen}, so it may have learned from images that this search holds out"
            )
            continue
        for part, theirs, how in (
            ("test", seen.trained | seen.chosen, "was trained or chosen on"),
            ("val", seen.trained, "was trained on"),
        ):
            if both := len(ours[part] & theirs):
                raise RunError(
                    f"{folder}: {how} {both} of the {len(ours[part])} {part} images of this "
                    f"search, which would score too well; search with its splits ({seen.splits}), "
                    "or name another source"
                )
    return tuple(notes)


@dataclass(frozen=True)
class _Seen:
    """Digests of the images that a trial was trained on, and those that it was chosen by."""

    trained: set[str]
    chosen: set[str]
    splits: str


def _seen(trial: Path, data: Data) -> _Seen | str:
    """Return what a trial has seen, or why that cannot be known."""
    run = RunFolder(trial.parent.parent)
    try:
        splits, info = read_splits(run.splits_file), run.info
        study = load_study(str(run.study_file))
    except (DataError, RunError, ConfigError):
        return f"{run.path} is not the whole folder of a search"
    digests = _digests(str(info.get("data_digest")), study, data, splits)
    if digests is None:
        return f"the images of {run.path} are no longer known by their bytes (its cache is gone)"
    fractions = f"data.test_fraction={study.data.test_fraction:g}"
    fractions += f", data.validation_fraction={study.data.validation_fraction:g}"
    return _Seen(
        {digests[name] for name in splits.train},
        {digests[name] for name in splits.val},
        f"--seed {info.get('seed', 0)} --splits {splits.mode}, {fractions}",
    )


def _digests(digest: str, study: Study, data: Data, splits: Splits) -> dict[str, str] | None:
    """Return the digest of each image of another search, by name, as far as a cache knows them."""
    cache = data.cache
    if digest != cache.digest:
        cache = Cache(cache_folder(study) / digest[:16])
    try:
        found = cache.file_digests
    except (OSError, ValueError, KeyError):
        return None
    known = cache.digest == digest and {*splits.train, *splits.val} <= found.keys()
    return found if known else None


def _lineage(folders: list[Path]) -> Iterator[Path]:
    """Yield trials' folders, and the trials that those began with or learned from in their turn."""
    waiting, known = list(folders), set()
    while waiting:
        folder = waiting.pop(0).resolve()
        folder = folder.parent if folder.name in (BEST, FINAL) else folder
        if folder in known:
            continue
        known.add(folder)
        yield folder
        try:
            study = load_study(str(RunFolder(folder.parent.parent).study_file))
        except ConfigError:
            continue
        waiting += [*study.init_from.values(), *study.teachers]
