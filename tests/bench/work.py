"""The load generator and the sink, and one measured run of a relay between them."""
import json
import os
import subprocess
import time

import peers
import proc
from peers import Failure

SINK_CAPACITY = 2_000_000


class Shape:
    """One workload: what is submitted, and how. Slow peers get a share of the messages."""

    def __init__(self, name, title, submission, per_connection, messages, slow, size=None):
        self.name, self.title = name, title
        self.submission, self.per_connection, self.messages = submission, per_connection, messages
        self.slow, self.size = slow, size

    def count(self, peer_name):
        return max(100, int(self.messages * self.slow.get(peer_name, 1)))


class Sink:
    def __init__(self, programs):
        self.process = subprocess.Popen(
            [f"{programs}/smtpsink", str(peers.free_port()), str(SINK_CAPACITY)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())

    def _say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def reset(self):
        return self._say("reset")

    def refuse(self):
        return self._say("refuse")

    def away(self):
        return self._say("away")

    def back(self):
        return self._say("back")

    def stat(self):
        return self._say("stat")

    def wait(self, count, seconds):
        """Until `count` different messages are here, and nothing more comes."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.stat()["unique"] >= count:
                return
            time.sleep(0.02)

    def stop(self):
        self.process.stdin.close()
        peers.end_process(self.process)


class Generator:
    def __init__(self, programs, size, connections, threads, program):
        self.programs, self.size, self.connections = programs, size, connections
        self.threads, self.program = threads, program

    def run(self, port, messages, per_connection, submission, seconds, *more):
        if self.program == "smtp-source" and not submission:
            return self._smtp_source(port, messages, per_connection)
        command = [f"{self.programs}/smtpload", "-c", str(self.connections), "-n", str(messages),
                   "-l", str(self.size), "-m", str(per_connection), "-t", str(self.threads),
                   "-d", str(seconds), *more]
        if submission:
            command += ["-s", "-u", peers.USER, "-w", peers.PASSWORD]
        done = subprocess.run(command + [str(port)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=seconds + 30)
        if not done.stdout:
            raise Failure(f"smtpload: {done.stderr}")
        result = json.loads(done.stdout)
        if result["accepted"] != messages:
            raise Failure(f"only {result['accepted']} of {messages} messages were accepted, "
                          f"{result['refused']} refused, {result['troubles']} connections failed: "
                          f"{done.stderr.strip()}")
        if submission and per_connection == 1 and result["handshakes"] != messages:
            raise Failure(f"{result['handshakes']} handshakes for {messages} connections")
        return result

    def _smtp_source(self, port, messages, per_connection):
        command = ["smtp-source", "-s", str(self.connections), "-m", str(messages), "-l",
                   str(self.size), "-N", "-f", "bench@bench.test", "-t", "@sink.test"]
        if per_connection != 1:
            command.append("-d")
        before, began = os.times(), time.monotonic()
        peers.must(command + [f"127.0.0.1:{port}"])
        ended, after = time.monotonic(), os.times()
        cpu = (after.children_user + after.children_system
               - before.children_user - before.children_system)
        return {"accepted": messages, "began_at": began, "ended_at": ended, "cpu_s": cpu,
                "p50_ms": None, "p99_ms": None, "bytes": self.size}


def check_arrival(got, messages, shape, generator, name):
    """Every accepted message is there once, whole, and signed if it was to be."""
    wrong = []
    if got["unique"] != messages:
        wrong.append(f"{messages - got['unique']} of {messages} accepted messages lost")
    for what in ("duplicates", "unknown"):
        if got[what]:
            wrong.append(f"{got[what]} {what}")
    if generator.program == "smtpload" and got["damaged"]:
        wrong.append(f"{got['damaged']} damaged")
    if shape.submission and got["signed"] != messages:
        wrong.append(f"only {got['signed']} signed")
    if wrong:
        raise Failure(f"{name}, {shape.title}: " + ", ".join(wrong))


def rates(load, got, before, threads):
    seconds = load["ended_at"] - load["began_at"]
    whole = max(got["last_at"], load["ended_at"]) - load["began_at"]
    thousand = load["accepted"] / 1000
    return {
        "accept": load["accepted"] / seconds,
        "end_to_end": load["accepted"] / whole,
        "p50_ms": load["p50_ms"],
        "p99_ms": load["p99_ms"],
        "generator_cpu": load["cpu_s"] / seconds,
        "generator_threads": threads,
        "sink_cpu": (got["cpu_s"] - before["cpu_s"]) / whole,
        "generator_cpu_s_1000": load["cpu_s"] / thousand,
        "sink_cpu_s_1000": (got["cpu_s"] - before["cpu_s"]) / thousand,
        "sink_connections": got["connections"],
    }


class Clock:
    """Tells how much of the machine somebody else used meanwhile."""

    def __init__(self):
        self.began, self.busy = time.monotonic(), proc.machine_cpu_seconds()
        self.stolen = proc.stolen_seconds()

    def stolen_share(self):
        """Of all cores' time, until now."""
        seconds = (time.monotonic() - self.began) * len(os.sched_getaffinity(0))
        return (proc.stolen_seconds() - self.stolen) / seconds

    def others(self, result, messages, relay_s):
        """In cores; noise in what is measured, as a busy machine favours many processes."""
        seconds = time.monotonic() - self.began
        ours = (result["generator_cpu_s_1000"] + result["sink_cpu_s_1000"]) * messages / 1000
        return max(0.0, proc.machine_cpu_seconds() - self.busy - ours - relay_s) / seconds


class Writes:
    """What the disk writes for one run, others' share of it taken off."""

    def __init__(self, disk):
        self.disk = disk
        if disk.exists:
            self.before, self.began = disk.written_bytes(), time.monotonic()

    def per_byte(self, accepted_bytes):
        if not self.disk.exists:
            return None
        written = self.disk.written_bytes() - self.before
        others = self.disk.quiet_rate * (time.monotonic() - self.began)
        return (written - others) / accepted_bytes if others < written / 2 else None


def run_wire(shape, sink, generator, seconds):
    """The same messages without a relay: the generator straight into the sink."""
    before, clock = sink.reset(), Clock()
    load = generator.run(sink.port, shape.messages, shape.per_connection, False, seconds)
    sink.wait(shape.messages, 10)
    result = rates(load, sink.stat(), before, generator.threads)
    result["others"] = clock.others(result, shape.messages, 0)
    return result


def with_log(peer, failure):
    return Failure(f"{failure}\n{peer.name}'s log ends:\n{peers.tail(peer.log)}")


def run_peer(peer, shape, sink, generator, seconds, disk):
    name = "submission" if shape.submission else "plain"
    encrypted = shape.submission and not peer.signs_in_clear
    port, messages = peer.ports[name], shape.count(peer.name)
    peer.start(name)
    try:
        warm_up(peer, port, shape, sink, generator, seconds)
        writes = Writes(disk)
        before, clock = sink.reset(), Clock()
        peak, cpu = proc.Peak(peer.group), peer.group.cpu_seconds()
        load = generator.run(port, messages, shape.per_connection, encrypted, seconds)
        sink.wait(messages, seconds)
        stolen = clock.stolen_share()
        time.sleep(1.0)  # what the relay still has to tidy up is its cost too
        result = rates(load, sink.stat(), before, generator.threads)
        cpu = peer.group.cpu_seconds() - cpu
        result["cpu_s_1000"], result["stolen"] = cpu * 1000 / messages, stolen
        result["others"] = clock.others(result, messages, cpu)
        pss, anonymous, count = peak.stop()
        result.update(pss_mb=pss / 1e6, anonymous_mb=anonymous / 1e6, processes=count,
                      written=writes.per_byte(load["bytes"] * messages))
        check_arrival(sink.stat(), messages, shape, generator, peer.name)
        return result
    except Failure as failure:
        raise with_log(peer, failure) from None
    finally:
        peer.stop()


def warm_up(peer, port, shape, sink, generator, seconds):
    """Processes that are made on demand exist, files are open, keys are read."""
    count = min(peer.warm_up, shape.count(peer.name))
    sink.reset()
    generator.run(port, count, shape.per_connection, shape.submission and not peer.signs_in_clear,
                  seconds)
    sink.wait(count, seconds)
    if sink.stat()["unique"] != count:
        raise Failure(f"{sink.stat()['unique']} of the first {count} messages came through")
