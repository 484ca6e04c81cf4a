"""Runs in which a relay waits: with a backlog, and with nothing to do."""
import os
import time

import proc
import work
from peers import Failure

SETTLED_CORES = 0.02  # less than this, and a backlog is at rest
STALLED_S = 3.0       # without a message: flush again


def settle(group, seconds):
    """Until the relay has put its backlog away; returns how long it took."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        before = group.cpu_seconds()
        time.sleep(0.5)
        if group.cpu_seconds() - before < SETTLED_CORES * 0.5:
            break
    return time.monotonic() - began


def drain(peer, sink, messages, seconds):
    """Flush until all of it has come, or it is clear that it will not; returns the flushes."""
    flushes, began, last, moved = 0, time.monotonic(), -1, 0.0
    while time.monotonic() - began < seconds:
        arrived = sink.stat()["unique"]
        if arrived >= messages:
            break
        if arrived != last:
            last, moved = arrived, time.monotonic()
        if flushes == 0 or time.monotonic() - moved > STALLED_S:
            peer.flush()
            flushes += 1
            moved = time.monotonic()
        time.sleep(0.02)
    return flushes


def accept_backlog(peer, shape, sink, generator, seconds, disk, result):
    messages, group = shape.count(peer.name), peer.group
    writes = work.Writes(disk)
    peak, cpu, before, clock = proc.Peak(group), group.cpu_seconds(), sink.reset(), work.Clock()
    load = generator.run(peer.ports["plain"], messages, shape.per_connection, False, seconds)
    accepted = time.monotonic()
    cpu_accept = group.cpu_seconds() - cpu
    rates = work.rates(load, {**sink.stat(), "last_at": 0}, before, generator.threads)
    for key in ("accept", "p50_ms", "p99_ms", "generator_cpu", "generator_threads", "sink_cpu",
                "generator_cpu_s_1000", "sink_cpu_s_1000"):
        result[key] = rates[key]
    result["cpu_s_1000"] = cpu_accept * 1000 / messages
    result["others"] = clock.others(result, messages, cpu_accept)
    settle(group, 15.0)
    result["settle_s"] = time.monotonic() - accepted
    result["settle_cpu_s"] = group.cpu_seconds() - cpu - cpu_accept
    result["written"] = writes.per_byte(load["bytes"] * messages)
    result["pss_peak_mb"], result["anonymous_peak_mb"], result["processes"] = peak.stop()
    result["pss_peak_mb"] /= 1e6
    result["anonymous_peak_mb"] /= 1e6


def memory_at_rest(peer, result):
    pss, anonymous, _ = proc.memory_of(peer.group.pids())
    result["pss_mb"], result["anonymous_mb"] = pss / 1e6, anonymous / 1e6
    if hasattr(peer, "queue_file"):
        result["queue_pages_mb"] = proc.mapped_pages(peer.group.pids(), peer.queue_file) / 1e6


def drain_backlog(peer, shape, sink, generator, seconds, result):
    messages, group = shape.count(peer.name), peer.group
    sink.reset()
    sink.back()
    peak, cpu, began = proc.Peak(group), group.cpu_seconds(), time.monotonic()
    result["flushes"] = drain(peer, sink, messages, seconds)
    time.sleep(1.0)
    got = sink.stat()
    if got["unique"] == 0:
        raise Failure("nothing of the backlog came")
    result["left"] = messages - got["unique"]
    if not peer.may_lag:
        work.check_arrival(got, messages, shape, generator, peer.name)
    result["drain"] = got["unique"] / (got["last_at"] - began)
    result["first_s"] = got["first_at"] - began
    result["cpu_s_1000_drain"] = (group.cpu_seconds() - cpu) * 1000 / got["unique"]
    result["pss_drain_mb"] = peak.stop()[0] / 1e6


def run_backlog(peer, shape, sink, generator, seconds, disk):
    """Accepted while the next hop is away; at rest; then it comes up and all is flushed."""
    result = {}
    sink.away()  # not warmed up: a connection to the next hop would be kept and used
    peer.start()
    try:
        accept_backlog(peer, shape, sink, generator, seconds, disk, result)
        memory_at_rest(peer, result)
        drain_backlog(peer, shape, sink, generator, seconds, result)
        return result
    except Failure as failure:
        raise work.with_log(peer, failure) from None
    finally:
        peer.stop()
        sink.back()


def run_idle(peer, submission):
    """Started once before, so that its store and its folders are there."""
    name = "submission" if submission and not peer.signs_in_clear else "plain"
    peer.start(name)
    peer.stop()
    os.sync()
    peer.start(name)
    try:
        start_cpu = peer.group.cpu_seconds()
        time.sleep(1.0)
        cpu, began = peer.group.cpu_seconds(), time.monotonic()
        time.sleep(1.0)
        cpu = (peer.group.cpu_seconds() - cpu) / (time.monotonic() - began)
        pss, anonymous, count = proc.memory_of(peer.group.pids())
        return {"start_ms": peer.start_s * 1000, "start_cpu_ms": start_cpu * 1000,
                "pss_mb": pss / 1e6, "anonymous_mb": anonymous / 1e6, "processes": count,
                "idle_cpu_ms": cpu * 1000}
    finally:
        peer.stop()
