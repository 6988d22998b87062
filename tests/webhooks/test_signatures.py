"""Signatures: what the vendor signed is accepted, in whatever form, and nothing else is."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from llamagen_async import InvalidRequestError, LlamaGenError, WebhookSignatureError
from llamagen_async.webhooks import MAX_BODY, construct_event, sign, verify_signature
from llamagen_async.webhooks.signatures import SecretKeys, SignedBody

SECRET = "whsec_test"
BODY = b'{"type":"comic.generation.completed","data":{"id":"cmc_1"}}'
TIMESTAMP = "X-Llama-Webhook-Timestamp"
SIGNATURE = "X-Llama-Webhook-Signature"
FOREVER = 1e11
"""A tolerance in seconds that accepts any timestamp."""

VECTORS = [
    # secret, body, hexadecimal signature: `printf %s "1700000000.$body" | openssl dgst -sha256
    # -hmac "$secret"` with OpenSSL 3.0
    (
        SECRET,
        (
            b'{"id":"evt_1","type":"comic.generation.completed","created":1700000000,'
            b'"data":{"id":"cmc_1","status":"PROCESSED"}}'
        ),
        "f1f9d53241537b24d5049dd2d6919a26c511cf1d0c98a5221e6e4817296b72bd",
    ),
    (
        SECRET,
        '{"type":"comic.generation.completed","data":{"id":"cmc_1","prompt":"Ein Bär trifft 🐉 و '
        'مرحبا"}}'.encode(),
        "9a9adc163492fb961512b109d9a17aa7b162f17d50f0bb168eca1055cb14ac70",
    ),
    ("other secret é", b"", "83919bb51fc66f91e09821bc16a4b34bef4904e9c5f2abcf0270b22770dff714"),
    (SECRET, b"", "5967f3c560522fa40cf2876ebc3c3a08551dd6959aaade3b413460591895bdcc"),
    (
        SECRET,
        b"\xff\xfe\x00\n",
        "bb289ef4fa0fb1f8f881bc95dd5e215e0703c4bd2c9170c397a82df6fd305921",
    ),
]


def refused(body: Any = BODY, headers: Any = None, secret: Any = SECRET, **options: Any) -> None:
    """Assert that a body is refused, and that the error does not tell why."""
    given = sign(BODY, SECRET) if headers is None else headers
    with pytest.raises(WebhookSignatureError) as caught:
        verify_signature(body, given, secret, **options)
    assert str(caught.value).startswith("this webhook event can't be verified")
    assert caught.value.__context__ is None
    with pytest.raises(WebhookSignatureError):
        construct_event(body, given, secret, **options)


# Vectors from elsewhere.


@pytest.mark.parametrize(("secret", "body", "signature"), VECTORS)
@pytest.mark.parametrize("prefix", ["", "v1="])
def test_vectors_of_openssl(secret: str, body: bytes, signature: str, prefix: str) -> None:
    """Signatures that OpenSSL's command line has made are accepted and made."""
    headers = {TIMESTAMP: "1700000000", SIGNATURE: f"{prefix}{signature}"}
    assert verify_signature(body, headers, secret, tolerance=FOREVER)
    made = sign(body, secret, timestamp=1_700_000_000)
    assert made == {TIMESTAMP: "1700000000", SIGNATURE: f"v1={signature}"}


@given(body=st.binary(max_size=300), secret=st.text(min_size=1, max_size=40))
def test_what_pythons_hmac_signs(body: bytes, secret: str) -> None:
    """Any body and any secret, beside the standard library written out."""
    at = str(int(time.time()))
    try:
        key = secret.encode()
    except UnicodeEncodeError:
        return
    digest = hmac.new(key, at.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert verify_signature(body, {TIMESTAMP: at, SIGNATURE: digest}, secret)


# What is refused.


def test_another_secret() -> None:
    refused(secret="whsec_tesu")
    refused(secret=["a", b"b"])


@given(place=st.integers(0, len(BODY) - 1), flip=st.integers(1, 255))
def test_one_byte_changed(place: int, flip: int) -> None:
    """Wherever it is, and whatever it becomes."""
    body = bytearray(BODY)
    body[place] ^= flip
    refused(bytes(body))


@given(place=st.integers(0, 66), letter=st.characters(codec="ascii"))
def test_one_letter_of_the_signature_changed(place: int, letter: str) -> None:
    headers = sign(BODY, SECRET)
    text = headers[SIGNATURE]
    changed = text[:place] + letter + text[place + 1 :]
    # A comma in the place of `=` makes two signatures of it, of which the second one is right.
    signatures = {one.strip() for one in changed.lower().split(",")}
    if signatures.isdisjoint((text, text.removeprefix("v1="))):
        refused(headers={**headers, SIGNATURE: changed})


@pytest.mark.parametrize("age", [301, 3_600, -301, -3_600, 1e9])
def test_a_timestamp_that_is_old_or_in_the_future(age: float) -> None:
    refused(headers=sign(BODY, SECRET, timestamp=time.time() - age))


@pytest.mark.parametrize("age", [295, -295, 0])
def test_a_timestamp_within_the_tolerance(age: float) -> None:
    assert verify_signature(BODY, sign(BODY, SECRET, timestamp=time.time() - age), SECRET)


def test_another_timestamp_than_the_signed_one() -> None:
    """A captured event does not become younger."""
    headers = sign(BODY, SECRET, timestamp=time.time() - 600)
    refused(headers={**headers, TIMESTAMP: str(int(time.time()))})


def test_an_unsigned_event() -> None:
    headers = sign(BODY, SECRET)
    for name in headers:
        refused(headers={key: value for key, value in headers.items() if key != name})
        refused(headers={**headers, name: ""})
        refused(headers={**headers, name: None})
    refused(headers={})
    refused(headers=[])


@pytest.mark.parametrize(
    "timestamp",
    [
        "soon",
        "-1",
        "1e9",
        "1700000000.5",
        "0x10",
        "\u0661\u0667\u0660\u0660",
        "9" * 13,
        "9" * 9_000,
        " ",
        "nan",
    ],
)
def test_a_timestamp_that_is_none(timestamp: str) -> None:
    refused(headers={**sign(BODY, SECRET), TIMESTAMP: timestamp})


def test_two_timestamps_that_differ() -> None:
    """Nobody can know which one was signed."""
    headers = sign(BODY, SECRET)
    pairs = [*headers.items(), (TIMESTAMP, "1")]
    refused(headers=pairs)
    refused(headers=pairs[::-1])
    refused(headers={**headers, TIMESTAMP: f"{headers[TIMESTAMP]},1"})
    refused(headers={**headers, TIMESTAMP: f"{headers[TIMESTAMP]},"})
    assert verify_signature(BODY, [*headers.items(), *headers.items()], SECRET)


def test_what_is_too_large() -> None:
    """Bodies and headers that nobody would send are refused before they take time."""
    body = b" " * (MAX_BODY + 1)
    refused(body, sign(body, SECRET))
    body = body[:-1]
    assert verify_signature(body, sign(body, SECRET), SECRET)
    headers = sign(BODY, SECRET)
    refused(headers={**headers, SIGNATURE: f"{'a' * 5_000},{headers[SIGNATURE]}"})


def test_how_many_characters_of_signatures_are_read() -> None:
    """All headers together, and what joins them; a signature at the end is still compared."""
    headers = sign(BODY, SECRET)
    signature = headers.pop(SIGNATURE)
    room = 4_096 - len(signature) - 1
    for others in (["a" * room], ["a" * (room - 2), "b"]):
        several = [*headers.items(), *((SIGNATURE, one) for one in [*others, signature])]
        assert verify_signature(BODY, several, SECRET)
        refused(headers=[*several, (SIGNATURE, "c")])
        refused(headers=[*several[:-1], (SIGNATURE, f"{signature},")])


def test_the_latest_and_the_earliest_moment_within_the_tolerance() -> None:
    body = SignedBody(BODY, {name: [value] for name, value in sign(BODY, SECRET).items()})
    signed = int(body.headers[TIMESTAMP][0])
    keys = SecretKeys.of(SECRET)
    for age in (-300, 0, 300):
        assert body.problem(keys, 300, signed + age) is None
    assert "300 s in the past" in str(body.problem(keys, 300, signed + 300.4))
    assert "300 s in the future" in str(body.problem(keys, 300, signed - 300.4))


def test_text_that_has_no_bytes() -> None:
    """Half a character, as JSON may have it, is only another wrong text."""
    refused("\ud800")
    refused(secret="\ud800")
    refused(headers={**sign(BODY, SECRET), SIGNATURE: "\ud800"})
    refused(headers={**sign(BODY, SECRET), TIMESTAMP: "\ud800"})


def test_only_the_log_tells_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    """The error is the same for all; neither has the secret."""
    old = time.time() - 1_000
    wrong: dict[str, dict[str, Any]] = {
        "another secret": {"secret": "wrong-secret"},
        "not signed": {"headers": {}},
        f"no {TIMESTAMP} header": {"headers": {SIGNATURE: "v1=00"}},
        f"no {SIGNATURE} header": {"headers": {TIMESTAMP: "1700000000"}},
        "s in the past": {"headers": sign(BODY, SECRET, timestamp=old)},
        "no unix time": {"headers": {**sign(BODY, SECRET), TIMESTAMP: "soon\n\x1b[2J"}},
    }
    for words, arguments in wrong.items():
        caplog.clear()
        refused(**arguments)
        text = caplog.text
        assert words in text
        assert SECRET not in text
        assert "wrong-secret" not in text
        assert "\x1b" not in text
        assert {record.name for record in caplog.records} == {"llamagen_async.webhooks.signatures"}
        assert all(record.levelno == logging.WARNING for record in caplog.records)


# What is accepted.


def test_several_signatures_in_one_header() -> None:
    """The vendor signs with the old and the new secret while one is changed for the other."""
    headers = sign(BODY, ["old", "new"])
    assert headers[SIGNATURE].count("v1=") == 2
    for secret in ("old", "new"):
        assert verify_signature(BODY, headers, secret)
    spaced = {**headers, SIGNATURE: f" v0=abc , ,{headers[SIGNATURE].replace(',', ' , ')},"}
    assert verify_signature(BODY, spaced, "new")


def test_several_secrets() -> None:
    """Any of them may have signed: whatever its place, and as text or bytes."""
    headers = sign(BODY, SECRET)
    for secrets in (["new", SECRET], (SECRET.encode(), "new"), {SECRET}, iter([SECRET, "x"])):
        assert verify_signature(BODY, headers, secrets)


def test_a_signature_in_capitals() -> None:
    headers = sign(BODY, SECRET)
    capitals = headers[SIGNATURE].removeprefix("v1=").upper()
    assert verify_signature(BODY, {**headers, SIGNATURE: capitals}, SECRET)


@pytest.mark.parametrize("body", [BODY, BODY.decode(), bytearray(BODY), memoryview(BODY)], ids=type)
def test_bodies_of_all_frameworks(body: Any) -> None:
    assert verify_signature(body, sign(BODY, SECRET), SECRET)


def header_forms() -> Iterator[tuple[str, Any]]:
    """Yield the headers of a signed body as frameworks have them, with the form's name."""
    made = sign(BODY, SECRET)
    yield "mapping", made
    yield "lower case", {name.lower(): value for name, value in made.items()}
    yield "upper case", {name.upper(): value for name, value in made.items()}
    yield "aiohttp", CIMultiDict({**made, "Host": "x"})
    yield "pairs", [("Host", "x"), *made.items()]
    yield "ASGI", [(name.lower().encode(), value.encode()) for name, value in made.items()]
    environ: dict[str, Any] = {"wsgi.input": object(), "REQUEST_METHOD": "POST", "wsgi.version": 1}
    yield (
        "WSGI",
        environ | {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in made.items()},
    )
    yield "Lambda", {name: [value] for name, value in made.items()}
    yield "numbers", {**made, TIMESTAMP: int(made[TIMESTAMP])}
    yield "two lines", [*made.items(), (SIGNATURE, "v1=00")]
    yield "two times in one line", {**made, TIMESTAMP: f"{made[TIMESTAMP]}, {made[TIMESTAMP]}"}
    yield "spaces", {name: f" {value}\t" for name, value in made.items()}


@pytest.mark.parametrize("form", [name for name, _ in header_forms()])
def test_headers_of_all_frameworks(form: str) -> None:
    headers = dict(header_forms())[form]
    assert verify_signature(BODY, headers, SECRET)


# Arguments that are wrong.


@pytest.mark.parametrize("body", [{"type": "x"}, [1]])
def test_a_body_that_was_parsed(body: Any) -> None:
    """The commonest mistake is answered with what to do instead."""
    for function in (construct_event, verify_signature):
        with pytest.raises(InvalidRequestError, match=r"raw body.+before anything has parsed it"):
            function(body, sign(BODY, SECRET), SECRET)
    with pytest.raises(InvalidRequestError, match="raw body"):
        sign(body, SECRET)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("body", {"body": None}),
        ("body", {"body": 7}),
        ("headers", {"headers": 7}),
        ("headers", {"headers": None}),
        ("headers", {"headers": "X-Llama"}),
        ("headers", {"headers": [("a", "b", "c")]}),
        *(("secret", {"secret": one}) for one in (None, "", b"", [], [""], ["a", ""], 7, {"a": 1})),
        *(("tolerance", {"tolerance": one}) for one in (0, -1, None, "300", float("nan"), True)),
    ],
)
def test_an_argument_that_is_wrong(field: str, arguments: dict[str, Any]) -> None:
    """The field is named, and what is allowed. An empty secret would let anybody sign."""
    given = {"body": BODY, "headers": sign(BODY, SECRET), "secret": SECRET, **arguments}
    for function in (construct_event, verify_signature):
        with pytest.raises(InvalidRequestError) as caught:
            function(**given)
        assert caught.value.field == field


@pytest.mark.parametrize(
    ("secret", "named"),
    [(None, "NoneType"), ([], "list"), (["a", ""], "str"), ([7], "int"), ({"a": 1}, "dict")],
)
def test_a_wrong_secret_is_named_by_its_type(secret: Any, named: str) -> None:
    """The secret is not repeated, and what is allowed is said."""
    with pytest.raises(InvalidRequestError) as caught:
        verify_signature(BODY, sign(BODY, SECRET), secret)
    assert caught.value.value == named
    assert "one secret, or several" in caught.value.allowed


@pytest.mark.parametrize(("body", "named"), [(None, "NoneType"), (7, "int"), ({"a": 1}, "dict")])
def test_a_wrong_body_is_named_by_its_type(body: Any, named: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        verify_signature(body, sign(BODY, SECRET), SECRET)
    assert caught.value.value == named
    assert ("JSON that was parsed" in caught.value.allowed) is (named == "dict")


@pytest.mark.parametrize(
    ("field", "value"),
    [("timestamp", -1), ("timestamp", 1e12), ("timestamp", "now"), ("id", ""), ("id", 7)],
)
def test_a_header_that_nobody_would_sign(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        sign(BODY, SECRET, **{field: value})
    assert caught.value.field == field


def test_a_signed_event_may_have_an_id() -> None:
    made = sign(BODY, SECRET, timestamp=1_700_000_000.9, id="evt_1")
    assert made["X-Llama-Webhook-Id"] == "evt_1"
    assert made[TIMESTAMP] == "1700000000"


def test_no_error_shows_the_secret() -> None:
    """Neither its text nor the variables of the frames that a report may show."""
    wrong: list[dict[str, Any]] = [
        {"headers": {}},
        {"secret": [SECRET, ""]},
        {"secret": [SECRET, 7]},
        {"body": {"a": 1}},
        {"tolerance": -1},
    ]
    for arguments in wrong:
        for function in (construct_event, verify_signature):
            given = {"body": BODY, "headers": sign(BODY, SECRET), "secret": SECRET, **arguments}
            with pytest.raises(LlamaGenError) as caught:
                function(**given)
            assert SECRET not in str(caught.value)
            frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            inside = [one for one in frames.stack if "llamagen_async/webhooks" in one.filename]
            assert inside
            if isinstance(given["secret"], str):
                assert SECRET not in str([one.locals for one in inside])


texts = st.text(max_size=20) | st.binary(max_size=20) | st.integers() | st.none() | st.floats()
values = texts | st.lists(texts, max_size=3)
names = st.sampled_from([TIMESTAMP, SIGNATURE, SIGNATURE.lower().encode(), "HTTP_X", "x"]) | texts


@pytest.mark.once
@settings(max_examples=400, deadline=None)
@given(
    body=texts | st.dictionaries(st.text(), st.text()),
    headers=st.dictionaries(names, values, max_size=6) | st.lists(st.tuples(names, values)) | texts,
    secret=values,
    tolerance=st.floats() | st.integers() | st.none(),
)
def test_whatever_comes_is_refused(body: Any, headers: Any, secret: Any, tolerance: Any) -> None:
    """Nobody who does not know the secret gets anything in, or another error out."""
    for function in (construct_event, verify_signature):
        with pytest.raises((WebhookSignatureError, InvalidRequestError)):
            function(body, headers, secret, tolerance=tolerance)
