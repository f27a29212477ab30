"""Who has no token is answered before the page's framework keeps anything of him."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import parse_qs

TOLD = b"wrong or missing token: open the address the daemon printed\n"
LONGEST_QUERY = 2000


class TokenGate:
    """ASGI middleware: the page itself is only for those who bring the token."""

    def __init__(self, app: Any, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] == "http" and scope["path"] in ("", "/") and not self._lets_in(scope):
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": TOLD})
            return
        await self._app(scope, receive, send)

    def _lets_in(self, scope: Any) -> bool:
        query = scope.get("query_string", b"")[:LONGEST_QUERY].decode("latin-1")
        given = parse_qs(query).get("token", [""])[0]
        return secrets.compare_digest(given.encode(), self._token)
