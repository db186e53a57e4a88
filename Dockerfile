# raysearch for KubeRay and other container clusters: `docker build --tag raysearch .`
#
# The wheels of requirements.lock bring CUDA along, so a node needs NVIDIA's driver and container
# toolkit, and this image nothing of CUDA.
FROM python:3.11-slim-bookworm

# Kubernetes asks Ray's health by wget; make installs the environment as everywhere else.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends make wget \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --uid 1000 --create-home --home-dir /app raysearch
USER 1000:1000
WORKDIR /app/raysearch

# First what the environment depends on, so that a change of code installs nothing again.
COPY --chown=1000:1000 Makefile pyproject.toml requirements.lock README.md LICENSE ./
COPY --chown=1000:1000 search_spaces search_spaces
COPY --chown=1000:1000 raysearch/__init__.py raysearch/__init__.py
RUN PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 make --no-print-directory env

COPY --chown=1000:1000 raysearch raysearch
COPY --chown=1000:1000 cluster cluster

# bash reads this before any command, KubeRay's `ray start` included.
ENV BASH_ENV=/app/raysearch/cluster/environment.sh
ENV PATH=/app/raysearch/.venv/bin:$PATH
CMD ["bash"]
