"""Sizes of tasks on ECS (AWS, RegisterTaskDefinition)."""

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
"""CPU units of a task on Fargate, and the MiB that each may have. Fargate also sells 256 and 512 CPU units, which the
template does not offer: KCL's JVM and a model need more."""

CPU_OF_INSTANCES = range(128, 192 * VCPU + 1)
"""CPU units that a task on an instance may have."""

LARGEST_INSTANCE_MIB = 4 * 1024 * GIB
"""An upper bound of the memory of EC2's instances with GPUs."""

STOP_TIMEOUT_S = 120
"""Seconds from SIGTERM to SIGKILL in the template; Fargate allows no more."""
