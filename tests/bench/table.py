"""Medians of the runs, their tables, and what a reader has to know beside them."""
import statistics

# Floors of waypost against Postfix: (what, at least so many times better).
FLOORS = {
    "plain-one": [("end_to_end", 6.0), ("cpu", 8.0)],
    "plain-many": [("end_to_end", 9.0)],
    "submission-one": [("end_to_end", 2.3), ("of_limit", 0.65), ("cpu", 4.0)],
    "submission-many": [("end_to_end", 2.5), ("of_limit", 0.60)],
    "backlog": [("accept", 4.0), ("drain", 3.0), ("anonymous_mb", 20.0)],
    "idle-plain": [("pss_mb", 8.0), ("start_ms", 50.0)],
    "idle-submission": [("pss_mb", 8.0), ("start_ms", 50.0)],
}
# Shares of the wire that these peers reached when they were first measured on a
# machine of this kind. One that is far below it here is not at its best here.
KNOWN_SHARES = {
    "plain-one": {"postfix": 0.039, "exim": 0.010, "opensmtpd": 0.006},
    "plain-many": {"postfix": 0.017, "exim": 0.005, "opensmtpd": 0.003},
    "submission-one": {"postfix": 0.020, "exim": 0.009, "opensmtpd": 0.005},
    "submission-many": {"postfix": 0.010, "exim": 0.005, "opensmtpd": 0.004},
    "backlog": {"postfix": 0.026, "exim": 0.004, "opensmtpd": 0.020},
}
NAMES = {"end_to_end": "end to end", "accept": "accept", "drain": "drain", "cpu": "CPU per message",
         "of_limit": "of the limit", "anonymous_mb": "anonymous memory at rest", "pss_mb": "PSS",
         "start_ms": "first 220"}


def median(runs, key):
    values = [run[key] for run in runs if run.get(key) is not None]
    return statistics.median(values) if values else None


def spread(runs, key, digits=0):
    values = [run[key] for run in runs]
    low, high = min(values), max(values)
    return f"{median(runs, key):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def number(runs, key, digits):
    value = median(runs, key)
    return "-" if value is None else f"{value:.{digits}f}"


def rate_key(shape_name):
    return "accept" if shape_name == "backlog" else "end_to_end"


def share(shape_name, runs, wire):
    return median(runs, rate_key(shape_name)) / median(wire, "end_to_end")


def summary(shape_name, runs, wire):
    """One peer's medians, with its share of the wire."""
    keys = [key for key in runs[0] if median(runs, key) is not None]
    result = {key: round(median(runs, key), 4) for key in keys}
    if wire:
        result["of_wire"] = round(share(shape_name, runs, wire), 4)
    return result


def limit(cores, crypto, runs, per_message_handshake):
    """Messages per second that signature, handshake, generator and sink leave room for."""
    cost = crypto["sign_s"] + (crypto["server_handshake_s"] if per_message_handshake else 0)
    cost += (median(runs, "generator_cpu_s_1000") + median(runs, "sink_cpu_s_1000")) / 1000
    return cores / cost


def limit_lines(limit_per_s, crypto, runs):
    """The limit takes the cores for whole ones; what a host took of them is told apart."""
    text = (f"limit of signature, handshake, generator and sink: {limit_per_s:.0f}/s; "
            f"{crypto_line(crypto)}")
    stolen = median(runs, "stolen")
    if stolen < 0.005:
        return text
    left = median(runs, "end_to_end") / limit_per_s / (1 - stolen)
    return text + f"the host took {stolen:.1%} of the cores: {left:.1%} of what it left\n"


def crypto_line(crypto):
    return (f"one RSA-2048 signature {crypto['sign_s'] * 1e6:.0f} us, the server's side of a "
            f"handshake {crypto['server_handshake_s'] * 1e6:.0f} us: medians of what was measured "
            "before each turn\n")


# ---- tables ----

RELAY_HEAD = ("", "messages", "accept/s", "end to end/s", "of wire", "CPU s/1000", "p50/p99 ms",
              "PSS MB (anon)", "procs", "written", "gen CPU", "sink CPU", "others")
BACKLOG_HEAD = ("", "messages", "accept/s", "of wire", "CPU s/1000", "settled s (CPU)",
                "at rest MB (anon)", "queue pages MB", "drain/s", "first s", "CPU s/1000",
                "peak MB", "left", "written", "gen CPU", "others")
IDLE_HEAD = ("", "first 220 ms", "CPU ms until then", "PSS MB (anon)", "procs", "CPU ms/s")


def times(runs, key):
    value = median(runs, key)
    return "-" if value is None else f"{value:.1f} x"


def relay_row(shape, name, runs, wire):
    memory = "-"
    if "pss_mb" in runs[0]:
        memory = f"{number(runs, 'pss_mb', 1)} ({number(runs, 'anonymous_mb', 1)})"
    return (name, str(shape.count(name)), spread(runs, "accept"), spread(runs, "end_to_end"),
            f"{share(shape.name, runs, wire):.1%}", number(runs, "cpu_s_1000", 3),
            f"{number(runs, 'p50_ms', 1)}/{number(runs, 'p99_ms', 1)}", memory,
            number(runs, "processes", 0), times(runs, "written"),
            f"{median(runs, 'generator_cpu'):.0%}", f"{median(runs, 'sink_cpu'):.0%}",
            f"{median(runs, 'others'):.0%}")


def backlog_row(shape, name, runs, wire):
    return (name, str(shape.count(name)), spread(runs, "accept"),
            f"{share(shape.name, runs, wire):.1%}", number(runs, "cpu_s_1000", 3),
            f"{number(runs, 'settle_s', 1)} ({number(runs, 'settle_cpu_s', 2)})",
            f"{number(runs, 'pss_mb', 1)} ({number(runs, 'anonymous_mb', 1)})",
            number(runs, "queue_pages_mb", 1), spread(runs, "drain"), number(runs, "first_s", 2),
            number(runs, "cpu_s_1000_drain", 3), number(runs, "pss_drain_mb", 1),
            number(runs, "left", 0), times(runs, "written"),
            f"{median(runs, 'generator_cpu'):.0%}", f"{median(runs, 'others'):.0%}")


def idle_row(name, runs):
    return (name, spread(runs, "start_ms"), number(runs, "start_cpu_ms", 0),
            f"{number(runs, 'pss_mb', 1)} ({number(runs, 'anonymous_mb', 1)})",
            number(runs, "processes", 0), number(runs, "idle_cpu_ms", 1))


def align(rows):
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(line, widths)))
                     for line in rows)


# ---- beside the tables ----


def ratios(shape_name, ours, theirs):
    keys = ("accept", "drain") if shape_name == "backlog" else ("accept", "end_to_end")
    result = {key: median(ours, key) / median(theirs, key) for key in keys}
    result["cpu"] = median(theirs, "cpu_s_1000") / median(ours, "cpu_s_1000")
    return result


def floors(shape_name, by_peer, limit_per_s):
    """(what, floor, reached, is reached) for each floor that this run can tell."""
    ours, theirs, found = by_peer.get("waypost"), by_peer.get("postfix"), []
    for what, floor in FLOORS.get(shape_name, []) if ours else []:
        if what in ("anonymous_mb", "pss_mb", "start_ms"):
            got = median(ours, what)
            found.append((what, floor, got, got < floor))
            continue
        if what == "of_limit":
            got = median(ours, "end_to_end") / limit_per_s if limit_per_s else None
        else:
            got = ratios(shape_name, ours, theirs)[what] if theirs else None
        if got is not None:
            found.append((what, floor, got, got >= floor))
    return found


def floor_lines(found):
    text = ""
    for what, floor, got, reached in found:
        unit, words = {"of_limit": (" %", "at least"), "anonymous_mb": (" MB", "under"),
                       "pss_mb": (" MB", "under"), "start_ms": (" ms", "under"),
                       "cpu": ("", "at most 1/")}.get(what, (" x", "at least"))
        floor, got = (floor * 100, got * 100) if what == "of_limit" else (floor, got)
        shown = (f"{words}{floor:.0f}: 1/{got:.1f}" if what == "cpu"
                 else f"{words} {floor:g}{unit}: {got:.1f}{unit}")
        text += f"floor, {NAMES[what]}: {shown} {'ok' if reached else 'MISSED'}\n"
    return text


def faults(shape_name, by_peer, wire):
    """Why figures of this run are not to be believed."""
    found = []
    if max(median(runs, "others") for runs in by_peer.values()) > 0.15:
        found.append("other programs were busy on this machine: believe CPU s/1000, not rates")
    for name, runs in by_peer.items():
        generator = median(runs, "generator_cpu") / runs[0]["generator_threads"]
        if max(generator, median(runs, "sink_cpu")) > 0.9:
            found.append(f"with {name} the generator or the sink is the limit")
        known = KNOWN_SHARES.get(shape_name, {}).get(name)
        got = share(shape_name, runs, wire)
        if known and got < known * 2 / 3:
            found.append(f"{name} reaches {got:.1%} of the wire, but {known:.1%} when it was first "
                         "measured: not at its best here")
    return found


def remarks(by_peer, peers_of, submission):
    text = ""
    for name in by_peer:
        said = [peers_of[name].remark, peers_of[name].submission_remark if submission else ""]
        if any(said):
            text += f"{name}: {'; '.join(filter(None, said))}\n"
    return text


def render(shape, wire, by_peer, limit_per_s, crypto, peers_of):
    is_backlog = shape.name == "backlog"
    row = backlog_row if is_backlog else relay_row
    lines = [BACKLOG_HEAD if is_backlog else RELAY_HEAD]
    lines += [row(shape, name, runs, wire) for name, runs in by_peer.items()]
    text = f"{shape.name}: {shape.title}; medians of {len(wire)}\n"
    text += (f"wire {spread(wire, 'end_to_end')}/s; generator {median(wire, 'generator_cpu'):.0%}, "
             f"sink {median(wire, 'sink_cpu'):.0%} of a core\n")
    text += f"{align(lines)}\n{remarks(by_peer, peers_of, shape.submission)}"
    if {"waypost", "postfix"} <= by_peer.keys():
        ratio = ratios(shape.name, by_peer["waypost"], by_peer["postfix"])
        text += "waypost / postfix: " + ", ".join(
            f"{NAMES[key]} 1/{value:.1f}" if key == "cpu" else f"{NAMES[key]} {value:.2f} x"
            for key, value in ratio.items()) + "\n"
    if limit_per_s:
        text += limit_lines(limit_per_s, crypto, by_peer["waypost"])
    text += floor_lines(floors(shape.name, by_peer, limit_per_s))
    return text + "".join(f"fault of the bench: {fault}\n"
                          for fault in faults(shape.name, by_peer, wire))


def render_idle(name, by_peer):
    runs = len(next(iter(by_peer.values())))
    text = f"{name}: nothing to do; medians of {runs}\n"
    text += align([IDLE_HEAD] + [idle_row(peer, runs) for peer, runs in by_peer.items()]) + "\n"
    return text + floor_lines(floors(name, by_peer, None))
