"""Sign-in at the OpenID provider, from our pages and back to them.

It starts by a form of our own page only, so that no link can let a program in by a session the
person has at the provider; and it ends in the browser it started in.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from anyio import to_thread
from litestar import get, post
from litestar.datastructures import Cookie

from holdfast.arm import pages
from holdfast.arm.errors import status_of
from holdfast.arm.guard import PUBLIC
from holdfast.arm.login import Form, Open, login_threads, origin_of, read_form
from holdfast.arm.sign_in import EXTERNAL, Page, check_form, hand_over, told
from holdfast.errors import AuthenticationError, HoldfastError, UsageError
from holdfast.identity.provider import Provider
from holdfast.identity.secrets import same
from holdfast.identity.sign_ins import read_code_request

CALLBACK = "/adfs/oauth2/callback"
COOKIE = "__Host-holdfast-provider"


def _provider(form: Form) -> Provider:
    found = form.platform.people.provider
    if found is None:
        raise UsageError(
            "no OpenID provider is set up",
            code="ProviderMissing",
            hint="sign in by name and password",
        )
    return found


def _base(form: Form) -> str:
    return form.platform.settings.public_url.rstrip("/") or form.base


def _failed(error: HoldfastError) -> Page:
    return pages.page("This sign-in cannot go on", told(error), status_of(error))


@post(EXTERNAL, opt=PUBLIC, status_code=200)
async def leave(request: Open) -> Page:
    """To the provider, by the browser."""
    form = await read_form(request, "provider")

    def run() -> Page:
        try:
            check_form(request, form)
            provider, then = _provider(form), _onward(form)
            callback = f"{_base(form)}{CALLBACK}"
            state, address = provider.start(callback, then, form.origin.address)
        except HoldfastError as error:
            return _failed(error)
        page = pages.page("To the provider", pages.link(address, "Go on"), forward_to=address)
        page.set_cookie(Cookie(key=COOKIE, value=state, secure=True, httponly=True, samesite="lax"))
        return page

    return await to_thread.run_sync(run, limiter=login_threads(request))


@get(CALLBACK, opt=PUBLIC)
async def come_back(request: Open) -> Page:
    """From the provider: whom it vouches for, if an account is theirs."""
    fields = {key: str(value) for key, value in request.query_params.items()}
    form = Form(request.app.state.platform, fields, "", origin_of(request, "provider"))

    def run() -> Page:
        try:
            known = request.cookies.get(COOKIE, "")
            if not known or not same(known, form["state"]) or not form["code"]:
                raise AuthenticationError(
                    f"the provider let nobody in ({form['error'][:100] or 'another browser'})",
                    code="ProviderRefused",
                    hint="start the sign-in again",
                )
            return _go_on(form)
        except HoldfastError as error:
            return _failed(error)

    return await to_thread.run_sync(run, limiter=login_threads(request))


def _onward(form: Form) -> dict[str, Any]:
    """What the browser comes back for: a code request, or a program that waits. UsageError
    (invalid_request), NotFoundError (UserCodeUnknown)."""
    if form["query"]:
        read_code_request(dict(parse_qsl(form["query"])))
    else:
        form.platform.people.sign_ins.waiting(form["user_code"], form.origin.address)
    return {"userCode": form["user_code"], "query": form["query"]}


def _go_on(form: Form) -> Page:
    people, provider = form.platform.people, _provider(form)
    if form["iss"] not in ("", provider.settings.issuer):
        raise AuthenticationError(
            "the answer is of another provider", code="ProviderRefused", hint="start again"
        )
    vouched, then = provider.finish(form["state"], form["code"])
    person = people.accounts.vouched(vouched, form.origin)
    if then["query"]:
        asked = read_code_request(dict(parse_qsl(then["query"])))
        return hand_over(form.platform, asked, person.user.principal_id)
    row = people.sign_ins.waiting(then["userCode"], form.origin.address)
    people.sign_ins.settle(row, person.user.principal_id)
    return pages.page(
        "Signed in", pages.paragraph(f"The program goes on as {person.name}. Close this page.")
    )


ROUTES = [leave, come_back]
