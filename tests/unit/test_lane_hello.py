"""What a client's TLS hello offers is read from real hellos, whole, in part and damaged."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import alpn
from holdfast.arm.lane.hello import offered


def hello(*names: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """The first bytes a client sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    if names:
        context.set_alpn_protocols(list(names))
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="server.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_names_of_a_hello_are_found(version: ssl.TLSVersion) -> None:
    assert offered(hello(alpn.DATA, alpn.HTTP, version=version)) == {alpn.DATA, alpn.HTTP}
    assert offered(hello("h2", alpn.HTTP, version=version)) == {"h2", alpn.HTTP}
    assert offered(hello(version=version)) == frozenset()


def test_a_hello_is_waited_for_until_it_is_whole() -> None:
    whole = hello(alpn.DATA)
    assert [offered(whole[:size]) for size in range(len(whole))] == [None] * len(whole)
    assert offered(whole + b"what follows") == {alpn.DATA}


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", b"\x16\x03\x01\x00\x05\x02abcd"]
)
def test_what_is_no_hello_offers_nothing(data: bytes) -> None:
    assert offered(data) == frozenset()


@given(at=st.integers(5, 400), value=st.integers(0, 255), cut=st.integers(0, 400))
@settings(max_examples=300, deadline=None)
def test_no_damage_is_worse_than_an_answer(at: int, value: int, cut: int) -> None:
    damaged = bytearray(hello(alpn.DATA))
    damaged[at % len(damaged)] = value
    damaged[3:5] = (len(damaged) - 5 - cut % 100).to_bytes(2, "big")
    offered(bytes(damaged))


@given(st.binary(max_size=600))
@settings(max_examples=300, deadline=None)
def test_any_bytes_get_an_answer(data: bytes) -> None:
    offered(b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data)
