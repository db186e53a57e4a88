#!/usr/bin/env bash
# Makes a node ready, once or again: the environment of requirements.lock, and the token unreadable
# for others.
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)

chmod 600 ~/.ray/auth_token

if ! command -v make > /dev/null || ! python3 -c 'import ensurepip, venv' 2> /dev/null; then
  sudo apt-get -o DPkg::Lock::Timeout=300 update -qq
  sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq \
    make python3-venv
fi
make --no-print-directory -C "$project" env

# For the shells of `ray exec` and `ray attach`.
line=". $project/cluster/environment.sh"
grep -qxF "$line" ~/.bashrc 2> /dev/null || echo "$line" >> ~/.bashrc
