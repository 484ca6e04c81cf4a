"""What a program and its children cost: CPU time and memory, read from /proc.

CPU counts the dead too: a parent that waits for its children (Postfix's master
does) carries their time in cutime and cstime, with the kernel's full precision
behind the clock ticks it prints.
"""
import os
import threading

TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            text = file.read()
    except OSError:
        return None
    return text[text.rindex(")") + 2:].split()


def tree(roots):
    """The pids of these processes and of all below them."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(name)
            if fields:
                children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo.extend(children.get(pid, []))
    return found


def cpu_seconds(roots):
    ticks = 0
    for pid in tree(roots):
        fields = _stat(pid)
        if fields:
            ticks += sum(int(x) for x in fields[11:15])
    return ticks / TICK


def machine_cpu_seconds():
    """Of everything that runs on this machine, softirqs and stolen time included."""
    with open("/proc/stat") as file:
        fields = [int(x) for x in file.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK  # idle, waiting for the disk


def memory(roots):
    """PSS and anonymous bytes, and how many processes have them."""
    pss = anonymous = count = 0
    for pid in tree(roots):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        if len(lines) < 2:
            continue
        count += 1
        for line in lines:
            if line.startswith("Pss:"):
                pss += int(line.split()[1]) * 1024
            elif line.startswith("Anonymous:"):
                anonymous += int(line.split()[1]) * 1024
    return pss, anonymous, count


class Peak:
    """Samples memory once a second; more often would be felt by what is measured."""

    def __init__(self, roots):
        self.roots = roots
        self.best = (0, 0, 0)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _look(self):
        self.best = max(self.best, memory(self.roots))

    def _run(self):
        while not self.stopped.wait(1.0):
            self._look()

    def stop(self):
        self.stopped.set()
        self.thread.join()
        self._look()
        return self.best
