"""Medians of the runs, and their table."""
import statistics


def median(runs, key):
    values = [run[key] for run in runs if run.get(key) is not None]
    return statistics.median(values) if values else None


def spread(runs, key):
    values = [run[key] for run in runs]
    return f"{median(runs, key):.0f} ({min(values):.0f}-{max(values):.0f})"


def number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def summary(runs, wire):
    """One peer's medians, with its share of the wire."""
    keys = [key for key in runs[0] if runs[0][key] is not None]
    result = {key: round(median(runs, key), 4) for key in keys}
    result["of_wire"] = round(result["end_to_end"] / median(wire, "end_to_end"), 4)
    return result


def limit(cores, crypto, runs, per_message_handshake):
    """Messages per second that signature, handshake, generator and sink leave room for."""
    cost = crypto["sign_s"] + (crypto["server_handshake_s"] if per_message_handshake else 0)
    cost += (median(runs, "generator_cpu_s_1000") + median(runs, "sink_cpu_s_1000")) / 1000
    return cores / cost


HEAD = ("", "accept/s", "end to end/s", "of wire", "CPU s/1000", "p50/p99 ms", "PSS MB (anon)",
        "procs", "gen CPU", "sink CPU", "others")


def row(name, runs, wire):
    share = median(runs, "end_to_end") / median(wire, "end_to_end")
    memory = "-"
    if "pss_mb" in runs[0]:
        memory = f"{median(runs, 'pss_mb'):.1f} ({median(runs, 'anonymous_mb'):.1f})"
    return (name, spread(runs, "accept"), spread(runs, "end_to_end"), f"{share:.1%}",
            number(median(runs, "cpu_s_1000") if "cpu_s_1000" in runs[0] else None, 3),
            f"{number(median(runs, 'p50_ms'), 1)}/{number(median(runs, 'p99_ms'), 1)}", memory,
            number(median(runs, "processes") if "processes" in runs[0] else None, 0),
            f"{median(runs, 'generator_cpu'):.0%}", f"{median(runs, 'sink_cpu'):.0%}",
            f"{median(runs, 'others'):.0%}")


def align(rows):
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(line, widths)))
                     for line in rows)


def ratios(ours, theirs):
    def of(key):
        return median(ours, key) / median(theirs, key)
    return {"accept": of("accept"), "end_to_end": of("end_to_end"), "cpu": of("cpu_s_1000")}


def doubts(by_peer):
    """What a reader has to know before believing the rates."""
    text = ""
    if max(median(runs, "others") for runs in by_peer.values()) > 0.15:
        text += "note: other programs were busy on this machine; believe CPU s/1000, not rates\n"
    for name, runs in by_peer.items():
        if max(median(runs, "generator_cpu"), median(runs, "sink_cpu")) > 0.9:
            text += f"note: with {name} the generator or the sink is the limit\n"
    return text


def render(shape, wire, by_peer, limit_per_s):
    lines = [HEAD, row("wire", wire, wire)]
    lines += [row(name, runs, wire) for name, runs in by_peer.items()]
    text = f"{shape.title}; {shape.messages} messages, {len(wire)} runs\n{align(lines)}\n"
    if {"waypost", "postfix"} <= by_peer.keys():
        ratio = ratios(by_peer["waypost"], by_peer["postfix"])
        text += (f"waypost / postfix: end to end {ratio['end_to_end']:.2f} x, "
                 f"accept {ratio['accept']:.2f} x, CPU per message 1/{1 / ratio['cpu']:.1f}\n")
    if limit_per_s and "waypost" in by_peer:
        share = median(by_peer["waypost"], "end_to_end") / limit_per_s
        text += f"limit of signature, handshake, generator and sink: {limit_per_s:.0f}/s, " \
                f"waypost reaches {share:.0%} of it\n"
    return text + doubts(by_peer)
