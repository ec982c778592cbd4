"""Settings of all tests: generated examples are the same in every CI run, and no timing decides a test."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("netdsl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("netdsl"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "netdsl")
