"""The page that lists the routes and tries them, with nothing from other hosts."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

PAGE, ASSETS = "/docs", "/docs/assets"
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)


def add_docs(app: FastAPI) -> None:
    """Serve the page and its parts, which come with ``fastapi-swagger``."""
    page = get_swagger_ui_html(
        openapi_url=str(app.openapi_url),
        title=f"{app.title} API",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon-32x32.png",
        swagger_ui_parameters={"persistAuthorization": False, "displayRequestDuration": True},
    )

    @app.get(PAGE, include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(bytes(page.body), headers={"Content-Security-Policy": POLICY})

    app.mount(ASSETS, StaticFiles(packages=[("fastapi_swagger", "resources")]), name="docs")
