"""For all tests."""

from __future__ import annotations

from hypothesis import settings

# A machine that tests share is slow now and then, which says nothing of the code; a failure prints how to replay it.
settings.register_profile("penstock", deadline=None, print_blob=True)
settings.load_profile("penstock")
