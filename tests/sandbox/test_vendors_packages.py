"""The vendor's npm packages, as they are published, against the sandbox: all of their READMEs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from llamagen_async import Animation, ComicGeneration, Upload, Usage
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.sandbox import Dialect, Durations, Fault, SandboxService
from tests.support.cli import sandbox_thread
from tests.support.npm import Packages, installed_packages
from tests.support.sandbox import create, roomy_service
from tests.support.webhooks import SECRET, Endpoint, sending

pytestmark = pytest.mark.once

KEY = "sk-the-key"
ROOMY = Plan("roomy", limits=(RateLimit(100_000, per=60),))
"""The vendor's programs do not survive a 429 while they wait."""
DIALECTS = get_args(Dialect)
PROGRAM = "node_modules/@llamagen/cli/bin/llamagen.js"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return installed_packages(tmp_path_factory.mktemp("npm"))


def quick_service(dialect: Dialect) -> SandboxService:
    return SandboxService(dialect=dialect, durations=Durations.constant(2.0), plans={KEY: ROOMY})


def comic(answer: Any) -> list[int]:
    """Return the number of panels on each page of a comic that is done."""
    done = ComicGeneration.parse(answer)
    assert done.succeeded
    return [len(page.panels) for page in done.pages]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_javascript_client_does_all_that_its_readme_says(
    packages: Packages, dialect: Dialect
) -> None:
    with sandbox_thread(quick_service(dialect)) as server:
        done = packages.run("readme.mjs", server["url"], KEY)
    assert done.returncode == 0, done.stderr
    said = dict(map(json.loads, done.stdout.splitlines()))
    assert not ComicGeneration.parse(said["created"]).is_done
    assert comic(said["done"]) == [4]
    assert comic(said["pages"]) == [4, 4]
    (page,) = ComicGeneration.parse(said["one panel"]).pages
    assert (page.page, [panel.panel for panel in page.panels]) == (1, [2])
    assert not ComicGeneration.parse(said["continuing"]).is_done
    assert comic(said["continued"]) == [4, 4, 4]
    assert comic(said["redrawn"]) == [4, 4, 4]
    redrawn = ComicGeneration.parse(said["redrawn"])
    assert redrawn.usage is not None
    assert redrawn.usage.redraw_panels == 6
    assert redrawn.pages[1].panels[0].caption == "The end?"
    assert Usage.parse(said["usage"]).is_paid_plan
    assert Upload.parse(said["upload"]).raw["fileName"] == "reference.png"
    assert comic(said["created and waited"]) == [4]
    assert said["batch"] == [None] * 9
    assert [comic(one) for one in said["many"]] == [[1]] * 9
    assert comic(said["older names"]) == [4, 2]
    assert Animation.parse(said["animation"]).id == Animation.parse(said["animated"]).id
    for name in ("animated", "animated at once"):
        video = Animation.parse(said[name])
        assert video.succeeded
        assert video.video_url is not None
    assert ComicGeneration.parse(said["fetched"]).id
    assert said["unknown id"][:2] == ["LlamaGenAPIError", 404]
    assert said["unknown key"][:2] == ["LlamaGenAPIError", 401]
    assert said["timeout"][0] == "LlamaGenTimeoutError"


@pytest.mark.virtual_time
async def test_the_javascript_client_believes_the_sandboxs_events(packages: Packages) -> None:
    """The real ones, and not those that are forged."""
    events: list[tuple[dict[str, str], str]] = []

    class Recorder(Endpoint):
        async def post(self, body: bytes, headers: dict[str, str]) -> int:
            events.append((headers, body.decode()))
            return await super().post(body, headers)

    service = roomy_service(faults=[Fault("event-forged", on="completed")])
    async with sending(service, Recorder(), "result"):
        create(service)
        await asyncio.sleep(100)
    done = packages.run("webhooks.mjs", SECRET, stdin=json.dumps(events))
    assert done.returncode == 0, done.stderr
    *begun, forged, completed = json.loads(done.stdout)
    assert [(one[0], one[1]) for one in begun] == [
        (True, "comic.generation.created"),
        (True, "comic.generation.updated"),
    ]
    assert forged == [False, "LlamaGenWebhookSignatureError"]
    is_right, word, data, *kinds = completed
    assert (is_right, word, kinds) == (True, "comic.generation.completed", ["string"] * 2)
    assert comic(data) == [4]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_command_line_does_all_that_its_readme_says(
    packages: Packages, dialect: Dialect, tmp_path: Path
) -> None:
    """All but `auth login`, which asks the vendor's site in a browser."""

    def run(*arguments: str, status: int = 0, **env: str) -> str:
        variables = {"LLAMAGEN_CONFIG_HOME": str(tmp_path), **env}
        done = packages.run(PROGRAM, "--poll-interval-ms", "5", *arguments, **variables)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return str(done.stdout + done.stderr)

    def comic_of(*arguments: str) -> ComicGeneration:
        return ComicGeneration.parse(json.loads(run("comic", *arguments)))

    with sandbox_thread(quick_service(dialect)) as server:
        assert "Not signed in" in run("auth", "status", status=1)
        run("config", "set", "api-url", server["url"].removesuffix("/v1"))
        wrong = run("auth", "status", "--json", LLAMAGEN_API_KEY="nobody", status=1)
        assert json.loads(wrong)["status"] == "invalid"
        run("config", "set", "api-key", KEY)
        status = json.loads(run("auth", "status", "--json"))
        assert (status["status"], status["usage"]["isPaidPlan"]) == ("authenticated", True)
        offline = json.loads(run("auth", "status", "--offline", "--json"))
        assert (offline["status"], offline["source"]) == ("stored", "credentials-file")

        drawn = comic_of("create", "--prompt", "A crane", "--style", "manga", "--wait")
        assert drawn.succeeded
        script = ("--prompt-url", "https://s.invalid/script.pdf", "--fix-panel-num", "2", "--wait")
        assert len(comic_of("create", "--prompt", "Adapt it", *script).pages[0].panels) == 2
        assert comic_of("get", drawn.id).asset_urls == drawn.asset_urls
        (page,) = comic_of("get", drawn.id, "--page", "0", "--panel", "2").pages
        assert [panel.panel for panel in page.panels] == [2]
        for change in (
            ("continue", drawn.id, "--prompt", "Continue for four panels"),
            ("update-panel", drawn.id, "--page", "0", "--panel", "2", "--prompt", "Closer"),
            ("update-panel", drawn.id, "--panel", "0", "--panel-prompt", "Darker"),
        ):
            assert not comic_of(*change).is_done
            while not (changed := comic_of("get", drawn.id)).is_done:
                pass
        assert [len(page.panels) for page in changed.pages] == [4, 4]
        assert changed.usage is not None
        assert changed.usage.redraw_panels == 2
        assert Usage.parse(json.loads(run("comic", "usage"))).is_paid_plan
        started = Animation.parse(json.loads(run("animation", "create", "--prompt", "A boat")))
        assert Animation.parse(json.loads(run("animation", "get", started.id))).id == started.id
        assert "404" in run("comic", "get", "nobody", status=1)

        run("auth", "logout")
        assert "Missing API credential" in run("comic", "usage", status=2)
        assert server["url"].removesuffix("/v1") in run("config", "get", "api-url")
        run("config", "unset", "api-url")
