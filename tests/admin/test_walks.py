"""Random ways through the form: nothing that was typed is ever lost without a word."""

from __future__ import annotations

import os
import random
from typing import Any

import msgspec
import pytest

from uwsgi_waffle import OutcomeUnknown, StoreUnavailable
from uwsgi_waffle.admin.drafts import key_of

from ..support.forms import Fields, browse
from ..support.many_settings import BAD, MANY, SECRETS, Typed, typed_for
from ..support.rig import MemoryStore, Worker
from .test_views import Admin, MakeWorker

pytestmark = pytest.mark.slow

#: one number runs one walk again: ``WAFFLE_WALK=17 pytest tests/admin/test_walks.py``
WALKS = [int(os.environ["WAFFLE_WALK"])] if "WAFFLE_WALK" in os.environ else range(40)
STEPS = 14


class Store(MemoryStore):
    """A store that can lose the answer of a write that it made."""

    loses_answer = False

    def write(self, raws: Any, **options: Any) -> int:
        revision = super().write(raws, **options)
        if self.loses_answer:
            self.loses_answer = False
            raise OutcomeUnknown("the connection broke")
        return revision


class Walker:
    """A visitor who remembers what was typed, and looks for it on every page."""

    def __init__(self, admin: Admin, store: Store, dice: random.Random) -> None:
        self.admin = admin
        self.store = store
        self.dice = dice
        #: what was typed into each setting, and is neither saved nor discarded
        self.typed: dict[str, Typed] = {}
        self.reason = ""
        self.steps: list[str] = []
        self.page = admin.open()
        #: how many pages of each kind were seen
        self.seen: dict[str, int] = {}

    @property
    def is_form(self) -> bool:
        return "data-settings" in self.page.text

    def walk(self) -> None:
        for _ in range(STEPS):
            actions = self._on_form() if self.is_form else self._on_review()
            action = self.dice.choice(actions)
            self.steps.append(action.__name__)
            page = self.page
            action()
            if self.page is not page:
                self._look()
        self._finish()

    def _on_form(self) -> list[Any]:
        return [
            *(self.type, self.correct, self.correct_and_review),
            *(self.review, self.expire, self.others),
        ]

    def _on_review(self) -> list[Any]:
        return [self.back, self.save, self.break_store, self.lose, self.others_and_save]

    # --- what the visitor does -------------------------------------------------------------

    def type(self) -> None:
        for name in self.dice.sample(sorted(MANY), self.dice.randint(1, 10)):
            self.typed[name] = self.dice.choice(typed_for(name))

    def correct(self) -> None:
        for name, typed in self.typed.items():
            if typed.value is BAD:
                self.typed[name] = next(t for t in typed_for(name) if t.value is not BAD)

    def correct_and_review(self) -> None:
        self.correct()
        self.review()

    def review(self) -> None:
        self._send("/preview", self._fields())

    def others_and_save(self) -> None:
        self.others()
        self.save()

    def back(self) -> None:
        self._send("/edit", self.page.form("/save"))

    def save(self) -> None:
        fields = self.page.form("/save")
        for name in set(self.typed).intersection(SECRETS):
            if f"p-{name}" in fields:
                fields[f"v-{name}"] = self.typed[name].fields["v"]
        if "choose" in fields:
            for name in self.typed:
                fields[f"k-{name}"] = ["1"]
        self._send("/save", fields)

    def expire(self) -> None:
        config = self.admin.worker.app.config
        config["WTF_CSRF_TIME_LIMIT"] = -1
        self._send("/preview", self._fields())
        config["WTF_CSRF_TIME_LIMIT"] = 3600

    def break_store(self) -> None:
        self.store.errors["write"] = StoreUnavailable("no luck")
        self.save()
        self.store.errors.clear()

    def lose(self) -> None:
        self.store.loses_answer = True
        self.save()
        self.store.loses_answer = False

    def others(self) -> None:
        """Somebody in another tab changes one setting."""
        name = self.dice.choice([name for name in MANY if name not in SECRETS])
        values = [typed.value for typed in typed_for(name) if typed.value is not BAD]
        self.admin.worker.waffle.update({name: self.dice.choice(values)}, author="bob")

    # --- what the pages must hold ------------------------------------------------------------

    def _look(self) -> None:
        text = self.page.text
        if "Saved as revision" in text or "what you sent is current already" in text:
            self._check_saved()
            self.typed.clear()
            self._seen("saved")
        elif self.is_form:
            self._seen(f"form {self.page.code}")
            self._check_form()
        else:
            self._seen(f"review {self.page.code}")
            self._check_review()

    def _check_form(self) -> None:
        form = self.page.form("/preview")
        for name, typed in self.typed.items():
            if name in SECRETS:
                assert f"p-{name}" in form, f"{name} is forgotten"
                continue
            if typed.value is not BAD and _is_current(self.admin, name, typed.value):
                continue
            for prefix, texts in typed.fields.items():
                shown = form.get(f"{prefix}-{name}", [])
                if prefix in ("vk", "vv"):
                    shown = shown[: len(texts)]
                assert shown == texts, f"{prefix}-{name} is another: {shown}"

    def _check_review(self) -> None:
        form = self.page.form("/save")
        for name, typed in self.typed.items():
            assert typed.value is not BAD, f"{name} is let through"
            if name in SECRETS:
                assert f"p-{name}" in form, f"{name} is forgotten"
            elif not _is_current(self.admin, name, typed.value):
                assert f"v-{name}" in form, f"{name} is forgotten"

    def _check_saved(self) -> None:
        for name, typed in self.typed.items():
            assert typed.value is not BAD
            assert self.admin.conf[name] == typed.value, f"{name} is not saved"

    def _finish(self) -> None:
        """Correct what is wrong, and save: all that was typed must be in effect."""
        self.steps.append("finish")
        if not self.is_form:
            self.back()
        self.correct()
        for _ in range(4):
            if self.is_form:
                self.review()
            else:
                self.save()
            if "Saved as revision" in self.page.text or "is current already" in self.page.text:
                break
        else:
            pytest.fail("it can't be saved")
        self._check_saved()

    def _fields(self) -> Fields:
        """What a browser sends: what the page holds, and above it what was typed."""
        fields = self.page.form("/preview")
        for name, typed in self.typed.items():
            for prefix in self._prefixes(name):
                if prefix[0] in "vn":
                    fields.pop(f"{prefix}-{name}", None)
            fields.update({f"{prefix}-{name}": texts for prefix, texts in typed.fields.items()})
        return fields

    def _prefixes(self, name: str) -> set[str]:
        form = self.page.form("/preview")
        return {key.partition("-")[0] for key in form if key.partition("-")[2] == key_of(name)}

    def _send(self, path: str, fields: Fields) -> None:
        self.page = browse(self.admin.client, f"/settings{path}", fields, method="post")
        assert self.page.code in (200, 400, 409, 422, 503), self.page.text

    def _seen(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1


def _is_current(admin: Admin, name: str, value: Any) -> bool:
    admin.worker.waffle.refresh()
    return bool(msgspec.to_builtins(admin.conf[name]) == msgspec.to_builtins(value))


def make_walker(make_worker: MakeWorker, seed: int) -> Walker:
    store = Store()
    worker: Worker = make_worker(confs=MANY, SECRET_KEY="k", store=store)
    blueprint = worker.waffle.admin_blueprint(lambda: "ann")
    worker.app.register_blueprint(blueprint, url_prefix="/settings")
    return Walker(Admin(worker), store, random.Random(seed))


@pytest.mark.parametrize("seed", WALKS)
def test_nothing_that_was_typed_is_lost_without_a_word(make_worker: MakeWorker, seed: int) -> None:
    walker = make_walker(make_worker, seed)
    try:
        walker.walk()
    except AssertionError as exc:
        typed = {name: typed.fields for name, typed in walker.typed.items()}
        raise AssertionError(f"walk {seed}: {walker.steps}\n{typed}\n{exc}") from exc


def test_walks_meet_every_kind_of_page(make_worker: MakeWorker) -> None:
    seen: set[str] = set()
    for seed in range(12):
        walker = make_walker(make_worker, seed)
        walker.walk()
        seen.update(walker.seen)
    assert seen >= {
        *("saved", "form 200", "form 400", "form 422"),
        *("review 200", "review 409", "review 503"),
    }
