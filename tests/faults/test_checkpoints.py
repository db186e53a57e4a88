"""Checkpoints through kills and damage: what is loaded is always whole."""

import json
import logging
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raysearch.errors import RunError
from raysearch.training import checkpoint
from raysearch.training.checkpoint import BEST, META, STATE, WEIGHTS
from raysearch.training.trained import load_trained

Told = Callable[[int, str], None]

# Forks children that save without end, each after the last one's newest checkpoint, and kills them
# at random moments. Prints what each kill left: the last epoch that `save` had returned from, the
# one that loads, whether its parts belong together, and the folders that are broken off.
KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from raysearch.training.checkpoint import load, save

torch.set_num_threads(1)
folder, random = Path(sys.argv[1]), random.Random(int(sys.argv[3]))

def parts(epoch):
    return {"weight": torch.full((300, 1000), float(epoch))}, {"moment": torch.full((1000,), epoch)}

def save_without_end(begin, told):
    for epoch in range(begin, begin + 100000):
        weights, state = parts(epoch)
        save(folder, epoch, weights, state, {"epoch": epoch})
        os.write(told, b"%d\\n" % epoch)

def whole(found):
    weights, state = parts(found.epoch)
    same = torch.equal(found.weights["weight"], weights["weight"])
    return same and torch.equal(found.state["moment"], state["moment"]) \\
        and found.metrics["epoch"] == found.epoch

begin = 1
for _ in range(int(sys.argv[2])):
    heard, told = os.pipe()
    child = os.fork()
    if not child:
        save_without_end(begin, told)
    os.close(told)
    said = os.read(heard, 1)
    time.sleep(random.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    said += os.fdopen(heard, "rb").read()
    found = load(folder)
    print(json.dumps({
        "returned": int(said.split()[-1]),
        "loaded": found.epoch if found else None,
        "whole": bool(found and whole(found)),
        "broken_off": len(list(folder.glob(".epoch-*"))),
    }))
    begin = found.epoch + 1 if found else 1
"""


@pytest.mark.fault("killed in a checkpoint")
def test_a_kill_while_saving_leaves_the_checkpoint_before(
    tmp_path: Path, repetitions: Told
) -> None:
    times, seed = 50, 5
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "last"), str(times), str(seed)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=300,
    )
    assert "damaged" not in done.stderr, done.stderr
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kills) == times
    assert all(kill["whole"] for kill in kills)
    # A kill between the rename and the return leaves one more than was told.
    assert all(0 <= kill["loaded"] - kill["returned"] <= 1 for kill in kills), kills
    inside = sum(kill["broken_off"] == 1 for kill in kills)
    assert inside >= times // 5, "the kills missed what they are about"
    repetitions(times, f"{inside} in the middle of writing")


def written(folder: Path, epochs: int = 2) -> Path:
    """Save checkpoints, and return the newest."""
    for epoch in range(1, epochs + 1):
        weights = {"weight": torch.full((64, 64), float(epoch))}
        state = {"moment": torch.full((64,), float(epoch))}
        metrics = {"epoch": epoch, "miou": 0.25, "finished": "", "iou/cat": None, "best": 0.5}
        newest = checkpoint.save(folder, epoch, weights, state, metrics, {"spec": {"width": 4}})
    return newest


def truncated(data: bytes, random: random.Random) -> bytes:
    return data[: random.randrange(len(data))]


def flipped(data: bytes, random: random.Random) -> bytes:
    place, bit = random.randrange(len(data)), random.randrange(8)
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def emptied(data: bytes, random: random.Random) -> bytes:
    return b""


@pytest.mark.fault("checkpoint damaged")
@pytest.mark.parametrize("damage", [truncated, flipped, emptied])
@pytest.mark.parametrize("name", [WEIGHTS, STATE, META])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    repetitions: Told,
    name: str,
    damage: Callable[[bytes, random.Random], bytes],
) -> None:
    newest = written(tmp_path)
    data, times, seeded = (newest / name).read_bytes(), 20, random.Random(name)
    for _ in range(times):
        (newest / name).write_bytes(damage(data, seeded))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = checkpoint.load(tmp_path)
        assert found is not None
        assert (found.epoch, found.weights["weight"][0, 0]) == (1, 1.0)
        assert f"{newest} is damaged" in caplog.text
    repetitions(times, f"{name} {damage.__name__}")


@pytest.mark.fault("checkpoint damaged")
@pytest.mark.parametrize("bit", [0, 4])
def test_no_byte_of_what_a_checkpoint_says_can_change_unnoticed(
    tmp_path: Path, repetitions: Told, bit: int
) -> None:
    """Metrics decide which epoch is the best; a digit of them can flip to another digit."""
    newest = written(tmp_path)
    data = (newest / META).read_bytes()
    unnoticed = []
    for place, byte in enumerate(data):
        changed = data[:place] + bytes([byte ^ 1 << bit]) + data[place + 1 :]
        (newest / META).write_bytes(changed)
        found = checkpoint.load(tmp_path)
        if found is None or found.epoch != 1:
            unnoticed.append(changed[max(0, place - 9) : place + 9])
    assert unnoticed == []
    repetitions(len(data), f"bit {bit} of every byte of meta.json")


@pytest.mark.fault("checkpoint damaged")
@pytest.mark.parametrize("name", [WEIGHTS, STATE, META])
def test_a_checkpoint_that_lost_a_file_is_passed_over(
    tmp_path: Path, repetitions: Told, name: str
) -> None:
    (written(tmp_path) / name).unlink()
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert found.epoch == 1
    repetitions(1, f"{name} lost")


@pytest.mark.fault("checkpoint damaged")
def test_a_damaged_best_epoch_is_never_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, repetitions: Told
) -> None:
    """A trial keeps one best epoch; there is none before it to fall back on."""
    best = tmp_path / BEST
    weights = {"weight": torch.ones(64, 64)}
    newest = checkpoint.save(best, 3, weights, model={"spec": {}}, keep=1)
    data, seeded = (newest / WEIGHTS).read_bytes(), random.Random(3)
    for _ in range(20):
        (newest / WEIGHTS).write_bytes(flipped(data, seeded))
        with pytest.raises(RunError, match="no readable checkpoint"):
            load_trained(tmp_path)
    assert "the checksum of weights.safetensors does not match" in caplog.text
    repetitions(20, "best epoch flipped")
