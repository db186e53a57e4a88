"""Who may use a cluster: whoever shows its token, see `ray get-auth-token`.

A cluster that runs code for anyone is joined on this machine only, with a warning. Ray that is
started here for one search has a token of its own, which nobody else is told: it never touches the
user's, nor any file.
"""

import os
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
from ray._private.authentication.authentication_constants import AUTHORIZATION_HEADER_NAME
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.core.generated.gcs_service_pb2 import CheckAliveRequest
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
from ray.exceptions import AuthenticationError

from raysearch.errors import ConfigError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
ANSWERS = (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
PATIENCE = 20.0  # Seconds for an answer; a port that nobody listens at is told at once.
NO_PROXY = [("grpc.enable_http_proxy", 0)]  # As Ray's own channels.
REPAIR = (
    "copy the head's ~/.ray/auth_token to the same place here (chmod 600), or name its file with "
    f"{TOKEN_PATH}; on the head itself `ray get-auth-token` prints it"
)


@contextmanager
def restored() -> Iterator[None]:
    """Put this process's authentication back as it was."""
    before = {name: os.environ.get(name) for name in (MODE, TOKEN)}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _read_again()


def use_private_token() -> None:
    """Let Ray that this process starts, and all processes below it, demand a new token."""
    os.environ.update({MODE: "token", TOKEN: secrets.token_hex(32)})
    _read_again()


def prepare_to_join(address: str) -> str:
    """Show a running cluster the token that it demands.

    Returns:
        A warning, of a cluster that demands none, or of a token that others could read until now;
        empty where all is well.

    Raises:
        ConfigError: no cluster answers; the token is missing, wrong or readable by others; or the
            cluster demands none, and it is on another machine.
    """
    answer = knock(address)
    if answer not in ANSWERS:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers there ({answer.name}). Start one with "
            "`ray up cluster.yaml`, or leave --address and RAY_ADDRESS out to use this machine"
        )
    if answer is grpc.StatusCode.OK:
        return admit_without_token(address)
    repaired = not os.environ.get(TOKEN) and make_private(token_file())
    token = own_token()
    if not token:
        raise ConfigError(f"--address {address}: the cluster demands its token; {REPAIR}")
    if knock(address, token) is not grpc.StatusCode.OK:
        raise ConfigError(
            f"--address {address}: the cluster does not accept the token of {_source()}; {REPAIR}"
        )
    os.environ[MODE] = "token"
    _read_again()
    return f"others could read {token_file()}; it is yours alone now (mode 0600)" * repaired


def admit_without_token(address: str) -> str:
    """Join a cluster that demands no token, where that is this machine's or asked for.

    Returns:
        A warning.

    Raises:
        ConfigError: it is another machine's, or RAY_AUTH_MODE demands a token.
    """
    asked = os.environ.get(MODE, "").lower()
    if asked == "token" or (asked != "disabled" and not here(address)):
        raise ConfigError(
            f"--address {address}: this cluster runs code for anyone who can reach it. Start its "
            f"nodes with {MODE}=token (see cluster.yaml)"
            + (f", or set {MODE}=disabled to join it as it is" if asked != "token" else "")
        )
    os.environ[MODE] = "disabled"
    _read_again()
    return f"the Ray cluster at {address} runs code for anyone who can reach it: no token is set"


def knock(address: str, token: str = "") -> grpc.StatusCode:
    """Return what a cluster's control plane answers to whoever shows this token, or none."""
    header = ((AUTHORIZATION_HEADER_NAME, f"Bearer {token}"),) if token else ()
    with _channel(address) as channel:
        try:
            NodeInfoGcsServiceStub(channel).CheckAlive(
                CheckAliveRequest(), timeout=PATIENCE, metadata=header
            )
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def own_token() -> str:
    """Return the token that this user would show; empty where there is none.

    It is taken from RAY_AUTH_TOKEN, the file in RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token.

    Raises:
        ConfigError: the file cannot be read.
    """
    AuthenticationTokenLoader.instance().reset_cache()
    try:
        return str(AuthenticationTokenLoader.instance().get_raw_token(ignore_auth_mode=True))
    except AuthenticationError as error:
        raise ConfigError(f"{_source()}: holds no token that Ray can read ({error})") from error


def token_file() -> Path:
    """Return where this user's token is kept."""
    named = os.environ.get(TOKEN_PATH)
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def make_private(path: Path) -> bool:
    """Take a token's file away from all but its owner; return whether that was needed.

    Raises:
        ConfigError: it is another user's.
    """
    if not path.is_file() or not stat.S_IMODE(path.stat().st_mode) & 0o077:
        return False
    try:
        path.chmod(0o600)
    except OSError as error:
        raise ConfigError(
            f"{path}: others can read this token ({error.strerror}); have its owner run "
            f"chmod 600, and change the token"
        ) from error
    return True


def here(address: str) -> bool:
    """Whether an address, HOST:PORT, is one of this machine's own."""
    host = address.rpartition(":")[0].strip("[]")
    own = {net.address for nets in psutil.net_if_addrs().values() for net in nets}
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(one in own or one.startswith("127.") or one == "::1" for one in found)


def _source() -> str:
    return TOKEN if os.environ.get(TOKEN) else str(token_file())


def _channel(address: str) -> grpc.Channel:
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        from ray._common.tls_utils import load_certs_from_env

        certificate, key, authority = load_certs_from_env()
        known = grpc.ssl_channel_credentials(authority, key, certificate)
        return grpc.secure_channel(address, known, NO_PROXY)
    return grpc.insecure_channel(address, NO_PROXY)


def _read_again() -> None:
    """Let this process's Ray, which remembers them, read the variables anew."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
