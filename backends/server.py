"""A small model server: one model, one process, the Open Inference Protocol v2 over REST.

    python -m backends.server digits --port 9001

`/metrics` is Prometheus text. SIGTERM stops listening, answers what is in flight, and exits with 0.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import click
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from backends import open_inference
from backends.open_inference import RequestError
from backends.served_model import FOLDER, NAMES, InputError, NotTrainedError, ServedModel, load

#: The largest picture that is worth sending, in base64 and JSON.
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
DRAIN_S: Final = 30.0
_THREAD_LIMITS: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class ModelServer:
    """The HTTP face of one model."""

    def __init__(self, name: str, model: ServedModel, *, delay_s: float = 0) -> None:
        self._name, self._model, self._delay_s = name, model, delay_s
        self._draining = False
        # one at a time: a second prediction would only slow down the first
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "model_requests", "Inference requests by HTTP status.", ["model", "status"], registry=self._registry
        )
        self._seconds = Histogram("model_request_seconds", "Time to answer.", ["model"], registry=self._registry)
        self._in_flight = Gauge("model_in_flight", "Requests being answered.", ["model"], registry=self._registry)

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors])
        app.router.add_get("/v2", self._server_metadata)
        app.router.add_get("/v2/health/live", self._live)
        app.router.add_get("/v2/health/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            app.router.add_get(prefix, self._model_metadata)
            app.router.add_get(f"{prefix}/ready", self._model_ready)
            app.router.add_post(f"{prefix}/infer", self._infer)
        app.on_shutdown.append(self._drain)
        app.on_cleanup.append(self._stop)
        return app

    async def _server_metadata(self, _: web.Request) -> web.Response:
        return web.json_response(open_inference.SERVER_METADATA)

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, _: web.Request) -> web.Response:
        return web.json_response({"ready": not self._draining}, status=503 if self._draining else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def _model_metadata(self, request: web.Request) -> web.Response:
        self._check_known(request.match_info)
        return web.json_response(open_inference.model_metadata(self._name, self._model.input_name, self._model.labels))

    async def _model_ready(self, request: web.Request) -> web.Response:
        self._check_known(request.match_info)
        return web.json_response(
            {"name": self._name, "ready": not self._draining}, status=503 if self._draining else 200
        )

    async def _infer(self, request: web.Request) -> web.Response:
        self._check_known(request.match_info)
        started, status = time.monotonic(), "500"
        self._in_flight.labels(self._name).inc()
        try:
            response = await self._predict(request)
            status = "200"
            return response
        except (RequestError, InputError):
            status = "400"
            raise
        except web.HTTPException as error:
            status = str(error.status)
            raise
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        finally:
            self._in_flight.labels(self._name).dec()
            self._requests.labels(self._name, status).inc()
            self._seconds.labels(self._name).observe(time.monotonic() - started)

    async def _predict(self, request: web.Request) -> web.Response:
        if "Inference-Header-Content-Length" in request.headers:
            raise RequestError("binary tensors are not served here: send JSON")
        asked = open_inference.read_request(await request.read(), self._model.input_name)
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(self._worker, self._model.scores, asked.items)
        return web.json_response(open_inference.infer_response(self._name, asked, rows))

    def _check_known(self, named: Mapping[str, str]) -> None:
        if named["model"] != self._name:
            raise web.HTTPNotFound(reason="there is no such model here")
        if named.get("version", open_inference.VERSION) != open_inference.VERSION:
            raise web.HTTPNotFound(reason=f"the only version of this model is {open_inference.VERSION}")

    async def _drain(self, _: web.Application) -> None:
        self._draining = True

    async def _stop(self, _: web.Application) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as the protocol has it: ``{"error": "..."}``."""
    try:
        return await handler(request)
    except (RequestError, InputError) as error:
        return web.json_response({"error": str(error)}, status=400)
    except web.HTTPException as error:
        headers = {"allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return web.json_response({"error": error.reason}, status=error.status, headers=headers)
    except Exception:
        logging.getLogger(__name__).exception("a request failed")
        return web.json_response({"error": "internal error"}, status=500)


@click.command()
@click.argument("model", type=click.Choice(NAMES))
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="0 for any free one.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--delay-ms", type=click.FloatRange(0, 600_000), default=0, help="Wait before each prediction.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, help="The models' files.")
def main(*, model: str, port: int, host: str, delay_ms: float, folder: Path) -> None:
    """Serve MODEL over the Open Inference Protocol v2.

    Example: python -m backends.server language --port 9002
    """
    for variable in _THREAD_LIMITS:
        os.environ[variable] = "1"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        served = load(model, folder)
    except NotTrainedError as error:
        raise click.ClickException(str(error)) from error
    app = ModelServer(model, served, delay_s=delay_ms / 1000).application()
    try:
        web.run_app(app, host=host, port=port, access_log=None, print=None, shutdown_timeout=DRAIN_S)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from error


if __name__ == "__main__":
    main()
