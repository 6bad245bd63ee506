# One image for every process; docker-compose.yml says which command each container runs.
#
# torch is the largest layer. To build with wheels for the CPU alone, give pip their index:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=<index with CPU wheels> .

FROM python:3.11-slim-bookworm AS environment
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/reclaim
WORKDIR /source
# the pins first, so that a change of our code does not fetch torch again
COPY constraints.txt pyproject.toml ./
RUN mkdir governance modelops web worker \
    && touch governance/__init__.py modelops/__init__.py web/__init__.py worker/__init__.py \
    && /opt/reclaim/bin/pip install -c constraints.txt . \
    && /opt/reclaim/bin/pip uninstall --yes reclaim
COPY governance ./governance
COPY modelops ./modelops
COPY web ./web
COPY worker ./worker
RUN /opt/reclaim/bin/pip install --no-deps .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/reclaim --create-home reclaim \
    && install -d -o reclaim -g reclaim -m 0711 /var/lib/reclaim
COPY --from=environment /opt/reclaim /opt/reclaim
ENV PATH=/opt/reclaim/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=web.settings \
    RECLAIM_HOME=/var/lib/reclaim
USER reclaim
WORKDIR /var/lib/reclaim
VOLUME /var/lib/reclaim
EXPOSE 8000
CMD ["reclaim", "--help"]
