"""Money on the command line: what a batch will cost, a dry run of it, and a budget that holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamagen_async.cli.output import Output
from llamagen_async.cli.text import columns
from llamagen_async.sandbox import DEMO_KEY, PAID_KEY, Durations, SandboxService
from tests.support.cli import FAST, Call, connection, sandbox_thread, seen
from tests.support.machine import ROOMY

OWNED = 2_000
"""Credits of the account at the start."""


@pytest.fixture
def paid(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A sandbox whose paid key is not refused and has few credits."""
    plans = {PAID_KEY: ROOMY, DEMO_KEY: ROOMY}
    service = SandboxService(plans=plans, durations=Durations.constant(20.0), credits=OWNED)
    write(tmp_path, 3)
    with sandbox_thread(service) as server:
        yield server


def write(folder: Path, number: int, *more: str) -> None:
    """Write so many stories of two panels."""
    lines = [f'{{"prompt": "bear {n}", "fix_panel_num": 2}}' for n in range(number)]
    (folder / "s.jsonl").write_text("\n".join([*lines, *more]), encoding="utf-8")


def batch(call: Call, server: dict[str, Any], *argv: str, stdin: bytes = b"") -> Any:
    quiet = {"LLAMAGEN_QUOTA": "memory"}
    source = "-" if stdin else "s.jsonl"
    return call("batch", source, *argv, *FAST, env=connection(server) | quiet, stdin=stdin)


def requests(server: dict[str, Any]) -> dict[str, Any]:
    counted: dict[str, Any] = seen(server)["requests"]
    return counted


def credits_left(call: Call, server: dict[str, Any]) -> float:
    done = call("usage", "--json", *FAST, env=connection(server))
    left: float = json.loads(done.stdout)["credits"]
    return left


def test_an_estimate_and_the_end_agree(paid: dict[str, Any], call: Call) -> None:
    done = batch(call, paid)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 comics, 6 panels: about 900 credits (estimate).\n" in done.stdout
    assert "\n900 credits spent.\n" in done.stdout
    assert "usage" not in requests(paid)  # that would be a large part of so few requests
    assert credits_left(call, paid) == OWNED - 900


def test_a_budget_holds_over_several_commands(
    paid: dict[str, Any], call: Call, tmp_path: Path
) -> None:
    write(tmp_path, 4)
    done = batch(call, paid, "--budget", "700")
    assert done.returncode == 1
    assert "The budget of 700 credits pays for about 2 of 4 stories.\n" in done.stdout
    assert "2 comics, about" in done.stdout
    assert "600 credits spent; 100 credits of the budget of 700 credits are left.\n" in done.stdout
    assert "2 of 4 comics done, 2 not sent; " in done.stdout
    assert "\nThe rest: the same command again with a higher --budget goes on" in done.stdout
    assert done.stderr.endswith("2 of 4 stories not sent: the budget does not pay for them\n")
    results = (tmp_path / "comics" / "results.jsonl").read_text(encoding="utf-8")
    unsent = [one for one in map(json.loads, results.splitlines()) if one["state"] == "queued"]
    assert {one["error_type"] for one in unsent} == {"BudgetReachedError"}
    again = batch(call, paid, "--budget", "700")
    assert again.returncode == 1
    assert "of which 600 credits are spent, pays for none of 2 stories" in again.stdout
    more = batch(call, paid, "--budget", "1200", "--json")
    assert more.returncode == 0
    last = json.loads(more.stdout.splitlines()[-1])["spending"]
    assert (last["credits"], last["total"], last["left"], last["unsent"]) == (600, 1_200, 0, 0)
    assert credits_left(call, paid) == OWNED - 1_200


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_budget_that_was_passed_long_ago_is_no_error_where_nothing_is_to_be_sent(
    paid: dict[str, Any], call: Call, options: list[str]
) -> None:
    assert batch(call, paid).returncode == 0
    done = batch(call, paid, "--budget", "300", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert seen(paid)["creates_accepted"] == 3


def test_a_dry_run_counts_a_key_once(paid: dict[str, Any], call: Call, tmp_path: Path) -> None:
    """As a run does: the same story again is the same comic, and another one is refused."""
    write(tmp_path, 0, *(f'{{"prompt": "{word}", "key": "k"}}' for word in ("a", "a", "b")))
    dry = batch(call, paid, "--dry-run", "--budget", "600")
    assert dry.returncode == 1
    assert dry.stdout.startswith(
        "  s.jsonl:1  a: 4 panels, about 600 credits\n"
        "  s.jsonl:2  a: the same comic as before, by its key\n"
        "3 stories: 0 done, 0 running, 1 to send.\n"
    )
    assert "about 600 credits (estimate)" in dry.stdout
    assert "s.jsonl:3: key: got 'k', allowed is a key of its own: an earlier story" in dry.stderr
    *_, sums = map(json.loads, batch(call, paid, "--dry-run", "--json").stdout.splitlines())
    assert (sums["stories"], sums["to_send"], sums["wrong"], sums["credits"]) == (3, 1, 1, 600)
    real = batch(call, paid)
    assert "2 of 3 comics done, 1 failed; " in real.stdout
    assert seen(paid)["creates_accepted"] == 1
    again = batch(call, paid, "--dry-run")
    assert "3 stories: 2 done, 0 running, 0 to send.\n" in again.stdout


def test_a_dry_run_sends_nothing_and_leaves_nothing(
    paid: dict[str, Any], call: Call, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    done = batch(call, paid, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  s.jsonl:1  bear 0: 2 panels, about 300 credits\n" in done.stdout
    assert "3 stories: 0 done, 0 running, 3 to send.\n" in done.stdout
    assert "3 comics, about " in done.stdout
    assert "3 comics, 6 panels: about 900 credits (estimate).\n" in done.stdout
    assert done.stdout.endswith("Nothing was sent.\n")
    assert sorted(tmp_path.iterdir()) == before
    assert seen(paid)["total"] == 0


def test_a_dry_run_fits_a_narrow_terminal(
    paid: dict[str, Any], call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The title makes room; no word is cut."""
    titles = ("A very long story of a cat that sails to the moon " * 3, "一只猫遇见了龙" * 9)
    write(tmp_path, 0, *(json.dumps({"prompt": title}) for title in titles))
    monkeypatch.setattr(Output, "has_terminal", property(lambda self: True))
    monkeypatch.setenv("COLUMNS", "60")
    first, second, *others = batch(call, paid, "--dry-run").stdout.splitlines()
    assert max(map(columns, (first, second, *others))) <= 60
    assert first.startswith("  s.jsonl:1  A very long")
    assert second.startswith("  s.jsonl:2  一只猫")
    assert first.endswith("…: 4 panels, about 600 credits")


def test_a_run_fits_a_narrow_terminal(
    paid: dict[str, Any], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Output, "has_terminal", property(lambda self: True))
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    lines = batch(call, paid, "--budget", "1000").stdout.splitlines()
    assert max(len(line) for line in lines if not line.startswith("Look at ")) <= 60
    assert "credits of the budget of 1,000 credits" in " ".join(lines)


def test_a_dry_run_knows_what_the_journal_has(
    paid: dict[str, Any], call: Call, tmp_path: Path
) -> None:
    assert batch(call, paid, "--budget", "300").returncode == 1
    sent = seen(paid)["total"]
    files = {path: path.read_bytes() for path in (tmp_path / "comics").glob("*.*l*")}
    short = batch(call, paid, "--dry-run", "--budget", "700")
    assert short.returncode == 1
    assert "3 stories: 1 done, 0 running, 2 to send.\n" in short.stdout
    assert "bear 2: 2 panels, about 300 credits, more than the budget has\n" in short.stdout
    *each, sums = map(json.loads, batch(call, paid, "--dry-run", "--json").stdout.splitlines())
    assert [(one["state"], one["credits"]) for one in each] == [
        ("succeeded", 0),
        ("queued", 300),
        ("queued", 300),
    ]
    assert (sums["to_send"], sums["credits"], sums["done"], sums["wrong"]) == (2, 600, 1, 0)
    assert sums["seconds"] > 0
    assert seen(paid)["total"] == sent
    assert {path: path.read_bytes() for path in files} == files


def test_a_dry_run_of_stdin_names_each_line_that_is_wrong(paid: dict[str, Any], call: Call) -> None:
    lines = b'{"prompt": "a"}\n{"prompt": ""}\n{"prompt": "b", "key": "k"}\nno\n'
    done = batch(call, paid, "--dry-run", stdin=lines)
    assert done.returncode == 1
    assert "4 stories: 0 done, 0 running, 2 to send.\n" in done.stdout
    wrong = [line.split(": ")[1] for line in done.stderr.splitlines()]
    assert wrong == ["stdin:2", "stdin:4"]
    assert seen(paid)["total"] == 0


@pytest.mark.parametrize(
    ("options", "asked"),
    [([], 1), (["--no-usage"], 0), (["--dry-run"], 0), (["--dry-run", "--usage"], 1)],
)
def test_many_stories_are_worth_a_question(
    paid: dict[str, Any], call: Call, tmp_path: Path, options: list[str], asked: int
) -> None:
    """Too few credits are told of before the first create."""
    write(tmp_path, 10)
    done = batch(call, paid, *options, "--budget", "600")
    assert requests(paid).get("usage", {}).get("200", 0) == asked
    said = "The server says that 2,000 credits are left.\n" in done.stdout
    told = "the credits that are left pay for about 6 of 10 stories\n" in done.stderr
    assert said == told == bool(asked)


def test_the_demo_plan_has_no_request_to_spare(
    paid: dict[str, Any], call: Call, tmp_path: Path
) -> None:
    write(tmp_path, 10)
    env = connection(paid, DEMO_KEY, LLAMAGEN_QUOTA="memory")
    done = call("batch", "s.jsonl", "--budget", "0", *FAST, env=env)
    assert "about 3,000 credits (estimate), if the key is on a paid plan.\n" in done.stdout
    assert seen(paid, DEMO_KEY)["total"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budget", "nan"], "--budget: got nan, allowed is a number of credits, 0 or more"),
        (["--budget", "-1"], "--budget: got -1.0"),
        (["--budget", "x"], "'x' is not a valid float"),
        (["--price", "redraw"], "--price: got 'redraw', allowed is NAME=CREDITS"),
        (["--price", "redraws=5"], "--price: got 'redraws', allowed is one of panel, "),
        (["--price", "redraw=-5"], "--price redraw: got -5.0, allowed is a number of credits"),
        (["--budget", "900"], "the price of 1 upscaled comic is not known"),
        (["--budget", "900", "--dry-run"], "it with --price upscaled-panel=CREDITS if you know it"),
    ],
)
def test_wrong_money_is_one_line_and_nothing_is_sent(
    paid: dict[str, Any], call: Call, tmp_path: Path, options: list[str], said: str
) -> None:
    write(tmp_path, 1, '{"prompt": "large", "upscale": true}')
    done = batch(call, paid, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert seen(paid)["total"] == 0


def test_all_prices_that_a_budget_lacks_are_named(
    paid: dict[str, Any], call: Call, tmp_path: Path
) -> None:
    """A number of panels that can't be read has no price that could be given."""
    odd = '{"prompt": "x", "extra": {"fixPanelNum": "many"}}'
    write(tmp_path, 1, odd, odd)
    assert "2 comics of an unknown number of panels is not known, so no budget can be kept; " in (
        batch(call, paid, "--budget", "900").stderr
    )
    write(
        tmp_path, 1, odd, '{"prompt": "x", "upscale": true}', '{"type": "animation", "prompt": "x"}'
    )
    said = batch(call, paid, "--budget", "900").stderr
    assert "--price upscaled-panel=CREDITS --price animation=CREDITS if you know it" in said
    assert seen(paid)["total"] == 0


def test_a_price_that_is_given_is_used(paid: dict[str, Any], call: Call, tmp_path: Path) -> None:
    write(tmp_path, 1, '{"prompt": "large", "upscale": true, "fix_panel_num": 1}')
    done = batch(call, paid, "--dry-run", "--price", "upscaled-panel=400", "--price", "panel=100")
    assert "1 comic, 1 upscaled comic, 3 panels: about 600 credits (estimate).\n" in done.stdout
    assert done.returncode == 0


def test_a_redraw_by_its_own_command_counts_against_the_same_budget(
    paid: dict[str, Any], call: Call, tmp_path: Path
) -> None:
    """The journal has its price, so a batch of that folder knows what is left."""
    assert batch(call, paid).returncode == 0
    results = (tmp_path / "comics" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    env = connection(paid) | {"LLAMAGEN_QUOTA": "memory"}

    def redraw(*money: str) -> Any:
        change = ("--panel", "0", "--prompt", "It smiles", *money)
        return call("redraw", "comics", json.loads(results[0])["id"], *change, *FAST, env=env)

    unknown = redraw("--budget", "5000")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "price is not known" in unknown.stderr
    assert unknown.stderr.endswith("or no budget: --price redraw=CREDITS\n")
    over = redraw("--price", "redraw=100", "--budget", "950")
    assert (over.returncode, over.stdout) == (1, "")
    assert "900 credits are spent; nothing was sent" in over.stderr
    assert "update" not in requests(paid)
    done = redraw("--price", "redraw=100", "--budget", "1000")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nAbout 100 credits spent, 1,000 credits with earlier runs; 0 credits of" in done.stdout
    write(tmp_path, 4)
    later = batch(call, paid, "--budget", "1299")
    assert "of which 1,000 credits are spent, pays for none of 1 story.\n" in later.stdout
