"""How the fuzzed and the model-based tests choose their examples: always the same, or by a seed.

``WAFFLE_FUZZ=deep``, as ``make fuzz`` sets it, goes by ``--hypothesis-seed``, and takes twice the
steps. ``unshrunk``, as ``make mutants`` sets it, ends at the first example that fails, and does not
look for a shorter one. Everything else takes the same examples each time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

_CHOSEN = os.environ.get("WAFFLE_FUZZ")
DEEP = _CHOSEN == "deep"
_MORE_STEPS = 2

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# No database: a seed decides all.
settings.register_profile("deep", settings.get_profile("ci"), derandomize=False)
settings.register_profile(
    "unshrunk", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(_CHOSEN if _CHOSEN in ("deep", "unshrunk") else "ci")


def effort(examples: int, *, steps: int = 50) -> settings:
    """Return the settings of a test that tries so many examples.

    :param steps: of each example in the quick profile, if it is one of a state machine.
    """
    return settings(max_examples=examples, stateful_step_count=steps * (_MORE_STEPS if DEEP else 1))
