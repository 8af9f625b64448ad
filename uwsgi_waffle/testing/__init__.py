"""For your tests: the fixture ``waffle_override``, and the contract that every store keeps.

pytest is needed to run them, not to import this module::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            store = MyStore(tmp_path / "settings")
            yield store
            store.close()
"""

from __future__ import annotations

import contextlib

from .assertions import stored
from .forked import in_processes
from .load_contract import LoadContract
from .report_contract import ReportContract
from .store_contract import StoreContract

with contextlib.suppress(ImportError):  # this package can be imported without pytest
    from .fixture import Override as Override
    from .fixture import waffle_override as waffle_override

__all__ = ["LoadContract", "ReportContract", "StoreContract", "in_processes", "stored"]
