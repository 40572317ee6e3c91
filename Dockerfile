# One image, three processes; each takes its settings from the environment (see .env.example):
#
#   the API        docker run --read-only --env-file .env -p 8000:8000 trading-execution-engine
#   a worker       docker run --read-only --env-file .env --stop-timeout 150 trading-execution-engine python -m workers.main
#   a migration    docker run --read-only --env-file .env trading-execution-engine alembic upgrade head
#
# PostgreSQL and Redis are managed elsewhere. Any number of APIs and workers; migrate before starting a new version.
# The base must be a glibc one: several wheels exist for no other. What is done is in image.sh, which the tests run.
FROM python:3.13-slim AS build
WORKDIR /build
COPY image.sh requirements.image.lock ./
RUN sh image.sh dependencies /srv/engine
COPY pyproject.toml alembic.ini ./
COPY app ./app
COPY migrations ./migrations
COPY workers ./workers
RUN sh image.sh engine /srv/engine

FROM python:3.13-slim
RUN useradd --no-create-home --uid 10001 engine
COPY --from=build /srv/engine /srv/engine
WORKDIR /srv/engine
ENV PATH="/srv/engine/venv/bin:$PATH" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER engine
EXPOSE 8000
CMD ["uvicorn", "app.main:app", "--host", "0.0.0.0", "--port", "8000", "--timeout-graceful-shutdown", "10"]
