#!/usr/bin/env bash
# Stays beside Ray on a GPU machine of EC2, and does two things:
# - EC2 announces two minutes ahead that it takes a spot machine away. Ray then drains the node:
#   trials write a checkpoint and go on elsewhere.
# - Only the head ends machines that idle. Where the head is lost, or Ray on this machine, no raylet
#   lives here for long: the machine shuts itself down, which EC2 is told to take as its end.
set -euo pipefail
metadata=${RAYSEARCH_METADATA:-http://169.254.169.254/latest}
every=${RAYSEARCH_WATCH_SECONDS:-5}
patience=${RAYSEARCH_WATCH_PATIENCE_SECONDS:-1200}

ask() { curl --silent --fail --max-time 2 "$@"; }

announced() {
  local token
  token=$(ask -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token") &&
    ask -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/spot/instance-action"
}

drain() {
  ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION \
    --reason-message "spot machine is taken away" --deadline-remaining-seconds 110
}

drained=
lived=$SECONDS
while true; do
  if [ -z "$drained" ] && announced && drain; then
    drained=yes
  fi
  if pgrep -x raylet > /dev/null; then
    lived=$SECONDS
  elif ((SECONDS - lived >= patience)); then
    echo "no raylet for $patience s: shutting down"
    sudo shutdown -h now && exit
  fi
  sleep "$every"
done
