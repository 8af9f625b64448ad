"""A visitor without JavaScript: reads the forms of a page and sends them as a browser would."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

Fields = dict[str, list[str]]


class _Form:
    def __init__(self, attributes: Mapping[str, str]) -> None:
        self.action = attributes.get("action", "")
        self.method = attributes.get("method", "get").lower()
        self.fields: Fields = {}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[_Form] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self._text: list[str] | None = None
        self._area = ""
        self._select = ""
        self._option: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag == "form":
            self.forms.append(_Form(attributes))
        name = attributes.get("name", "")
        if tag == "input" and name:
            if attributes.get("type") == "checkbox" and "checked" not in attributes:
                return
            self._add(name, attributes.get("value", ""))
        elif tag == "textarea":
            self._area, self._text = name, []
        elif tag == "select":
            self._select, self._option = name, None
        elif tag == "option" and ("selected" in attributes or self._option is None):
            self._option = attributes.get("value", "")

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._text is not None:
            text = "".join(self._text).replace("\r\n", "\n")
            # Browsers drop one line end after the tag, and send every other as CRLF.
            self._add(self._area, text.removeprefix("\n").replace("\n", "\r\n"))
            self._text = None
        elif tag == "select":
            self._add(self._select, self._option or "")

    def _add(self, name: str, value: str) -> None:
        if self.forms and name:
            self.forms[-1].fields.setdefault(name, []).append(value)


class Page:
    """One answer, as a visitor sees it."""

    def __init__(self, client: FlaskClient, response: TestResponse) -> None:
        reader = _Reader()
        reader.feed(response.text)
        self._client = client
        self._forms = reader.forms
        self.tags = reader.tags
        self.response = response
        self.code = response.status_code
        self.text = response.text

    def form(self, action: str) -> Fields:
        """Return what the form with this end of its action would send now."""
        return {name: list(sent) for name, sent in self._find(action).fields.items()}

    def submit(self, action: str, *, to: str | None = None, **changes: Any) -> Page:
        """Send a form after typing; ``v_NAME="x"`` types into ``v-NAME``, ``None`` takes out.

        :param to: the action of the button that is pressed, if it has one of its own.
        """
        form = self._find(action)
        fields = self.form(action)
        for name, value in changes.items():
            key = name.replace("_", "-", 1)
            if value is None:
                fields.pop(key, None)
            else:
                fields[key] = value if isinstance(value, list) else [value]
        url = form.action if to is None else form.action[: -len(action)] + to
        return browse(self._client, url, fields, method=form.method)

    def control(self, name: str) -> dict[str, str]:
        """Return the attributes of the control of a setting, and its tag as ``tag``."""
        for tag, attributes in self.tags:
            if attributes.get("id") == f"f-{name}":
                return {**attributes, "tag": tag}
        raise AssertionError(f"no control for {name}")

    def by_id(self, id_: str) -> dict[str, str]:
        """Return the attributes of an element."""
        return next(attributes for _, attributes in self.tags if attributes.get("id") == id_)

    def _find(self, action: str) -> _Form:
        return next(form for form in self._forms if form.action.endswith(action))


def browse(
    client: FlaskClient, url: str, fields: Fields | None = None, *, method: str = "get"
) -> Page:
    """Return the page that a visitor gets, after redirects."""
    if method == "get":
        answer = client.get(url, query_string=fields, follow_redirects=True)
    else:
        answer = client.post(url, data=fields, follow_redirects=True)
    return Page(client, answer)
