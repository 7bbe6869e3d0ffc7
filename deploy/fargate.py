"""The sizes that Fargate offers: CPU units of a task, and the MiB that each may have (AWS, RegisterTaskDefinition)."""

from __future__ import annotations

GIB = 1024
VCPU = 1024
"""CPU units of one vCPU."""

SIZES = {
    1024: range(2 * GIB, 8 * GIB + 1, GIB),
    2048: range(4 * GIB, 16 * GIB + 1, GIB),
    4096: range(8 * GIB, 30 * GIB + 1, GIB),
    8192: range(16 * GIB, 60 * GIB + 1, 4 * GIB),
    16384: range(32 * GIB, 120 * GIB + 1, 8 * GIB),
}

STOP_TIMEOUT_S = 120
"""Seconds from SIGTERM to SIGKILL in the template; Fargate allows no more."""
