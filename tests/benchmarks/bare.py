"""The yardstick: the least a FastAPI route can do that verifies a signature and keeps what it was sent.

uvicorn tests.benchmarks.bare:app
"""

import base64
import hashlib
import hmac
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
from fastapi import FastAPI, HTTPException, Request

TABLE: Final = (
    "CREATE TABLE bare_events (id text PRIMARY KEY, body jsonb NOT NULL, at timestamptz DEFAULT now())"
)
_INSERT: Final = "INSERT INTO bare_events (id, body) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_POOL_SIZE: Final = 10


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open a pool as large as ours."""
    url = os.environ["ENGINE_DATABASE_URL"].replace("+asyncpg", "")
    async with asyncpg.create_pool(url, min_size=_POOL_SIZE, max_size=_POOL_SIZE) as pool:
        app.state.pool = pool
        app.state.key = base64.b64decode(os.environ["ENGINE_WEBHOOK_SECRETS"].removeprefix("whsec_"))
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/webhooks/signals", status_code=202)
async def receive(request: Request) -> dict[str, Any]:
    """Verify, insert, answer."""
    body = await request.body()
    id_, sent_at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    digest = hmac.digest(request.app.state.key, f"{id_}.{sent_at}.".encode() + body, hashlib.sha256)
    expected = b"v1," + base64.b64encode(digest)
    if not hmac.compare_digest(expected, request.headers["webhook-signature"].encode()):
        raise HTTPException(401)
    if abs(time.time() - int(sent_at)) > 300:
        raise HTTPException(401)
    await request.app.state.pool.execute(_INSERT, id_, body.decode())
    return {"event_id": id_, "signal_id": None, "status": "accepted"}
