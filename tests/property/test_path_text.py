"""Paths as text: reversible, one text per name, and fit for a table and for JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.path_text import decode_path, encode_path, shown_text, unescape
from holdfast.errors import UsageError

NAMES = st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b"\\"))
AWKWARD = st.lists(
    st.sampled_from([b"\\", b"x", b"\\x", b"ff", b"\xff", b"\n", b"a", "é☃\u202e".encode(), b"/"])
).map(b"".join)


@given(NAMES | AWKWARD)
def test_the_text_gives_back_the_bytes(raw: bytes) -> None:
    text = encode_path(raw)
    assert decode_path(text) == raw
    assert unescape(text.encode()) == raw
    assert text.isprintable()
    assert json.loads(json.dumps(text)) == text


@given(AWKWARD, AWKWARD)
def test_two_names_never_look_alike(one: bytes, other: bytes) -> None:
    assert (encode_path(one) == encode_path(other)) == (one == other)


@given(AWKWARD)
def test_raw_bytes_may_stand_in_the_text(raw: bytes) -> None:
    """As the shell hands them over: only backslashes must be doubled."""
    assert unescape(raw.replace(b"\\", b"\\\\")) == raw


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"/srv/plain name", "/srv/plain name"),
        ("/é☃".encode(), "/é☃"),
        (b"/d\xffir", "/d\\xffir"),
        (b"/d\\xffir", "/d\\\\xffir"),
        (b"new\nline", "new\\x0aline"),
        ("\u0085".encode(), "\\xc2\\x85"),
    ],
)
def test_the_table_of_the_documentation(raw: bytes, text: str) -> None:
    assert encode_path(raw) == text


def test_a_lone_backslash_is_itself() -> None:
    assert decode_path("/srv/a\\b\\xzz\\") == b"/srv/a\\b\\xzz\\"
    assert encode_path(decode_path("/srv/a\\b")) == "/srv/a\\\\b"


@pytest.mark.parametrize("text", ["/a\\x00b", "/a\0b", "/\ud800"])
def test_what_no_path_can_hold_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        decode_path(text)
    assert raised.value.code == "InvalidPath"
    json.dumps(raised.value.message).encode()


def test_a_message_that_quotes_bytes_can_be_sent() -> None:
    assert shown_text("/d\udcffir is gone") == "/d\\xffir is gone"
