"""The page about a search: it says what was found and how sure that is, and needs no other file."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from PIL import Image

from raysearch import report
from raysearch.data.splits import Splits
from raysearch.errors import RunError
from raysearch.records.importance import comparison
from raysearch.records.leaderboard import write_summary
from raysearch.records.report import figures, galleries, knobs, tables, together
from raysearch.records.report.headline import headline
from raysearch.records.report.known import read_known
from raysearch.records.report.page import write_report
from raysearch.records.run_folder import RunFolder
from tests.records import fakes
from tests.records.fakes import add_answers, add_epochs, add_predictions, add_trial, new_run

COUNTS = np.array([[90, 5, 5], [2, 6, 2], [0, 4, 6]])
SPLITS = Splits(tuple("abcdef"), ("g", "h"), ("i", "j", "k"), "honest", ("l",))


class Parts(HTMLParser):
    """Addresses, headings and words of a page; fails on tags that are left open."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]
        self.ids += [value or "" for key, value in attrs if key == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += f" {data.strip()}"


def finish(run: RunFolder, **more: Any) -> RunFolder:
    study = read_known(run).study
    run.write(run.splits_file.name, SPLITS.to_json())
    baseline = {"name": "predicting background alone", "value": 0.1}
    write_summary(run, study, seconds=600, busy_share=0.9, baseline=baseline, device="cpu", **more)
    return run


@pytest.fixture
def searched(run: RunFolder) -> RunFolder:
    """Four trials: a start point, the best, one that was cut, one that failed."""
    add_trial(run, 0, 0.4)
    add_trial(run, 1, 0.6, architecture="resnet")
    add_trial(run, 2, 0.2, epochs=1, state="pruned")
    add_trial(run, 3, 0.2, epochs=0, state="failed")
    add_predictions(run, 1)
    np.save(run.trial_folder(1) / "confusion.npy", COUNTS)
    journal(run, starts=[0])
    return finish(run)


def journal(run: RunFolder, starts: list[int], trials: int = 8) -> None:
    """What the sampler would have written of so many trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(run.journal)))
    study = optuna.create_study(storage=storage, study_name="animals", direction="maximize")
    for number in range(trials):
        place = {"start": starts.index(number)} if number in starts else {}
        architecture = ["unet", "resnet"][number % 2]
        point = {"learning_rate": 1e-4 * 1.6**number, "architecture": architecture}
        study.enqueue_trial(point, user_attrs=place)
        trial = study.ask()
        rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        trial.suggest_categorical("architecture", ["unet", "resnet"])
        trial.report(100 * rate, 1)
        study.tell(trial, 100 * rate)


def opened(run: RunFolder, trial: int = 1, times: int = 1, **changes: Any) -> None:
    told = {
        "trial": trial, "images": 150, "opened": times, "metrics": {"miou": 0.41, "iou/lion": 0.2},
        "intervals": {"miou": [0.35, 0.47], "iou/lion": [0.1, 0.3]}, "wilson": {},
        "drop": {"miou": 0.05}, "confusion": COUNTS.tolist(), **changes,
    }  # fmt: skip
    run.test_file.write_text(json.dumps(told))


pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def test_a_page_needs_nothing_else_and_shows_every_part(searched: RunFolder) -> None:
    path = write_report(searched)
    text = path.read_text()
    page = Parts(text)
    assert path == searched.path / "report.html"
    assert all(source.startswith(("data:", "#")) for source in page.sources)
    assert {s.removeprefix("#") for s in page.sources if s.startswith("#")} <= set(page.ids)
    assert not re.search(r"url\(|@import|https?://", text)
    for words in (
        "Learning curves", "What mattered", "Parallel coordinates", "Speed and miou", "Milestones",
        "Which class is taken", "of its pixels are right", "abc123", "torch 2.11.0",
        "6 train, 2 val, 3 test", "1 left out", f"--repeat {searched.name}",
    ):  # fmt: skip
        assert words in page.words, words
    assert write_report(searched).read_text() == text


def test_a_validation_figure_is_called_one(searched: RunFolder) -> None:
    known = read_known(searched)
    told = headline(known)
    assert f"<code>python -m raysearch.evaluate {known.run.name}</code>" in (
        write_report(searched).read_text()
    )
    assert (told.value, told.label, told.sure) == ("0.466", "miou on validation images", False)
    assert any("test split has not been opened" in words for words in told.cautions)
    text = " ".join(told.sentences)
    assert "4 trials of 2 architectures" in text
    assert "1 was cut by ASHA" in text
    assert "0.155 better than the best start point" in text
    assert "(trial 0, 0.311 in 3 epochs; 1 in all)" in text
    assert "predicting background alone scores 0.100" in text


def test_an_opened_test_split_gives_the_figure(searched: RunFolder) -> None:
    opened(searched)
    told = headline(read_known(searched))
    assert (told.value, told.label, told.sure) == ("0.410", "miou on test images", True)
    assert "0.350 to 0.470" in told.beside
    assert "0.050 less than on the validation images" in " ".join(told.sentences)
    assert told.cautions == ()
    rows = {row.name: row for row in tables.class_rows(read_known(searched), COUNTS)}
    assert rows["lion"].test == "0.200 (0.10 to 0.30)"


def test_a_test_split_that_says_less_is_said_to(searched: RunFolder) -> None:
    opened(searched, times=3, images=18)
    told = headline(read_known(searched))
    assert not told.sure
    assert "opened 3 times" in told.beside
    assert ["3 times" in words or "18 images only" in words for words in told.cautions] == [
        True
    ] * 2
    opened(searched, trial=0)
    told = headline(read_known(searched))
    assert told.label == "miou on validation images"
    assert "opened for trial 0, not for the best one" in told.cautions[0]


def test_official_splits_have_no_honest_figure(searched: RunFolder) -> None:
    searched.describe(splits="official")
    assert "no honest test figure" in headline(read_known(searched)).cautions[0]


def test_a_best_trial_that_is_a_start_point_is_no_gain(run: RunFolder) -> None:
    add_trial(run, 0, 0.6)
    add_trial(run, 1, 0.4)
    journal(run, starts=[0], trials=2)
    known = read_known(finish(run))
    assert "the search has found nothing better" in " ".join(headline(known).sentences)
    assert "itself" in write_report(run).read_text()


def test_classes_stand_beside_expectations_and_start_points(tmp_path: Path) -> None:
    expected = {"cheetah": (0.3, 0.5), "lion": (0.4, 0.5)}
    study = fakes.study(objective={"metric": "miou", "expected": expected})
    run = new_run(tmp_path, study)
    for number, top in ((0, 0.4), (1, 0.6)):
        add_trial(run, number, top)
    journal(run, starts=[0], trials=2)
    known = read_known(run)
    rows = {row.name: row for row in tables.class_rows(known, COUNTS)}
    cheetah, lion = rows["cheetah"], rows["lion"]
    assert (cheetah.score, cheetah.judged, cheetah.start) == ("0.466", "met", "0.311")
    assert (cheetah.gain, cheetah.better, cheetah.share) == ("+0.155", True, "8.33 %")
    assert (lion.judged, lion.expected) == ("short", "0.4 to 0.5")
    assert tables.start_points(known).rows == [
        ("1", "unet", "0", "0.311", "3", "completed (max epochs)", "+0.155")
    ]
    passed = {row[0]: row[1:] for row in tables.milestones(known).rows}
    assert passed["50% of its best miou (0.233)"] == ("1", "10 s")
    assert passed["100% of its best miou (0.466)"] == ("3", "30 s")
    assert passed["cheetah: expected from 0.3"] == ("2", "20 s")
    assert passed["lion: expected from 0.4"] == ("not passed", "")


def test_the_front_holds_what_nothing_beats_in_both(searched: RunFolder) -> None:
    known = read_known(searched)
    told = figures.speeds(known)
    assert {speed.milliseconds for speed in told} == {1000.0}
    record = known.records[0]
    points = [(3.0, 0.5), (1.0, 0.2), (2.0, 0.1), (2.0, 0.4), (9.0, 0.5)]
    some = [figures.Speed(record, *point) for point in points]
    front = figures.front(some, known.study.objective)
    assert [(s.milliseconds, s.value) for s in front] == [(1.0, 0.2), (2.0, 0.4), (3.0, 0.5)]
    lossy = fakes.study(objective={"metric": "val_loss"}).objective
    assert [s.milliseconds for s in figures.front(some, lossy)] == [1.0, 2.0]


def test_predictions_are_ranked_by_their_own_accuracy(searched: RunFolder) -> None:
    label = np.ones((4, 5), dtype=np.uint8)
    label[0] = 255
    arrays: dict[str, Any] = {}
    for place, wrong in enumerate((3, 0, 15)):
        prediction = label.copy()
        prediction[1:].flat[:wrong] = 2
        arrays |= {f"image{place}": np.zeros((4, 5, 3), np.uint8), f"label{place}": label}
        arrays[f"prediction{place}"] = prediction
    np.savez_compressed(searched.trial_folder(1) / "predictions.npz", **arrays)
    shown = galleries.gallery(read_known(searched))
    assert shown is not None
    titles = {name: [one.title[:6] for one in some] for name, some in shown.parts.items()}
    assert titles == {"Best": ["100.0 "], "Median": ["80.0 %"], "Worst": ["0.0 % "]}
    assert list(shown.colours) == ["cheetah", "lion"]


def test_slices_name_the_knob_that_they_show(
    searched: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna orders its panels by name, whatever order was asked for."""
    compared = comparison(searched.journal)
    assert compared is not None
    seen: list[tuple[str, set[str]]] = []

    def keep(words: str, draw: Any) -> figures.Picture:
        draw(tmp_path / "figure.png")
        with Image.open(tmp_path / "figure.png") as image:
            assert min(image.size) > 250
        return figures.Picture("data:", 1, words)

    def watch(panels: Any, metric: str, style: Any = knobs._style_slices) -> None:
        style(panels, metric)
        for axes in panels:
            labels = {label.get_text() for label in axes.get_xticklabels()}
            seen.append((axes.get_xlabel(), labels))

    monkeypatch.setattr(knobs, "embedded", keep)
    monkeypatch.setattr(knobs, "_style_slices", watch)
    knobs.slice_plots(compared, "miou", ["learning_rate", "architecture"])
    named = dict(seen)
    assert named["architecture"] == {"unet", "resnet"}
    assert "unet" not in named["learning_rate"]
    assert knobs.parallel_plot(compared, "miou", []) is not None


def test_a_classification_and_an_ensemble_are_reported(tmp_path: Path) -> None:
    fixed = {"image_size": 64}
    study = fakes.classification([f"dish <{number}>" for number in range(30)], fixed=fixed)
    run = new_run(tmp_path, study)
    lines = [{"top1": 0.2, "top5": 0.4, **{f"accuracy/dish <{k}>": 0.01 * k for k in range(30)}}]
    add_epochs(run, 0, study, lines)
    add_answers(run, 0)
    row = {"metrics": {"top1": 0.2}, "intervals": {"top1": [0.1, 0.3]}, "drop": {"top1": 0.0},
           "calibration_error": 0.05, "nll": 1.0, "seconds_per_image": 0.01}  # fmt: skip
    better = {**row, "metrics": {"top1": 0.25}, "nll": 0.9}
    rows = {"single": row, "ensemble": better, "model": better}
    told = {
        "members": [{"trial": 0, "run": None, "weight": 0.5}] * 2, "vote": "average",
        "tta": ["identity"],
        "temperature": 1.0, "threshold": None, "postprocessing": {}, "validation": rows,
        "test": {"images": 150, "opened": 1, "rows": rows,
                 "minus_single": {"ensemble": {"top1": [-0.01, 0.1]}}},
    }  # fmt: skip
    (run.path / "ensemble.json").write_text(json.dumps(told))
    known = read_known(run)
    assert [cells[0] for cells in together.steps(known).rows] == ["single", "ensemble"]
    assert "+0.050" in together.sentences(known)[0]
    assert "holds 0" in together.sentences(known)[0]
    page = Parts(write_report(run).read_text())
    assert "dish <7>" in page.words
    assert "it is dish <1>" in page.words
    assert "Ensemble" in page.words
    assert "What mattered" in page.words
    worst_first = tables.class_rows(known, None)
    assert [row.name for row in worst_first[:2]] == ["dish <0>", "dish <1>"]


def ensembled(run: RunFolder, **changes: Any) -> None:
    """An ensemble of two trials whose post-processing changes scores and no probability."""
    scores = {"miou": 0.5, "iou/cheetah": 0.6, "iou/lion": 0.2}
    single = {"metrics": {"miou": 0.4}, "intervals": {"miou": [0.3, 0.5]}, "drop": {"miou": 0.0},
              "calibration_error": 0.05, "nll": 1.0, "seconds_per_image": 0.01,
              "reliability": [[0.5, 0.6, 0.4], [0.9, 0.8, 0.6]], "confusion": None}  # fmt: skip
    both = {**single, "metrics": {"miou": 0.45}, "nll": 0.9}
    model = {**both, "metrics": scores, "intervals": {"miou": [0.4, 0.6], "iou/lion": [0.1, 0.3]},
             "confusion": COUNTS.tolist()}  # fmt: skip
    rows = {"single": single, "ensemble": both, "model": model}
    against = {"ensemble": {"miou": [-0.01, 0.1]}, "model": {"miou": [0.05, 0.15]}}
    members = [{"trial": n, "run": None, "place": "", "weight": 0.5} for n in (0, 1)]
    told = {
        "members": members, "vote": "average", "tta": ["identity"], "temperature": 1.5,
        "threshold": None, "postprocessing": {"holes": 0.01}, "validation": rows,
        "command": "python -m raysearch.ensemble animals", "diversity": 0.2,
        "test": {"images": 150, "opened": 1, "openings": [], "rows": rows,
                 "minus_single": against},
    }  # fmt: skip
    (run.path / "ensemble.json").write_text(json.dumps(told | changes))


def test_the_model_that_is_used_gives_the_figure(searched: RunFolder) -> None:
    opened(searched)
    ensembled(searched)
    known = read_known(searched)
    told = headline(known)
    assert (told.value, told.label, told.sure) == ("0.500", "miou on test images", True)
    assert told.beside.startswith("the ensemble of 2 trials: 95 % interval 0.400 to 0.600")
    words = together.verdict(known)
    assert "+0.100 against the single best (paired 95 % interval +0.050 to +0.150)" in words
    assert [row[0] for row in together.steps(known).rows] == ["single", "ensemble", "model"]
    cheetah, lion = tables.class_rows(known, COUNTS)[1:]
    assert lion.model_test == "0.200 (0.10 to 0.30)"
    assert (cheetah.model, cheetah.start, cheetah.gain) == ("0.600", "0.311", "+0.289")
    rows, where = together.reliabilities(known)
    assert list(rows) == [
        "single: error 0.050", "ensemble: error 0.050", "model (temperature 1.5): error 0.050",
    ]  # fmt: skip
    assert where == "test"
    page = Parts(write_report(searched).read_text())
    for text in ("Calibration", "the ensemble of 2 trials, on test", words, "gain over it"):
        assert text in page.words, text


def test_an_ensemble_without_a_test_figure_says_so(small: RunFolder) -> None:
    ensembled(small, test=None)
    known = read_known(small)
    assert headline(known).label == "miou on validation images"
    assert any("no test figure" in words for words in headline(known).cautions)
    assert together.verdict(known) == ""
    assert together.reliabilities(known)[1] == "validation"
    write_report(small)


def test_predictions_of_the_model_are_shown_where_they_were_kept(small: RunFolder) -> None:
    add_predictions(small, 1)
    ensembled(small)
    assert "Predictions of the best trial" in write_report(small).read_text()
    (small.path / "ensemble").mkdir()
    kept = small.trial_folder(1) / "predictions.npz"
    kept.rename(small.path / "ensemble" / kept.name)
    assert "Predictions of the ensemble of 2 trials" in write_report(small).read_text()


@pytest.fixture
def small(run: RunFolder) -> RunFolder:
    """One trial and no journal: a page that takes no time to draw."""
    add_trial(run, 1, 0.6, architecture="resnet")
    return run


def suspected(run: RunFolder, count: int, **changes: Any) -> None:
    folder = run.path / "label_suspects"
    folder.mkdir(exist_ok=True)
    rows = []
    for rank in range(1, count + 1):
        Image.new("RGB", (64, 16), "teal").save(folder / f"{rank:03d}.jpg")
        rows.append(
            {"image": f"<{rank}>.jpg", "label": "lion", "said": "cheetah", "pixels": 70,
             "confidence": 0.8, "agreement": 1.0, "picture": f"label_suspects/{rank:03d}.jpg"}
        )  # fmt: skip
    told = {"images": 96, "trials": ["0", "1"], "unknown": [], "suspects": rows}
    (run.path / "label_suspects.json").write_text(json.dumps(told | changes))


def test_suspects_are_shown_with_their_pictures(small: RunFolder) -> None:
    assert 'id="labels"' not in write_report(small).read_text()
    suspected(small, 14)
    text = write_report(small).read_text()
    page = Parts(text)
    assert "14 regions" in page.words
    assert "<12>.jpg" in page.words
    assert "<13>.jpg" not in page.words
    assert "labelled lion, 70 pixels; 100% of the trials say cheetah (80% sure)" in page.words
    assert "label_suspects.csv" in page.words
    assert text.count("data:image/jpeg") >= 12


def test_labels_that_nobody_can_judge_are_not_called_right(small: RunFolder) -> None:
    suspected(small, 0, unknown=["lion"])
    words = Parts(write_report(small).read_text()).words
    assert "not all could be judged" in words
    assert "Labels of lion were not judged" in words
    suspected(small, 0, trials=[])
    assert "Fewer than two trials" in Parts(write_report(small).read_text()).words


def test_what_was_trained_again_is_told(small: RunFolder) -> None:
    spread = {"n": 2, "mean": 0.41, "std": 0.02, "min": 0.4, "max": 0.43}
    finalist = {"trial": 1, "architecture": "resnet", "searched": 0.466, **spread}
    (small.path / "finalists.json").write_text(json.dumps({"finalists": [finalist]}))
    without = {"technique": "mixup", **spread, "gain": {"mean": 0.031, "std": None}}
    ablation = {"champion": {"trial": 1, **spread}, "techniques": [without], "seeds": [0]}
    (small.path / "ablation.json").write_text(json.dumps(ablation))
    words = Parts(write_report(small).read_text()).words
    assert "0.466 0.410 0.020" in " ".join(words.split())
    assert "mixup 0.410 +0.031" in " ".join(words.split())
    assert "One seed each" in words


def test_a_row_of_panels_is_never_a_single_one(searched: RunFolder) -> None:
    """Matplotlib cannot lay out one panel with a bar beside it."""
    compared = comparison(searched.journal)
    assert compared is not None
    assert len(knobs.slice_plots(compared, "miou", [])) == 1
    for trial in compared.study.get_trials(deepcopy=False):
        trial.params.pop("architecture", None)
        trial.distributions.pop("architecture", None)
    assert len(knobs.slice_plots(compared, "miou", [])) == 1


def test_findings_of_the_data_are_shown(searched: RunFolder) -> None:
    finding = {
        "level": "warning",
        "kind": "duplicate",
        "words": "two are one",
        "files": ["a&b.jpg"],
    }
    searched.describe(findings=[finding])
    page = Parts(write_report(searched).read_text())
    assert "two are one" in page.words
    assert "a&b.jpg" in page.words


def test_a_search_without_a_value_still_has_a_page(run: RunFolder) -> None:
    add_trial(run, 0, 0.4, epochs=0, state="running")
    page = Parts(write_report(run).read_text())
    assert "no trial has a value yet" in page.words
    assert "has not ended" in page.words


def test_a_study_of_old_records_is_reported(searched: RunFolder) -> None:
    """Less is shown of a run whose journal, splits and summary are gone, and nothing fails."""
    for path in (searched.journal, searched.splits_file, searched.summary_file):
        path.unlink()
    page = Parts(write_report(searched).read_text())
    assert "Learning curves" in page.words
    assert "Speed and" not in page.words


def test_nothing_begun_is_nothing_to_report(run: RunFolder) -> None:
    with pytest.raises(RunError, match="nothing to report"):
        write_report(run)


def test_the_command_names_the_file(searched: RunFolder, tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / "page.html"
    results = ["--results", str(searched.output)]
    assert report.main(["animals", "--output", str(page), *results]) == 0
    assert str(page) in capsys.readouterr().out.replace("\n", "")
    assert page.is_file()
    assert report.main(["animal", *results]) == 2
    assert "Did you mean 'animals'?" in capsys.readouterr().err
    nowhere = str(tmp_path / "missing" / "page.html")
    assert report.main(["animals", "--output", nowhere, *results]) == 2
