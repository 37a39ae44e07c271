"""A file as an answer."""

from pathlib import Path

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from gs_ssd.errors import UserError


class FileAnswer(FileResponse):
    """One that is gone by the time that it is sent, with a run that was thrown away, is answered
    as one that never was."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it.

        Raises:
            UserError: it is gone; nothing was sent.
        """
        try:
            await super().__call__(scope, receive, send)
        except RuntimeError as error:  # what starlette says of a file that it does not find
            if Path(self.path).exists():
                raise
            raise UserError(f"there is no {Path(self.path).name} any more") from error
