# One file, three images: EXTRAS selects the purpose (see docker-compose.yml).
FROM python:3.12.12-slim-bookworm

ARG EXTRAS=postgres,flower,s3,dashboard

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --create-home --uid 1000 kerasweep \
 && install --directory --owner kerasweep /artifacts /job

# Dependencies are installed before the source is copied, so that a source change rebuilds in seconds.
WORKDIR /opt/kerasweep
COPY pyproject.toml constraints.txt ./
RUN python -c "import os, tomllib; \
    project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = project['optional-dependencies']; \
    wanted = project['dependencies'] + [line for name in os.environ['EXTRAS'].split(',') for line in extras[name]]; \
    print(*wanted, sep='\n')" > /tmp/wanted.txt \
 && pip install --constraint constraints.txt --requirement /tmp/wanted.txt \
 && rm /tmp/wanted.txt

COPY README.md LICENSE ./
COPY kerasweep kerasweep
COPY jobs jobs
COPY scheduler scheduler
COPY workers workers
RUN pip install --constraint constraints.txt --no-deps .

USER kerasweep
WORKDIR /job
ENTRYPOINT ["kerasweep"]
CMD ["--help"]
