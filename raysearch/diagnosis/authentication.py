"""Whether a cluster refuses those who do not show its token."""

import os
import stat
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc

from raysearch.cluster.authentication import MODE, TOKEN, knock, token_file
from raysearch.diagnosis.result import HERE, Result, Verdict

WRONG = "0" * 64
ON = (
    f"set {MODE}=token in every node's `ray start`, as cluster/environment.sh does, and restart Ray"
)
MAKE = (
    "`(umask 077; ray get-auth-token --generate > /dev/null)` makes the token; cluster files copy "
    "it to the nodes"
)
SECONDS = 10.0
Knock = Callable[[str, str], grpc.StatusCode]


def check_refusal(address: str, knock: Knock = knock) -> list[Result]:
    """Ask a cluster's control plane with no token, and with a wrong one: both must be refused."""
    return [
        _judge(address, "no token", knock(address, "")),
        _judge(address, "a wrong token", knock(address, WRONG)),
    ]


def _judge(address: str, shown: str, answer: grpc.StatusCode) -> Result:
    if answer is grpc.StatusCode.UNAUTHENTICATED:
        return Result("authentication", address, f"refuses a client with {shown}")
    if answer is grpc.StatusCode.OK:
        return Result("authentication", address, f"lets in a client with {shown}", "failed", ON)
    text = f"a client with {shown} gets no answer ({answer.name})"
    repair = "see to the head with `ray status`; its port is 6379 where nothing else was said"
    return Result("authentication", address, text, "failed", repair)


def check_dashboard(address: str) -> list[Result]:
    """Ask the dashboard, which starts jobs for whoever it lets in, without the token.

    Args:
        address: HOST:PORT; empty where there is none.
    """
    if not address:
        return []
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://{address}/api/jobs/", timeout=SECONDS):
            return [Result("dashboard", address, "lets in a client with no token", "failed", ON)]
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return [_judge_place(address)]
        return [Result("dashboard", address, f"answers {error.code}", "warning", ON)]
    except OSError:
        return [Result("dashboard", address, "is not reached from here")]


def _judge_place(address: str) -> Result:
    host = address.rpartition(":")[0].strip("[]")
    if host in ("localhost", "::1") or host.startswith("127."):
        return Result("dashboard", address, "refuses a client with no token")
    repair = "start the head with --dashboard-host=127.0.0.1 and reach it with `ray dashboard`"
    return Result("dashboard", address, "is open to other machines", "warning", repair)


def check_token(needed: bool) -> list[Result]:
    """Look at this user's token and RAY_AUTH_MODE.

    Args:
        needed: whether a cluster is to be started or joined with them.
    """
    if os.environ.get(TOKEN):
        token = Result("token", HERE, f"{TOKEN} is set")
    else:
        token = judge_token_file(token_file(), needed)
    return [token, judge_mode(os.environ.get(MODE), needed)]


def judge_token_file(path: Path, needed: bool) -> Result:
    """Judge the file of a token: there where it is needed, and nobody else's to read."""
    if not path.is_file():
        if needed:
            return Result("token", HERE, f"{path}: missing", "failed", MAKE)
        return Result("token", HERE, "none, which only a cluster needs")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        text = f"{path}: mode {mode:04o}, others can read it"
        verdict: Verdict = "failed" if needed else "warning"
        return Result("token", HERE, text, verdict, f"chmod 600 {path}; and change the token")
    return Result("token", HERE, f"{path}: mode {mode:04o}")


def judge_mode(mode: str | None, needed: bool) -> Result:
    """Judge RAY_AUTH_MODE; left out, Ray shows a token that it finds, and demands none."""
    text = f"{MODE}={mode}" if mode else f"{MODE} is not set"
    if not needed or mode == "token":
        return Result("token", HERE, text)
    verdict: Verdict = "warning" if not mode else "failed"
    return Result("token", HERE, text, verdict, f"export {MODE}=token")
