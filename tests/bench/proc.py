"""What a program and its children cost: CPU time and memory, and what a disk wrote.

CPU counts the dead too. A control group of the program's own knows all of them.
Where none can be made, a parent that waits for its children (Postfix's master
does) carries their time in cutime and cstime; of one that does not (Exim's
daemon) a part is lost.
"""
import itertools
import os
import signal
import threading
import time

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


def _machine():
    with open("/proc/stat") as file:
        return [int(x) for x in file.readline().split()[1:9]]


def machine_cpu_seconds():
    """Of everything that runs on this machine, softirqs and stolen time included."""
    fields = _machine()
    return (sum(fields) - fields[3] - fields[4]) / TICK  # idle, waiting for the disk


def stolen_seconds():
    """When a processor had work, and a virtual machine's host ran something else on it."""
    return _machine()[7] / TICK


def memory(roots):
    return memory_of(tree(roots))


def memory_of(pids):
    """PSS and anonymous bytes, and how many processes have them."""
    pss = anonymous = count = 0
    for pid in pids:
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
            elif line.startswith("Pss_Anon:"):
                anonymous += int(line.split()[1]) * 1024
    return pss, anonymous, count


def mapped_pages(pids, name):
    """Resident bytes of the mapped file whose path ends so: page cache, not the program's own."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        ours = False
        for line in lines:
            if line[0] in "0123456789abcdef":
                ours = line.endswith(name)
            elif ours and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def _mount_points(kind, option):
    with open("/proc/self/mounts") as file:
        for line in file:
            _, place, what, options = line.split()[:4]
            if what == kind and (not option or option in options.split(",")):
                yield place


def _own_group(controller):
    """Our path in a hierarchy; the unified one's controller is empty."""
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controller in controllers.split(","):
                return path.rstrip("/")
    return None


def _remove_stale(folder):
    """What a bench that was killed could not remove."""
    for name in os.listdir(folder):
        if name.startswith("waypost-bench.") and not os.path.exists(f"/proc/{name.split('.')[1]}"):
            try:
                os.rmdir(f"{folder}/{name}")
            except OSError:
                pass


def _make_group(name):
    """A control group that counts CPU time: of version 2, else of version 1, else None."""
    for kind, controller, counter in (("cgroup2", "", "cpu.stat"),
                                      ("cgroup", "cpuacct", "cpuacct.usage")):
        for place in _mount_points(kind, controller):
            own = _own_group(controller)
            if own is None:
                continue
            folder = f"{place}{own}/{name}"
            try:
                _remove_stale(f"{place}{own}")
                os.mkdir(folder)
            except OSError:
                continue
            if os.path.exists(f"{folder}/{counter}"):
                return folder
            os.rmdir(folder)
    return None


class Group:
    """All processes of one program, from spawn to end."""

    numbers = itertools.count()
    living = []

    def __init__(self):
        self.folder = _make_group(f"waypost-bench.{os.getpid()}.{next(self.numbers)}")
        self.roots = []
        self.living.append(self)

    def enter(self):
        """In a child between fork and exec."""
        if self.folder:
            with open(f"{self.folder}/cgroup.procs", "w") as file:
                file.write("0")

    def pids(self):
        if not self.folder:
            return tree(self.roots)
        with open(f"{self.folder}/cgroup.procs") as file:
            return [int(line) for line in file]

    def cpu_seconds(self):
        if not self.folder:
            return cpu_seconds(self.roots)
        if os.path.exists(f"{self.folder}/cpuacct.usage"):
            with open(f"{self.folder}/cpuacct.usage") as file:
                return int(file.read()) / 1e9
        with open(f"{self.folder}/cpu.stat") as file:
            return next(int(line.split()[1]) for line in file
                        if line.startswith("usage_usec")) / 1e6

    def end(self):
        """Nothing that the program left behind survives it."""
        if not self.folder:
            self.living.remove(self)
            return
        for turn in range(200):
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGTERM if turn < 100 else signal.SIGKILL)
                except ProcessLookupError:
                    pass
            try:
                os.rmdir(self.folder)
                break
            except OSError:
                time.sleep(0.02)
        self.folder = None
        self.living.remove(self)


def end_groups():
    """Of a bench that was interrupted while it started or stopped something."""
    for group in list(Group.living):
        group.end()


class Disk:
    """Sectors that the device below a folder has written."""

    def __init__(self, folder):
        device = os.stat(folder).st_dev
        self.path = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat"
        self.exists = os.path.exists(self.path)  # a network or overlay file system has none
        self.quiet_rate = 0.0                    # bytes per second that others write meanwhile

    def written_bytes(self):
        """All of it: what is still in memory is written first."""
        os.sync()
        with open(self.path) as file:
            return int(file.read().split()[6]) * 512

    def look_at_others(self, seconds=1.0):
        if not self.exists:
            return
        before, began = self.written_bytes(), time.monotonic()
        time.sleep(seconds)
        self.quiet_rate = (self.written_bytes() - before) / (time.monotonic() - began)


class Peak:
    """Samples memory once a second; more often would be felt by what is measured."""

    def __init__(self, group):
        self.group = group
        self.best = (0, 0, 0)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _look(self):
        self.best = max(self.best, memory_of(self.group.pids()))

    def _run(self):
        while not self.stopped.wait(1.0):
            self._look()

    def stop(self):
        self.stopped.set()
        self.thread.join()
        self._look()
        return self.best
