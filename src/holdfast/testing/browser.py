"""A person with a browser, as far as our sign-in pages need one: forms, cookies, redirects."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Protocol
from urllib.parse import urlencode

import httpx2


class Answered(Protocol):
    """What both our in-process replies and HTTP clients give."""

    @property
    def content(self) -> bytes: ...

    @property
    def headers(self) -> Any: ...


class Send(Protocol):
    """Sends one request: method, address, form (or None), headers."""

    def __call__(
        self, method: str, address: str, form: str | None, headers: dict[str, str]
    ) -> Answered: ...


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.buttons: list[tuple[str, str]] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        if tag == "form":
            self.action = self.action or found.get("action", "")
        if tag == "a":
            self.links.append(found.get("href", ""))
        if tag == "input" and found.get("name"):
            self.fields[found["name"]] = found.get("value", "")
        if tag == "button":
            self.buttons.append((found.get("name", ""), found.get("value", "")))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@dataclass
class Browser:
    """Keeps cookies and the page it is at."""

    send: Send
    origin: str = ""
    cookies: dict[str, str] = field(default_factory=dict)
    answer: Any = None

    def open(self, address: str) -> str:
        """Go to an address; the page's text."""
        return self._ask("GET", address, None)

    def submit(self, press: str = "", **typed: str) -> str:
        """Fill the page's form in and send it by the button ``press``; the next page's text, if
        need be by another address of the server's."""
        page = self._page()
        values = {**page.fields, **typed}
        for name, value in page.buttons:
            if name and value == press:
                values[name] = value
        text = self._ask("POST", page.action, urlencode(values))
        return self.open(self.location) if self.location.startswith("/") else text

    def post(self, action: str, values: dict[str, str]) -> str:
        """Send a form as some page would."""
        return self._ask("POST", action, urlencode(values))

    @property
    def links(self) -> list[str]:
        return self._page().links

    @property
    def fields(self) -> dict[str, str]:
        return self._page().fields

    @property
    def action(self) -> str:
        return self._page().action

    @property
    def location(self) -> str:
        return str(self.answer.headers.get("location", ""))

    def _page(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.answer.content.decode())
        return reader

    def _ask(self, method: str, address: str, form: str | None) -> str:
        origin = {"origin": self.origin} if form is not None and self.origin else {}
        jar = "; ".join(f"{key}={value}" for key, value in self.cookies.items())
        self.answer = self.send(method, address, form, origin | ({"cookie": jar} if jar else {}))
        given = self.answer.headers.get("set-cookie", "")
        if given:
            key, _, value = given.partition(";")[0].partition("=")
            self.cookies[key] = value.strip('"')
        return " ".join(self._page().text)


def web_browser(url: str, ca: str) -> Browser:
    """A browser that trusts the CA in the file ``ca``; it follows no redirect by itself."""
    trust = ssl.create_default_context(cafile=ca)
    client = httpx2.Client(base_url=url, verify=trust, timeout=30, trust_env=False)

    def send(method: str, address: str, form: str | None, headers: dict[str, str]) -> Answered:
        client.cookies.clear()
        if form is None:
            return client.request(method, address, headers=headers)
        sent = {**headers, "content-type": "application/x-www-form-urlencoded"}
        return client.request(method, address, content=form.encode(), headers=sent)

    return Browser(send, url)


def sign_in_by_code(url: str, ca: str, user_code: str, name: str, password: str) -> str:
    """What a person does who was shown a device code; the last page's text."""
    person = web_browser(url, ca)
    person.open("/adfs/oauth2/deviceauth")
    person.submit(user_code=user_code)
    return person.submit("allow", username=name, password=password)
