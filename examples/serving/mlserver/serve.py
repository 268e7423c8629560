"""MLServer as `mlserver start .` runs it, with a limit on the body of HTTP requests, which it has none for.

    python serve.py

in this folder. The limit is `body_bytes` in `model-settings.json`; gRPC's own is in `settings.json`.
"""

import asyncio
import json
from pathlib import Path

from mlserver import MLServer
from mlserver.cli.serve import load_settings
from mlserver.utils import install_uvloop_event_loop

FOLDER = Path(__file__).resolve().parent


class BodyLimit:
    """ASGI: answers 413 to a body that is larger, and reads no more of it.

    Args:
        app: The application behind it.
        most: Bytes.
    """

    def __init__(self, app, most: int):
        self.app, self.most = app, most

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.most:
            await self._refuse(send)
            return
        # Read here, before anything parses it: a body that comes in chunks has no length in its header.
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":  # The client is gone.
                return
            chunks.append(message.get("body", b""))
            size, more = size + len(chunks[-1]), message.get("more_body", False)
            if size > self.most:
                await self._refuse(send)
                return
        whole = [{"type": "http.request", "body": b"".join(chunks), "more_body": False}]
        await self.app(scope, lambda: _next(whole, receive), send)

    async def _refuse(self, send):
        text = json.dumps({"error": f"The body is larger than {self.most} bytes."}).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": text})


async def _next(whole, receive):
    return whole.pop() if whole else await receive()


async def main() -> None:
    settings, models = await load_settings(str(FOLDER))
    server = MLServer(settings)
    # MLServer offers no place for middleware.
    limit = models[0].parameters.body_bytes
    server._rest_server._app.add_middleware(BodyLimit, most=limit)
    await server.start(models)


if __name__ == "__main__":
    install_uvloop_event_loop()
    asyncio.run(main())
