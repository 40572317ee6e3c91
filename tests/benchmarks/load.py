"""Load: signed requests made beforehand, sent over a few kept-alive connections as fast as they are answered."""

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

ACCEPTED: Final = b"HTTP/1.1 202 "


@dataclass(frozen=True)
class Pace:
    """How fast a load was answered: requests a second, and milliseconds that half and 99 % of them took at most."""

    rate: float
    p50: float
    p99: float

    @classmethod
    def median(cls, rounds: Sequence[Self]) -> Self:
        """The middle of several rounds, figure by figure."""
        return cls(
            statistics.median(each.rate for each in rounds),
            statistics.median(each.p50 for each in rounds),
            statistics.median(each.p99 for each in rounds),
        )

    def __str__(self) -> str:
        """As the table shows it."""
        return f"{self.rate:6.0f}/s   p50 {self.p50:5.2f} ms   p99 {self.p99:5.2f} ms"


async def send(port: int, requests: Sequence[bytes], *, connections: int) -> Pace:
    """Send every request, each connection one at a time; all have to be answered 202."""
    waiting = iter(requests)
    taken: list[float] = []

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in waiting:
            began = time.perf_counter()
            writer.write(request)
            await _read_answer(reader)
            taken.append(time.perf_counter() - began)
        writer.close()
        await writer.wait_closed()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one_connection())
    seconds = time.perf_counter() - began
    hundredths = statistics.quantiles(taken, n=100)
    return Pace(len(taken) / seconds, hundredths[49] * 1000, hundredths[98] * 1000)


async def _read_answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    assert head.startswith(ACCEPTED), (head + body).decode()


def written(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "host: engine", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
