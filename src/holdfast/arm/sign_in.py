"""The pages of a sign-in: type the code of a program, see who asks, prove who you are.

A form is answered only with the cookie its page was sent with, so no other site can send one. Who
types a code sees which program asked for it, and from where, before signing in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from anyio import to_thread
from litestar import Response, get, post
from litestar.datastructures import Cookie

from holdfast.arm import pages
from holdfast.arm.errors import status_of
from holdfast.arm.guard import PUBLIC
from holdfast.arm.login import Form, Open, login_threads, origin_of, read_form
from holdfast.catalog.people import SignInRow
from holdfast.errors import HoldfastError, UsageError
from holdfast.identity.secrets import new_secret, same
from holdfast.identity.sign_ins import CodeRequest, read_code_request
from holdfast.services.platform import Platform

EXTERNAL = "/adfs/oauth2/external"
DEVICE, AUTHORIZE = "/adfs/oauth2/deviceauth", "/adfs/oauth2/authorize"
COOKIE = "__Host-holdfast-form"
PROGRAMS = {
    "04b07795-8ddb-461a-bbee-02f9e1bf7b46": "Azure CLI or an Azure SDK",
    "holdfast": "the holdfast command",
}
HINTS = {  # where what a program's user is told does not help
    "interaction_required": "type your password and the code that the app shows now",
}
Page = Response[bytes]


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a page needs beside its text: the token of its form."""

    token: str

    def form(self, action: str, *parts: str) -> str:
        return pages.form(action, pages.hidden({"form": self.token}), *parts)

    def sent(self, page: Page) -> Page:
        """With the cookie that lets its form be answered."""
        page.set_cookie(
            Cookie(key=COOKIE, value=self.token, secure=True, httponly=True, samesite="strict")
        )
        return page


def sheet_of(request: Open) -> Sheet:
    """The browser's token, or a new one."""
    known = request.cookies.get(COOKIE, "")
    good = 32 <= len(known) <= 64 and known.replace("-", "").replace("_", "").isalnum()
    return Sheet(known if good else new_secret(request.app.state.platform.rng))


def check_form(request: Open, form: Form) -> None:
    """UsageError (FormExpired) unless the form is of a page this browser got from here."""
    known, given = request.cookies.get(COOKIE, ""), form["form"]
    host = request.headers.get("host", "")
    origin = request.headers.get("origin") or f"https://{host}"
    if not known or not same(known, given) or urlsplit(origin).netloc != host:
        raise UsageError(
            "this form did not come from this server's page, or is too old",
            code="FormExpired",
            hint="open the page again; cookies must be allowed",
        )


def program(client_id: str) -> str:
    return PROGRAMS.get(client_id, f"a program that calls itself {client_id[:60]!r}")


def _elsewhere(form: Form, sheet: Sheet, **values: str) -> str:
    """The way by the OpenID provider, when there is one."""
    provider = form.platform.people.provider
    if provider is None:
        return ""
    label = f"Sign in with {provider.settings.shown}"
    way = sheet.form(EXTERNAL, pages.hidden(values), pages.button(label, main=False))
    return pages.RULE + way


def _proof(form: Form) -> str:
    """The fields of a sign-in, the name kept after a failure."""
    name = pages.field("username", "User name", form["username"], hint="username")
    password = pages.field("password", "Password", kind="password", hint="current-password")
    code = pages.field("totp", "Code of your authenticator app (if you use one)",
                       hint="one-time-code", more='inputmode="numeric"')  # fmt: skip
    if form["username"]:
        return name + pages.first(password) + code
    return pages.first(name) + password + code


def told(error: HoldfastError) -> str:
    """A failure, for somebody at a page."""
    hint = HINTS.get(error.code, error.hint)
    said = [f"{one[:1].upper()}{one[1:]}." for one in (error.message, hint) if one]
    return pages.failure(" ".join(said))


async def _shown(
    request: Open, form: Form, act: Callable[[Form, Sheet], Page], again: Callable[..., Page]
) -> Page:
    """``act`` in a thread; a refusal is told on the page ``again``."""
    sheet = sheet_of(request)

    def run() -> Page:
        try:
            if request.method == "POST":
                check_form(request, form)
            return act(form, sheet)
        except HoldfastError as error:
            return again(form, sheet, told(error), status_of(error))

    return sheet.sent(await to_thread.run_sync(run, limiter=login_threads(request)))


# by device code


def _ask_code(form: Form, sheet: Sheet, said: str = "", status: int = 200) -> Page:
    return pages.page(
        "Sign in to a program",
        said
        + sheet.form(
            DEVICE,
            pages.first(pages.field("user_code", "Code that the program shows", form["user_code"])),
            pages.button("Next"),
        ),
        status,
    )


def _ask_proof(form: Form, sheet: Sheet, said: str = "", status: int = 200) -> Page:
    """Only for a code that waits; else the code is asked for again."""
    try:
        row = _waiting(form)
    except HoldfastError as error:
        return _ask_code(form, sheet, said or told(error), status_of(error))
    return _proof_page(form, sheet, row, said, status)


def _proof_page(form: Form, sheet: Sheet, row: SignInRow, said: str, status: int) -> Page:
    who = f"{program(row.body['clientId'])} at {row.body['address']} wants to act for you."
    return pages.page(
        "Sign in to a program",
        said
        + pages.paragraph(f"{who[:1].upper()}{who[1:]}")
        + pages.paragraph(
            "Go on only if you started it yourself, just now, and it shows the code",
            shown_code(row),
        )
        + sheet.form(
            DEVICE,
            pages.hidden({"user_code": form["user_code"]}),
            _proof(form),
            pages.button("Sign in", "decision", "allow"),
            pages.button("Refuse", "decision", "deny", main=False),
        )
        + _elsewhere(form, sheet, user_code=form["user_code"]),
        status,
    )


def shown_code(row: SignInRow) -> str:
    """A code as its program shows it."""
    code = row.user_code or ""
    return f"{code[:4]}-{code[4:]}"


def _waiting(form: Form) -> SignInRow:
    return form.platform.people.sign_ins.waiting(form["user_code"], form.origin.address)


def _device_step(form: Form, sheet: Sheet) -> Page:
    row = _waiting(form)
    people = form.platform.people
    if form["decision"] == "deny":
        people.sign_ins.settle(row, None)
        return pages.page("Refused", pages.paragraph("The program was not let in."))
    if form["decision"] != "allow":  # by an address of its own, for the browser's way back
        page = pages.page("Go on", "", 303)
        page.headers["location"] = f"{DEVICE}?{urlencode({'user_code': shown_code(row)})}"
        return page
    proof = form["username"], form["password"], form["totp"]
    person = people.accounts.prove(*proof, form.origin)
    people.sign_ins.settle(row, person.user.principal_id)
    return pages.page(
        "Signed in", pages.paragraph(f"The program goes on as {person.name}. Close this page.")
    )


@get(DEVICE, opt=PUBLIC)
async def device_page(request: Open) -> Page:
    """Where somebody types the code of a program, or sees who asks when the address holds it."""
    code = str(request.query_params.get("user_code", ""))[:20]
    form = Form(request.app.state.platform, {"user_code": code}, "", origin_of(request, "page"))
    ask = _ask_proof if code else _ask_code
    return await _shown(request, form, ask, ask)


@post(DEVICE, opt=PUBLIC, status_code=200)
async def device_answer(request: Open) -> Page:
    """The code that was typed, then the sign-in itself."""
    form = await read_form(request, "page")
    return await _shown(request, form, _device_step, _ask_proof)


# by authorization code


def _query(request: Open) -> dict[str, str]:
    return {key: str(value) for key, value in request.query_params.items()}


def _target(asked: CodeRequest) -> str:
    parts = urlsplit(asked.redirect_uri)
    return f"{parts.scheme}://{parts.netloc}"


def _ask_person(asked: CodeRequest, query: str) -> Callable[..., Page]:
    def ask(form: Form, sheet: Sheet, said: str = "", status: int = 200) -> Page:
        return pages.page(
            "Sign in",
            said
            + pages.paragraph(f"You sign in to {program(asked.client_id)} on this machine.")
            + sheet.form(f"{AUTHORIZE}?{query}", _proof(form), pages.button("Sign in"))
            + _elsewhere(form, sheet, query=query),
            status,
            targets=[_target(asked)],
        )

    return ask


def hand_over(platform: Platform, asked: CodeRequest, principal_id: str) -> Page:
    """Bring the code to the program that asked, by the browser."""
    code = platform.people.sign_ins.give_code(asked, principal_id)
    values = {"code": code, **({"state": asked.state} if asked.state else {})}
    if asked.form_post:
        body = pages.form(asked.redirect_uri, pages.hidden(values), pages.button("Go on"))
        return pages.page("Signed in", body, targets=[_target(asked)], forward=True)
    joint = "&" if urlsplit(asked.redirect_uri).query else "?"
    page = pages.page("Signed in", pages.paragraph("Close this page."), 303)
    page.headers["location"] = f"{asked.redirect_uri}{joint}{urlencode(values)}"
    return page


async def _authorize(request: Open, form: Form) -> Page:
    query = _query(request)
    try:
        asked = read_code_request(query)
    except UsageError as error:
        return pages.page("This sign-in cannot go on", told(error), 400)
    ask = _ask_person(asked, urlencode(query))

    def act(form: Form, sheet: Sheet) -> Page:
        if request.method != "POST":
            return ask(form, sheet)
        proof = form["username"], form["password"], form["totp"]
        person = form.platform.people.accounts.prove(*proof, form.origin)
        return hand_over(form.platform, asked, person.user.principal_id)

    return await _shown(request, form, act, ask)


@get(AUTHORIZE, opt=PUBLIC)
async def authorize_page(request: Open) -> Page:
    """Where a program on the same machine sends the browser: authorization code with PKCE."""
    empty: dict[str, Any] = {}
    form = Form(request.app.state.platform, empty, "", origin_of(request, "page"))
    return await _authorize(request, form)


@post(AUTHORIZE, opt=PUBLIC, status_code=200)
async def authorize_answer(request: Open) -> Page:
    """The sign-in itself; the browser brings the code back."""
    return await _authorize(request, await read_form(request, "page"))


ROUTES = [device_page, device_answer, authorize_page, authorize_answer]
