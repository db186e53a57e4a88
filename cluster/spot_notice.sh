#!/usr/bin/env bash
# EC2 announces two minutes ahead that it takes a spot machine away. This watches for that on a node
# and has Ray drain it: trials write a checkpoint and go on elsewhere.
set -euo pipefail
metadata=${RAYSEARCH_METADATA:-http://169.254.169.254/latest}
every=${RAYSEARCH_METADATA_SECONDS:-5}

ask() { curl --silent --fail --max-time 2 "$@"; }

announced() {
  local token
  token=$(ask -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token") &&
    ask -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/spot/instance-action"
}

until announced; do
  sleep "$every"
done
ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "spot machine is taken away" \
  --deadline-remaining-seconds 110
