# One image, three processes; each takes its settings from the environment (see .env.example):
#
#   the API        docker run --env-file .env -p 8000:8000 trading-execution-engine
#   a worker       docker run --env-file .env trading-execution-engine python -m workers.main
#   a migration    docker run --env-file .env trading-execution-engine alembic upgrade head
#
# PostgreSQL and Redis are managed elsewhere. Any number of APIs and workers; migrate before starting a new version.
# The base must be a glibc one: several wheels exist for no other.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

RUN useradd --create-home --uid 10001 engine
WORKDIR /srv/engine

# Before the code, so that a change of code does not install everything again.
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock

COPY pyproject.toml alembic.ini ./
COPY app ./app
COPY migrations ./migrations
COPY workers ./workers
RUN pip install --no-deps --no-build-isolation --editable .

USER engine
EXPOSE 8000
CMD ["uvicorn", "app.main:app", "--host", "0.0.0.0", "--port", "8000"]
