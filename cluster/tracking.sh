#!/usr/bin/env bash
# MLflow on this node's loopback: `tracking.sh start` (nothing happens where it runs already),
# `tracking.sh stop`, or `tracking.sh serve` to stay with it. Its records lie in ~/tracking.
set -euo pipefail
folder=${RAYSEARCH_TRACKING:-$HOME/tracking}
port=${RAYSEARCH_TRACKING_PORT:-5000}
mkdir -p -m 700 "$folder"

serve() {
  export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false  # Its workers would cost memory for nothing.
  exec mlflow server --host 127.0.0.1 --port "$port" --workers 1 \
    --backend-store-uri "sqlite:///$folder/mlflow.db" --artifacts-destination "$folder/artifacts"
}

case ${1:-} in
  serve)
    echo $$ > "$folder/server.pid"
    serve
    ;;
  start)
    # The lock is the server's for as long as it lives: a second one ends at once.
    setsid --fork flock --nonblock "$folder/server.lock" "$0" serve \
      < /dev/null >> "$folder/server.log" 2>&1
    ;;
  stop)
    if [ -f "$folder/server.pid" ]; then
      kill "$(cat "$folder/server.pid")" 2> /dev/null || true
      rm "$folder/server.pid"
    fi
    ;;
  *)
    echo "usage: $0 start|stop|serve" >&2
    exit 2
    ;;
esac
