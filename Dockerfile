# A consumer as a container runs it: docker build -t penstock . ; mount the configuration at /etc/penstock/penstock.toml.
# Give it AWS credentials the way every AWS SDK finds them, and a stop time-out above [drain] budget_s.

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# The build of torch for machines without a GPU is a tenth of the default one: --build-arg TORCH_INDEX=<its index>.
ARG TORCH_INDEX=
RUN python -m venv /venv
WORKDIR /src
COPY requirements-torch.lock requirements.lock ./
RUN /venv/bin/pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r requirements-torch.lock
RUN /venv/bin/pip install --no-deps -r requirements.lock
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY consumer consumer
COPY pipeline pipeline
COPY examples examples
RUN /venv/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --system --create-home --uid 10001 penstock
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PENSTOCK_HEALTH__HOST=0.0.0.0 PENSTOCK_HEALTH__PORT=8080
USER penstock
WORKDIR /home/penstock
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["penstock", "run", "--config", "/etc/penstock/penstock.toml"]
