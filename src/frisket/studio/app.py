"""The server: routes of the shelf, the page's files, and one shape of error."""

import pkgutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response

from frisket.studio import routes
from frisket.studio.guard import Credentials, Guard
from frisket.studio.state import Studio
from frisket.studio.workspace import UnknownId

STATIC = Path(__file__).parent / "static"
KINDS = {  # by us: a Windows registry may call JavaScript plain text
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".png": "image/png",
    ".wasm": "application/wasm",
    ".json": "application/json",
}
FOREVER = "public, max-age=31536000, immutable"  # names of assets hold their content's hash


def build_app(studio: Studio, credentials: Credentials) -> FastAPI:
    """The application, guarded; `studio` starts and ends with it."""

    @asynccontextmanager
    async def run_studio(_: FastAPI) -> AsyncIterator[None]:
        studio.jobs.open()
        yield
        studio.jobs.close()
        studio.events.close()
        await studio.serve.close()

    # No pages of documentation: they would load scripts from elsewhere.
    app = FastAPI(lifespan=run_studio, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.studio = studio
    for module in pkgutil.walk_packages(routes.__path__, f"{routes.__name__}."):
        if not module.ispkg:
            router: APIRouter = import_module(module.name).router
            app.include_router(router, prefix="/api")
    app.add_api_route("/", _send_index, methods=["GET"], include_in_schema=False)
    app.add_api_route("/assets/{name}", _send_asset, methods=["GET"], include_in_schema=False)
    app.add_middleware(Guard, credentials=credentials)
    app.add_exception_handler(UnknownId, _answer_unknown)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ValueError, _answer_wrong)
    app.add_exception_handler(OSError, _answer_wrong)
    return app


def _send_index() -> Response:
    index = STATIC / "index.html"
    if not index.is_file():
        raise HTTPException(503, "the page was not built: run `make studio` (needs Node)")
    return FileResponse(index, media_type=KINDS[".html"])


def _send_asset(name: str) -> Response:
    path = STATIC / "assets" / Path(name).name
    if not path.is_file():
        raise HTTPException(404, f"the page has no file {path.name!r}")
    kind = KINDS.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=kind, headers={"cache-control": FOREVER})


async def _answer_unknown(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 404)


async def _answer_wrong(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


async def _answer_http(_: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    detail = getattr(error, "detail", str(error))
    body = detail if isinstance(detail, dict) else {"error": str(detail)}
    return JSONResponse(body, status)


async def _answer_invalid(_: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    words = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults]
    return JSONResponse({"error": "; ".join(words)}, 422)
