"""The API's documentation at /docs, without a file from anywhere else."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import Response

from assay.errors import SettingsError
from assay.places import with_extra

DOCS = "/docs"
FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
PATHS = (DOCS, *(f"{DOCS}/{name}" for name in FILES))
POLICY = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


def add_docs(app: FastAPI) -> None:
    """Serve Swagger UI from its package; SettingsError where that is lacking."""
    try:
        folder = files("fastapi_swagger.resources")
    except ModuleNotFoundError as error:
        raise SettingsError(f"assay serve needs fastapi-swagger: {with_extra('serve')}") from error
    page = get_swagger_ui_html(
        openapi_url=str(app.openapi_url),
        title=f"{app.title}: documentation",
        swagger_js_url=f"{DOCS}/swagger-ui-bundle.js",
        swagger_css_url=f"{DOCS}/swagger-ui.css",
        swagger_favicon_url="data:,",
    )

    @app.get(DOCS, include_in_schema=False)
    async def docs() -> Response:
        return Response(page.body, media_type="text/html", headers={"Content-Security-Policy": POLICY})

    for name, kind in FILES.items():
        _add_file(app, f"{DOCS}/{name}", folder.joinpath(name).read_bytes(), kind)


def _add_file(app: FastAPI, path: str, data: bytes, kind: str) -> None:
    @app.get(path, include_in_schema=False)
    async def file() -> Response:
        return Response(data, media_type=kind, headers={"Cache-Control": "max-age=86400"})
