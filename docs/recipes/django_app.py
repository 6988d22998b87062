"""Comics in a Django project: async views, and the routes beside Django's.

    pip install 'llamagen-async[web]' django
    uvicorn django_app:app

Django knows no start and end of the server, so the application around it has them. In a project of
yours, what stands between the lines is your settings.py, views.py and urls.py; the rest is asgi.py.
"""

import os
import secrets

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from llamagen_async.web import create_app


def authorize(request: Request) -> bool:
    given = request.headers.get("authorization", "").encode()
    return secrets.compare_digest(given, f"Bearer {os.environ['SHOP_TOKEN']}".encode())


comics = create_app(authorize=authorize)

# -----------------------------------------------------------------------------------------------
settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", secrets.token_hex()),
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
)
django.setup()


async def buy(request: HttpRequest, order: str) -> JsonResponse:
    given = request.headers.get("Authorization", "").encode()
    if not secrets.compare_digest(given, f"Bearer {os.environ['SHOP_TOKEN']}".encode()):
        return JsonResponse({"error": "a token is needed"}, status=401)
    job = await comics.queue.submit(request.GET["story"], key=order)
    return JsonResponse({"follow": f"/comics-api/comics/{job.key}/events"})


async def plan(_request: HttpRequest) -> JsonResponse:
    return JsonResponse(comics.client.plan.name, safe=False)


urlpatterns = [path("buy/<str:order>", buy), path("plan", plan)]
# -----------------------------------------------------------------------------------------------

routes = [Mount("/comics-api", comics), Mount("/", get_asgi_application())]
app = Starlette(routes=routes, lifespan=comics.lifespan)
