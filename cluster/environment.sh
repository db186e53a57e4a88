# What every process of a cluster has in its environment, said once: start commands and shells of
# the nodes source this file, and in containers bash reads it as BASH_ENV.

export PATH="$HOME/raysearch/.venv/bin:$PATH"

# Every node and every client has to show the token of ~/.ray/auth_token.
export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0

# Workers of a node read these from the node, not from the driver (raysearch/cluster/joining.py).
export RAY_TRAIN_HEALTH_CHECK_INTERVAL_S=0.5
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0

# How long a node that is told to end waits for its workers, below the 30 s that Kubernetes gives.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=20

# How long `ray job stop` waits for a driver, which lets its trials write a checkpoint and then
# copies to storage; Ray would kill it after 3 s.
export RAY_JOB_STOP_WAIT_TIME_S=60

# Autoscaler: launch what was not refused lately, so on-demand machines stand in for spot ones.
export RAY_AUTOSCALER_UTILIZATION_SCORER=raysearch.cluster.fallback.score

# Only drivers write records, and drivers run on the head, where the tracking server listens.
export MLFLOW_TRACKING_URI="${MLFLOW_TRACKING_URI:-http://127.0.0.1:5000}"
export MLFLOW_DISABLE_TELEMETRY=true

# gloo and NCCL would choose by name, perhaps a container bridge: other nodes reach the interface
# of the default route.
if [ -z "${GLOO_SOCKET_IFNAME:-}" ]; then
  GLOO_SOCKET_IFNAME=$(awk '$2 == "00000000" {print $1; exit}' /proc/net/route)
fi
if [ -n "$GLOO_SOCKET_IFNAME" ]; then
  export GLOO_SOCKET_IFNAME NCCL_SOCKET_IFNAME="${NCCL_SOCKET_IFNAME:-$GLOO_SOCKET_IFNAME}"
fi

# Ray keeps a socket and more for every worker of every node.
ulimit -n 65536 2>/dev/null || true
