# The image of a consumer. Build it with `docker build -t penstock .`, and mount the configuration at
# /etc/penstock/penstock.toml. It finds AWS credentials like any AWS SDK. Set the stop time-out above drain.budget_s.
# It has no torch: install the packages of your model in an image FROM this one (docs/dependencies.md).

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /tools && python -m venv /venv
WORKDIR /src
COPY requirements-build.lock requirements.lock ./
RUN /tools/bin/pip install --no-deps -r requirements-build.lock
RUN /venv/bin/pip install --no-deps -r requirements.lock
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY consumer consumer
COPY pipeline pipeline
COPY deploy deploy
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . && /venv/bin/pip install --no-deps /wheel/*.whl

FROM python:3.11-slim
RUN useradd --system --create-home --uid 10001 penstock
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PENSTOCK_HEALTH__HOST=0.0.0.0 PENSTOCK_HEALTH__PORT=8080
# The only folder that a task writes to; a volume, so that the root may be read-only and /tmp keeps its mode.
VOLUME /tmp
USER penstock
WORKDIR /home/penstock
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["penstock", "run", "--config", "/etc/penstock/penstock.toml"]
