"""The 42 settings of a shop: each type that has a control of its own, in six groups."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
Long = Annotated[str, msgspec.Meta(max_length=2000)]
Day = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


class Sender(msgspec.Struct):
    name: str = "Waffle House"
    address: str = "orders@example.org"
    reply: bool = True


class Limits(msgspec.Struct):
    per_minute: int = 60
    burst: int = 10
    block: bool = False


def setting(label: str, desc: str, default: Any, type_: Any, **more: Any) -> dict[str, Any]:
    return {"label": label, "desc": desc, "default": default, "type": type_, **more}


def _group(group: str, **settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {**spec, "group": group} for name, spec in settings.items()}


SHOP: dict[str, dict[str, Any]] = {
    **_group(
        "Shop",
        SITENAME=setting("Name", "Shown in the header of every page", "Waffle House", Text),
        TAGLINE=setting("Tagline", "Beneath the name", None, str | None),
        SHOP_OPEN=setting(
            "Take orders", "Off: the shop can be seen, but nothing bought", True, bool
        ),
        ANNOUNCEMENT=setting(
            "Announcement",
            "Above the first page, until it is empty",
            "We bake again from Monday on.\nPick up your order from 9 o'clock.",
            Long,
        ),
        ANNOUNCEMENT_TONE=setting(
            "Tone of the announcement",
            "Its colour",
            "info",
            Literal["info", "warning", "alarm"],
        ),
        OPENS_AT=setting("Opens at", "From then on orders are taken", time(8), time),
        CLOSED_DAYS=setting(
            "Closed on", "No orders are taken on these days", ["Sunday"], list[Day]
        ),
    ),
    **_group(
        "Prices",
        CURRENCY=setting("Currency", "Beside every price", "EUR", Literal["EUR", "USD", "GBP"]),
        VAT=setting("Value-added tax", "In per cent", Decimal("7.0"), Decimal, min=Decimal(0)),
        FREE_FROM=setting(
            "Free delivery from", "Orders above cost no delivery", 40, int, min=0, max=500
        ),
        DELIVERY_FEES=setting(
            "Delivery fees",
            "For each zone, in euros",
            {"city": Decimal("2.50"), "suburbs": Decimal("4.90")},
            dict[str, Decimal],
        ),
        DISCOUNT=setting("Discount", "On everything, as a share", 0.0, float, min=0.0, max=0.9),
        SALE_ENDS=setting(
            "Sale ends",
            "Then the discount is over",
            datetime(2027, 4, 1, 22, 0, tzinfo=timezone.utc),
            datetime,
        ),
        COUPONS=setting("Coupons", "Codes that take a tenth off", {"WELCOME", "SPRING"}, set[str]),
    ),
    **_group(
        "Uploads",
        UPLOADS=setting("Take uploads", "Pictures that customers send", True, bool),
        UPLOAD_LIMIT=setting("Largest upload", "In kilobytes", 1000, int, min=1, max=50_000),
        UPLOAD_TYPES=setting(
            "Kinds of files",
            "Others are refused",
            ["image/png", "image/jpeg"],
            list[str],
        ),
        UPLOADS_KEPT=setting("Kept for", "Older ones are removed", timedelta(days=7), timedelta),
        QUOTAS=setting(
            "Quotas",
            "Megabytes for each plan",
            {"free": 10, "team": 500},
            dict[str, int],
        ),
        SCANNER=setting("Address of the scanner", "Asked before a file is kept", None, str | None),
        THUMBNAILS=setting("Sizes of thumbnails", "In pixels", [120, 480], list[int]),
    ),
    **_group(
        "Mail",
        MAIL=setting("Send mail", "Off: mail waits in its queue", True, bool),
        MAIL_SENDER=setting("Sender", "Whom mail comes from", Sender(), Sender),
        SMTP_HOST=setting("Mail server", "Its host", "mail.example.org", str),
        SMTP_PORT=setting(
            "Port of the mail server", "465 or 587, most often", 587, int, min=1, max=65535
        ),
        SMTP_PASSWORD=setting(
            "Password of the mail server",
            "For the name of the sender",
            "hush-hush",
            str,
            secret=True,
        ),
        MAIL_FOOTER=setting(
            "Footer",
            "Beneath every mail",
            "Waffle House\n1 Market Square",
            Long,
        ),
        MAIL_PAUSE=setting(
            "Pause after a failure", "Then it is tried again", timedelta(minutes=5), timedelta
        ),
    ),
    **_group(
        "Search",
        SEARCH=setting("Search", "A field in the header", True, bool),
        SEARCH_ENGINE=setting(
            "Engine",
            "What answers a search",
            "database",
            Literal["database", "external"],
        ),
        SEARCH_KEY=setting(
            "Key of the engine", "Of the external one", "hush-hush", str, secret=True
        ),
        SEARCH_WEIGHTS=setting(
            "Weights",
            "How much a word counts where it stands",
            {"title": 3.0, "text": 1.0},
            dict[str, float],
        ),
        SYNONYMS=setting(
            "Synonyms",
            "Words that find each other",
            {"waffle": ["gaufre", "wafer"], "cream": ["chantilly"]},
            dict[str, list[str]],
        ),
        STOP_WORDS=setting("Stop words", "Not searched for", ["and", "or", "the"], list[str]),
        SEARCH_SINCE=setting(
            "Nothing before", "Older articles are not found", date(2024, 1, 1), date
        ),
    ),
    **_group(
        "Security",
        MAINTENANCE=setting("Maintenance", "Everybody but the staff sees a notice", False, bool),
        SESSION_LENGTH=setting(
            "Session", "Then a customer logs in again", timedelta(hours=8), timedelta
        ),
        LOGIN_TRIES=setting("Failed logins", "Then the account is locked", 5, int, min=1, max=20),
        RATE_LIMITS=setting("Rate limits", "For each address", Limits(), Limits),
        ALLOWED_HOSTS=setting(
            "Hosts", "Names this site answers to", ["shop.example.org"], list[str]
        ),
        SIGNING_KEY=setting("Signing key", "Signs links to uploads", "hush-hush", str, secret=True),
        RELEASED=setting("Released", "Day of the last release", date(2026, 5, 31), date),
    ),
}
