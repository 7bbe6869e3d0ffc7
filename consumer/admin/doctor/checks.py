"""The checks of ``penstock doctor``, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from consumer.admin.doctor import leases, machine, permissions, sinks, stream
from consumer.admin.doctor.findings import Finding
from consumer.admin.doctor.subject import Subject

CHECKS: Mapping[str, Callable[[Subject], Iterator[Finding]]] = {
    "java": machine.java,
    "kcl": machine.jars,
    "cores": machine.cores,
    "memory": machine.memory,
    "disk": machine.disk,
    "model": machine.model,
    "drain": machine.drain_time,
    "credentials": stream.credentials,
    "permissions": permissions.permissions,
    "stream": stream.stream,
    "encryption": stream.encryption,
    "clock": stream.clock,
    "tables": leases.tables,
    "application": leases.application,
    "max_leases": leases.max_leases,
    "heap": machine.heap,
    "stores": sinks.stores,
    "columns": sinks.table,
    "downstream": sinks.downstream,
}
