"""Who may ask a server on this machine: its own pages may, a page of another site may not, whatever
it tries."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gs_ssd.studio.guard import Guard, is_loopback

HERE = Guard("127.0.0.1")


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "localhost:8080", "127.0.0.1:1", "[::1]:80", "LOCALHOST:9"]
)
def test_our_own_pages_are_let_in_through_any_port(host):
    assert HERE.refusal([host]) is None
    assert HERE.refusal([host], [f"http://{host}"]) is None


@pytest.mark.parametrize(
    "hosts",
    [
        [], [""], ["localhost", "evil.example"], ["localhost", "localhost"], ["evil.example"],
        ["evil.example:8080"],
        ["localhost.evil.example"], ["evil.example@localhost"], ["localhost@evil.example"],
        ["localhost/evil"],
        ["127.0.0.1.evil.example"], ["localhost:80:80"], ["localhost:x"], ["[::1"], ["[::1]x"],
            ["::1"], ["0.0.0.0"],
        ["192.168.1.7"], ["localhost, evil.example"], ["localhost\x00"], ["loc\u0430lhost"],
        ["localhost."],
    ],
)  # fmt: skip
def test_other_names_are_not(hosts):
    assert HERE.refusal(hosts) is not None


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "null", "", "http://localhost:3000", "http://127.0.0.1:8080",
        "file://", "localhost:8080", "ftp://localhost:8080", "https://localhost",
        "http://localhost:8080.evil.example", "http://", "//localhost:8080",
        "http://evil.example#localhost:8080", "http://localhost:8080@evil.example",
    ],
)  # fmt: skip
def test_a_page_of_another_site_or_server_is_refused_even_by_our_name(origin):
    assert HERE.refusal(["localhost:8080"], [origin]) is not None
    assert HERE.refusal(["localhost:8080"], ["http://localhost:8080", origin]) is not None


def test_default_ports_are_the_same_written_or_not():
    assert HERE.refusal(["localhost"], ["http://localhost:80"]) is None
    assert HERE.refusal(["localhost"], ["https://localhost:443"]) is None
    assert HERE.refusal(["localhost:80"], ["https://localhost"]) is not None


def test_a_public_server_answers_to_addresses_and_names_that_no_attacker_can_point_here():
    open_to_all = Guard("0.0.0.0", names=("splats.lan",))
    for host in (
        "192.168.1.7:8080",
        "[fe80::1]:8080",
        "splats.lan",
        "localhost:8080",
        socket.gethostname(),
    ):
        assert open_to_all.refusal([host]) is None
    assert open_to_all.refusal(["evil.example:8080"]) is not None
    assert open_to_all.refusal(["192.168.1.7:8080"], ["http://192.168.1.8:8080"]) is not None


@given(st.lists(st.text(max_size=30), max_size=2), st.lists(st.text(max_size=30), max_size=2))
def test_any_text_gets_an_answer_and_only_our_names_are_let_in(hosts, origins):
    if HERE.refusal(hosts, origins) is None:
        (host,) = hosts
        assert host.lower().startswith(("localhost", "127.", "[::1]"))


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("nowhere", False),
        ("", False),
    ],
)
def test_loopback(host, ours):
    assert is_loopback(host) is ours
