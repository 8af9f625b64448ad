"""How hard the fuzzed and the model-based tests try: quick and repeatable, or deep.

``WAFFLE_FUZZ=deep``, as ``make fuzz`` sets it, tries what no run before it tried, and keeps
what failed in ``.hypothesis``. Everything else takes the same examples each time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

DEEP = os.environ.get("WAFFLE_FUZZ") == "deep"
#: how many times as many examples, and as long runs, a deep search makes
_MORE_EXAMPLES = 40
_MORE_STEPS = 2

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "deep",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("deep" if DEEP else "ci")


def effort(examples: int, *, steps: int = 50) -> settings:
    """Return the settings of a test that tries so many examples in the quick profile.

    :param steps: of each example, if it is one of a state machine.
    """
    return settings(
        max_examples=examples * (_MORE_EXAMPLES if DEEP else 1),
        stateful_step_count=steps * (_MORE_STEPS if DEEP else 1),
    )
