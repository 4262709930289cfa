# weir in a container: `docker build -t weir .`, then
# `docker run --rm -p 127.0.0.1:8931:8931 -p 127.0.0.1:8932:8932 weir run --upstream URL --listen 0.0.0.0:8931 --diagnostics 0.0.0.0:8932`
ARG PYTHON_IMAGE=python:3.13.9-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
# for the compiled data path (docs/decisions/0013); stays behind in this stage
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev
RUN python -m venv /opt/weir
COPY constraints.txt pyproject.toml ./
# the dependencies are a layer of their own: they change more rarely than weir
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && /opt/weir/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt -r requirements.txt
COPY README.md hatch_build.py ./
COPY src src
RUN HATCH_BUILD_HOOKS_ENABLE=true PIP_CONSTRAINT=/build/constraints.txt \
    /opt/weir/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin weir
COPY --from=build /opt/weir /opt/weir
ENV PATH=/opt/weir/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8931 8932
# of the diagnostics port; with --stdio, or with diagnostics off, run with --no-healthcheck
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8932/healthz', timeout=2)"]
ENTRYPOINT ["weir"]
CMD ["--help"]
