"""Bounds: no answer of a venue is read without an end, whatever it sends."""

from typing import Final

import aiohttp

MAX_SIZE: Final = 32 * 1024 * 1024
"""Bytes of an answer, unpacked; the longest lists of markets are about half of it."""


class BoundedResponse(aiohttp.ClientResponse):
    """An answer whose reading stops at the bound."""

    async def read(self) -> bytes:
        """The whole body, unpacked. Raises ClientPayloadError for one that is too large, and hangs up on it."""
        if self._body is None:
            body = bytearray()
            async for chunk in self.content.iter_any():
                body += chunk
                if len(body) > MAX_SIZE:
                    self.close()
                    raise aiohttp.ClientPayloadError("the answer is larger than any answer is")
            self._body = bytes(body)
        return await super().read()
