"""idle_test.py - what a relay with nothing to do costs: memory, processes, wake-ups.

Wake-ups are counted by strace over some seconds: every time a thread of the relay
returns from waiting. The service manager's watchdog is made fast here (a sign of
life every two seconds instead of every minute), so that a stray timer would show.
"""
import os
import re
import signal
import socket
import subprocess
import time

from lib import Waypost, case, folder, main, wait_for

BLOCKING = r"(epoll_wait|epoll_pwait|poll|ppoll|select|futex|restart_syscall|nanosleep|clock_nanosleep|recvmsg|read)"
PSS_MAX_KB = 8 * 1024
PING_S = 2
WATCH_S = 11


class Manager:
    """The service manager's end of the notify socket."""

    def __init__(self, stack):
        self.path = folder("manager") / "notify"
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.s.bind(str(self.path))
        self.s.setblocking(False)
        stack.callback(self.s.close)
        self.heard = []

    def hear(self):
        while True:
            try:
                self.heard.append((time.monotonic(), self.s.recv(4096).decode()))
            except BlockingIOError:
                return [text for _, text in self.heard]

    def env(self, seconds=PING_S * 2):
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(seconds * 1_000_000)}


def attach(stack, pid, where):
    """strace on every thread; ended with the case."""
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-p", str(pid), "-o", str(where)], stderr=subprocess.PIPE)

    def end():
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(10)

    stack.callback(end)
    threads = lambda: os.listdir(f"/proc/{pid}/task")
    traced = lambda tid: "TracerPid:\t0\n" not in open(f"/proc/{pid}/task/{tid}/status").read()
    wait_for(lambda: all(traced(t) for t in threads()), 10, "strace to attach")
    return end


def wakeups(log):
    """Every return from a system call that waited: shown in one line, or as resumed. A call
    that is resumed because strace showed another thread's in between did not wait: a read
    of a wake-up descriptor never does, a futex only when it says WAIT and was not too late."""
    begun, found = {}, []
    for line in log.splitlines():
        thread, _, call = line.partition(" ")
        if "unfinished" in call:
            begun[thread] = call
        is_wait = re.search(r"\b(epoll_wait|epoll_pwait|poll|ppoll|restart_syscall)\(.*\) += ", call)
        if again := re.search(rf"<\.\.\. {BLOCKING} resumed", call):
            what = begun.get(thread, "")
            is_wait = "FUTEX_WAIT" in what and "EAGAIN" not in call if "futex" in again[0] else "read" not in again[0]
        if is_wait:
            found.append(line)
    return found


def watch(stack, manager, pid):
    """Some seconds of it: signs of life, and returns from waiting."""
    log = folder("strace") / "log"
    end = attach(stack, pid, log)
    before = len(manager.hear())
    time.sleep(WATCH_S)
    pings = len(manager.hear()) - before
    end()
    # Attaching interrupts each thread once: those lines are not wake-ups of the relay's.
    return pings, [line for line in wakeups(log.read_text()) if "RESTART" not in line and "EINTR" not in line]


@case("the service manager hears of the start, of life, and of the end", plain_only=True)
def notifies(stack):
    manager = Manager(stack)
    relay = Waypost(stack, env=manager.env(seconds=1))
    wait_for(lambda: manager.hear().count("WATCHDOG=1") >= 3, 10, "signs of life")
    assert manager.hear()[0] == "READY=1", manager.heard
    relay.stop()
    assert manager.hear()[-1] == "STOPPING=1" or "STOPPING=1" in manager.hear(), manager.heard


@case("a watchdog that is meant for another process is left alone", plain_only=True)
def not_ours(stack):
    manager = Manager(stack)
    Waypost(stack, env={**manager.env(seconds=1), "WATCHDOG_PID": "1"})
    time.sleep(1.5)
    assert "WATCHDOG=1" not in manager.hear(), manager.heard


@case("a loop that hangs silences the watchdog", plain_only=True)
def hangs(stack):
    manager = Manager(stack)
    relay = Waypost(stack, env=manager.env(seconds=1))
    wait_for(lambda: manager.hear().count("WATCHDOG=1") >= 2, 10, "signs of life")
    os.kill(relay.process.pid, signal.SIGSTOP)
    stack.callback(lambda: os.kill(relay.process.pid, signal.SIGCONT))
    before = len(manager.hear())
    time.sleep(1.5)
    assert len(manager.hear()) <= before + 1, manager.heard
    os.kill(relay.process.pid, signal.SIGCONT)
    wait_for(lambda: len(manager.hear()) > before + 1, 10, "life after the pause")


@case("nothing to do: one process, and two wake-ups a sign of life", plain_only=True)
def wakes(stack):
    manager = Manager(stack)
    relay = Waypost(stack, env=manager.env())
    pid = relay.process.pid
    assert not open(f"/proc/{pid}/task/{pid}/children").read().split(), "it has child processes"
    relay.metrics()  # whatever is made at the first use is made now
    for last in (False, False, True):  # what was begun at the start may last, and a busy machine adds to a watch
        time.sleep(1.5)
        pings, woken = watch(stack, manager, pid)
        slack = 2
        if pings >= WATCH_S // PING_S - 1 and len(woken) <= 2 * pings + slack:
            break
        assert not last, (pings, len(woken), woken[-30:])
    print(f"   {pings} signs of life, {len(woken)} returns from waiting", flush=True)


@case("nothing to do: under 8 MB of memory", plain_only=True)
def memory(stack):
    relay = Waypost(stack)
    rollup = open(f"/proc/{relay.process.pid}/smaps_rollup").read()
    pss = int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1])
    print(f"   PSS {pss} kB", flush=True)
    assert pss < PSS_MAX_KB, rollup


main()
