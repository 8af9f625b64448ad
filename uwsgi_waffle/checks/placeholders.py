"""``$(NAME)``, ``@(file)`` and ``%(option)`` in values, replaced as uWSGI does.

Source: uwsgi_apply_config_pass in core/uwsgi.c and uwsgi_manage_placeholder in core/config.c,
uWSGI 2.0.31.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_INT64 = 1 << 64
_MAX = (1 << 63) - 1


def substituted(
    symbol: str,
    text: str,
    value_of: Callable[[str], str | None],
    spend: Callable[[str], str],
) -> str:
    """Return a text in which every ``symbol(name)`` that has a value is replaced by it.

    After each replacement uWSGI begins again at the second character, so that a value that
    is nothing but a placeholder is not looked into, and one that names itself never ends.

    :param spend: called with the text after each replacement; raises once that is enough.
    """
    # What ends in a name without a value comes out alike each time.
    start = settled = 0
    while (at := text.find(f"{symbol}(", start)) >= 0:
        end = text.find(")", at + 2)
        if end < 0:
            break
        inner = text.find(symbol, at + 2, end)
        if inner >= 0:
            start = inner
            continue
        name = text[at + 2 : end]
        value = value_of(name) if name else None
        if value is None:
            start = settled = end + 1
            continue
        text = spend(text[:at] + value + text[end + 1 :])
        start = max(1, settled)
    return text


def calculated(expression: str, value_of: Callable[[str], str | None]) -> str | None:
    """Return what stands for ``%(expression)``: an option's value, or several ones put together.

    Words stand for values and are joined; ``+ - * /`` compute with the next one, from left to
    right, and ``++`` and ``--`` count by one.
    """
    if " " not in expression:
        return value_of(expression)
    result: str | None = None
    operator = ""
    for word in filter(None, expression.split(" ")):
        if word in {"++", "--"}:
            if result is not None:
                result = _text(_number(result) + (1 if word == "++" else -1))
            operator = ""
        elif word in {"+", "-", "*", "/"}:
            operator = word
        else:
            value = word if re.fullmatch("[0-9]+", word) else value_of(word) or ""
            result = _combined(operator, result or "", value)
            operator = ""
    return result


def _combined(operator: str, left: str, right: str) -> str:
    if not operator:
        return left + right
    one, other = _number(left), _number(right)
    if operator == "+":
        return _text(one + other)
    if operator == "-":
        return _text(one - other)
    if operator == "*":
        return _text(one * other)
    # As in C, towards zero; uWSGI takes a division by zero for zero.
    quotient = abs(one) // abs(other) if other else 0
    return _text(quotient if (one < 0) == (other < 0) else -quotient)


def _number(text: str) -> int:
    match = re.match(r"[ \t\n\v\f\r]*([+-]?)0*([0-9]{0,20})", text)
    if match is None or not match[2]:
        return 0
    return max(-_MAX - 1, min(_MAX, int(match[1] + match[2])))


def _text(number: int) -> str:
    number %= _INT64
    return str(number - _INT64 if number > _MAX else number)
