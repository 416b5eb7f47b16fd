# syntax=docker/dockerfile:1
# agnews-exp with everything that it needs, for an unprivileged user; outputs and mlruns lie in /agnews.
#   docker build -t agnews-exp .
#   docker build -t agnews-exp:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS wheel
WORKDIR /src
RUN pip install --no-cache-dir "hatchling>=1.26"
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY agnews_exp agnews_exp
RUN python -m hatchling build -t wheel -d /wheels

FROM python:${PYTHON}-slim-bookworm AS installed
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=minilm,boost,nlp,lora,errors,explain,serve,onnx,postgres
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/agnews
ENV PATH=/opt/agnews/bin:$PATH
# The big and rarely changing layer first: torch alone, then the rest of the dependencies, then this package.
COPY constraints.txt /tmp/constraints.txt
RUN version="$(sed -n 's/^torch==//p' /tmp/constraints.txt)" \
    && pip install --index-url "${TORCH_INDEX}" --extra-index-url https://pypi.org/simple "torch==${version}"
COPY --from=wheel /wheels /wheels
# hadolint ignore=DL3013
RUN wheel="$(echo /wheels/*.whl)" && pip install --constraint /tmp/constraints.txt "${wheel}[${EXTRAS}]"

FROM python:${PYTHON}-slim-bookworm
LABEL org.opencontainers.image.title="agnews-exp" org.opencontainers.image.licenses="MIT"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home agnews \
    && install --directory --owner agnews /agnews
COPY --from=installed /opt/agnews /opt/agnews
ENV PATH=/opt/agnews/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AGNEWS_ROOT=/agnews \
    NUMBA_CACHE_DIR=/home/agnews/.cache/numba \
    MPLCONFIGDIR=/home/agnews/.cache/matplotlib
USER 10001
WORKDIR /agnews
VOLUME /agnews
EXPOSE 8000
# For `serve`: other commands end before the first probe, or are no servers, and nobody asks for their health.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["agnews"]
CMD ["--help"]
