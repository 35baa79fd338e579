"""The few pages people sign in on: plain HTML that works without scripts, under strict headers."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape

from litestar import Response

STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.5rem}h1 small{display:block;font-size:1rem;font-weight:normal}"
    "label{display:block;margin:.8rem 0}input{display:block;width:100%;font:inherit;padding:.5rem;"
    "box-sizing:border-box;border:1px solid GrayText;border-radius:4px}"
    "button{font:inherit;padding:.5rem 1.2rem;margin:.8rem .5rem 0 0;border:1px solid GrayText;"
    "border-radius:4px;cursor:pointer}"
    "button.main{background:#0b5cad;border-color:#0b5cad;color:#fff}"
    ":focus-visible{outline:3px solid #4d90fe;outline-offset:1px}"
    "strong{font-family:ui-monospace,monospace;letter-spacing:.05em}"
    ".error{border-left:4px solid #c33;padding-left:.6rem}"
    "hr{border:0;border-top:1px solid GrayText;margin:1.6rem 0 .8rem}"
)
FORWARD = "document.forms[0].submit()"
TOLD = "told"
RULE = "<hr>"


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def page(
    title: str,
    body: str,
    status: int = 200,
    *,
    targets: Iterable[str] = (),
    forward: bool = False,
    forward_to: str = "",
) -> Response[bytes]:
    """``targets``: where forms may lead beside this server; ``forward``: the first form sends
    itself; ``forward_to``: the browser goes on there by itself."""
    onward = f'<meta http-equiv="refresh" content="0;url={escape(forward_to)}">'
    script = f"<script>{FORWARD}</script>" if forward else ""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="robots" content="noindex">'
        f"{onward if forward_to else ''}<title>{escape(title)} - Holdfast</title>"
        f"<style>{STYLE}</style></head>"
        f"<body><main><h1><small>Holdfast</small>{escape(title)}</h1>{body}</main>{script}"
        "</body></html>"
    )
    policy = [
        "default-src 'none'",
        f"style-src 'sha256-{_digest(STYLE)}'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        " ".join(["form-action", "'self'", *targets]),
    ]
    if forward:
        policy.append(f"script-src 'sha256-{_digest(FORWARD)}'")
    headers = {
        "content-security-policy": "; ".join(policy),
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",  # without one, browsers hide where a form came from
        "cross-origin-opener-policy": "same-origin",
    }
    return Response(text.encode(), status_code=status, media_type="text/html", headers=headers)


def paragraph(text: str, marked: str = "") -> str:
    """``marked`` stands out at its end."""
    return f"<p>{escape(text)}{f' <strong>{escape(marked)}</strong>' if marked else ''}</p>"


def link(address: str, text: str) -> str:
    return f'<p><a href="{escape(address)}">{escape(text)}</a></p>'


def failure(text: str) -> str:
    return f'<p class="error" role="alert" id="{TOLD}">{escape(text)}</p>'


def field(
    name: str,
    label: str,
    value: str = "",
    *,
    kind: str = "text",
    hint: str = "off",
    more: str = "required",
) -> str:
    """``hint``: what a browser may fill in; ``more``: attributes of ours, as HTML."""
    plain = "" if kind == "password" else ' autocapitalize="none" spellcheck="false"'
    return (
        f'<label>{escape(label)}<input name="{escape(name)}" type="{kind}" autocomplete="{hint}" '
        f'value="{escape(value)}" maxlength="1024"{plain}{" " if more else ""}{more}></label>'
    )


def first(field: str) -> str:
    """The field where somebody goes on: it has the focus, and a failure is read out with it."""
    return field.replace("<input ", f'<input autofocus aria-describedby="{TOLD}" ', 1)


def hidden(values: Mapping[str, str]) -> str:
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in values.items()
    )


def button(label: str, name: str = "", value: str = "", *, main: bool = True) -> str:
    """A ``main`` one wants the fields filled in; the others do without."""
    named = f' name="{escape(name)}" value="{escape(value)}"' if name else ""
    kind = ' class="main"' if main else " formnovalidate"
    return f'<button type="submit"{named}{kind}>{escape(label)}</button>'


def form(action: str, *parts: str) -> str:
    return f'<form method="post" action="{escape(action)}">{"".join(parts)}</form>'
