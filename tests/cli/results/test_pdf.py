"""The pages of a PDF, and the bytes of the whole."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.cli.results.pdf import JPEG, PDF, arranged_in_rows


def written(*pages: list[JPEG], title: str = "t", language: str | None = None) -> bytes:
    file = io.BytesIO()
    pdf = PDF(file, title=title, mark=b"made here", language=language)
    for page in pages:
        pdf.add_page([pdf.add_picture(one) for one in page])
    pdf.finish()
    return file.getvalue()


def test_rows_of_two_fill_the_width_and_one_left_over_fills_its_row() -> None:
    boxes, height = arranged_in_rows([2.0, 1.0, 1.0], width=62, gutter=1)
    assert boxes[0].height == boxes[1].height == pytest.approx(59 / 3)
    assert attrs.astuple(boxes[0]) == pytest.approx((1, 1, 2 * 59 / 3, 59 / 3))
    assert boxes[1].x + boxes[1].width == pytest.approx(61)
    assert attrs.astuple(boxes[2]) == pytest.approx((1, 2 + 59 / 3, 60, 60))
    assert height == pytest.approx(3 + 59 / 3 + 60)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=50))
def test_no_panel_is_out_of_its_page_distorted_or_upon_another(shapes: list[float]) -> None:
    boxes, height = arranged_in_rows(shapes)
    assert len(boxes) == len(shapes)
    for shape, box in zip(shapes, boxes, strict=True):
        assert box.width / box.height == pytest.approx(shape)
        assert 11.99 < box.x < box.x + box.width < 595 - 11.99
        assert 11.99 < box.y < box.y + box.height < height - 11.99
    for before, after in pairwise(boxes):
        is_beside = after.x >= before.x + before.width + 11.99 and after.y == before.y
        assert is_beside or after.y >= before.y + before.height + 11.99


def test_every_object_is_where_the_table_says() -> None:
    content = written([JPEG(b"one", 4, 3), JPEG(b"two", 4, 3)], [JPEG(b"three", 1, 1)])
    start = int(re.findall(rb"startxref\n(\d+)\n%%EOF\n$", content)[0])
    head, *rows = content[start:].split(b"trailer")[0].splitlines()[1:]
    assert head == b"0 %d" % len(rows)
    assert all(len(row) == 19 for row in rows)  # and the end of the line
    for number, row in enumerate(rows[1:], 1):
        assert content[int(row[:10]) :].startswith(b"%d 0 obj\n" % number)
    assert b"/Size %d " % len(rows) in content
    assert content.splitlines()[1] == b"%made here"
    for length, one in re.findall(
        rb"/Length (\d+) >>\nstream\n(.+?)\nendstream", content, re.DOTALL
    ):
        assert int(length) == len(one)


def test_a_title_can_be_anything() -> None:
    content = written([JPEG(b"x", 1, 1)], title=") >> (\\ \U0001f431", language="en")
    (title,) = re.findall(rb"/Title <([0-9a-f]+)>", content)
    assert bytes.fromhex(title.decode()).decode("utf-16") == ") >> (\\ \U0001f431"
    assert b"/Lang (en)" in content


def test_a_page_of_many_panels_is_no_higher_than_readers_show() -> None:
    content = written([JPEG(b"x", 1, 4)] * 100)
    (box,) = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)
    assert float(box[1]) <= 14_400
    assert 1 < float(box[0]) < 595
