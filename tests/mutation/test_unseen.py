"""Which mutants count: only those are left out that no test is meant to see."""

from __future__ import annotations

import pytest

from tests.mutation.unseen import why_unseen


def reason(before: str, after: str) -> str | None:
    head = "    def x_f__mutmut_{}(a):\n        "
    return why_unseen(head.format("orig") + before, head.format("1") + after)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("_logger.info('sent', a)", "_logger.info('sent', None)", "what a log record says"),
        ("_logger.info('sent', g(a))", "_logger.info('sent', g(None))", "what a log record says"),
        ("raise XError('a b')", "raise XError(None)", "words of an error"),
        ("raise XError('a b')", "raise XError('XXa bXX')", "words of an error"),
        ("raise XError(f'a {a}', a)", "raise XError(a)", "words of an error"),
        ("raise XError('f', a, 'a b')", "raise XError('f', a, )", "words of an error"),
        ("return m.XError(f'{g(a)}')", "return m.XError(f'{g(None)}')", "words of an error"),
        ("return cast('int', a)", "return cast(None, a)", "type for the type checker"),
        ("g('SELECT a FROM b')", "g('select a from b')", "case of an SQL statement"),
        ("g('WHERE id = ?', a)", "g('WHERE ID = ?', a)", "case of an SQL statement"),
        ("a.encode('utf-8')", "a.encode('UTF-8')", "spelling of an encoding"),
        ("g(a, encoding='utf-8')", "g(a, )", "spelling of an encoding"),
    ],
)  # fmt: skip
def test_what_no_test_is_meant_to_see(before: str, after: str, expected: str) -> None:
    assert reason(before, after) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return a + 1", "return a - 1"),
        ("return g(a, 1)", "return g(a)"),
        ("raise XError('a b', spent=True)", "raise XError('a b', spent=False)"),
        ("raise XError('a b', spent=True)", "raise XError('a b', )"),
        ("raise XError('f', a, 'a b')", "raise XError('f', None, 'a b')"),
        ("raise XError(a.get('id'))", "raise XError(a.get('ID'))"),
        ("g('SELECT a FROM b')", "g('XXSELECT a FROM bXX')"),
        ("g('SELECTED a')", "g('selected a')"),
        ("g(a, encoding='utf-8')", "g(encoding='utf-8')"),
        ("if g(a): _logger.info('b')", "if g(None): _logger.info('b')"),
        ("return g(cast('int', a), 2)", "return g(cast('int', a), 3)"),
    ],
)
def test_what_counts(before: str, after: str) -> None:
    assert reason(before, after) is None
