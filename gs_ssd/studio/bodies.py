"""Bodies of requests, read as all JSON of others is."""

import json
from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from gs_ssd import json_text


class _Request(Request):
    async def json(self) -> Any:
        """The body's value; what FastAPI takes for its mistake is answered as no JSON."""
        body = await self.body()
        try:
            return json_text.parse(body)
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error


class JsonRoute(APIRoute):
    """A route whose body `json_text` reads."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """FastAPI's own, on such a request."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await answer(_Request(request.scope, request.receive))

        return handle
