"""queue_test.py - the operator's side: queue and trace commands, reports, metrics, a large queue."""
import email
import email.policy
import threading

from lib import *

NEVER = 'retry { first = "1h" max = "1h" }\n'
FAST = 'retry { first = "1s" max = "1s" }\n'


def smart(hop, more=NEVER):
    """All to the hop, but what is for the senders."""
    return f'route "all" {{ relay = "127.0.0.1:{hop.port}" }}\n{more}'


def with_home(stack, script=None, conf=NEVER, **how):
    """A relay, its next hop, and the host that the reports go to."""
    hop, home = Hop(stack, script=script, **how), Hop(stack)
    w = Waypost(stack, f'route "home" {{ match = "here.test" relay = "127.0.0.1:{home.port}" }}\n' + smart(hop, conf))
    return w, hop, home


def parsed(message):
    return email.message_from_bytes(message.content, policy=email.policy.default)


def status_of(report):
    """Fields of the message, then those of each recipient (RFC 3464)."""
    assert report.get_content_type() == "multipart/report" and report.get_param("report-type") == "delivery-status"
    parts = list(report.iter_parts())
    assert parts[0].get_content_type() == "text/plain"
    assert parts[1].get_content_type() == "message/delivery-status"
    return parts[1].get_payload()


def waiting(stack, count=4, reply="452 4.2.2 mailbox full"):
    """A relay whose hop takes nothing, with some mail in its queue."""
    hop = Hop(stack, script={"rcpt": reply})
    second = Hop(stack, script={"rcpt": reply})
    w = Waypost(stack, f'route "two" {{ match = "two.test" relay = "127.0.0.1:{second.port}" }}\n' + smart(hop))
    handles = [w.send(f"s{i}@{'odd' if i % 2 else 'even'}.test", [f"r{i}@one.test", f"r{i}@two.test"], mail(subject=f"n{i}"))
               for i in range(count)]
    for handle in handles:
        w.settled(handle, 2)
    return w, hop, second, handles


# ---- the commands ----


@case("queue list and show tell what waits and why")
def _(stack):
    w, _, _, handles = waiting(stack)
    text = w.cli("queue", "list").stdout
    for i, handle in enumerate(handles):
        assert handle in text and f"r{i}@one.test" in text and f"r{i}@two.test" in text
    assert "452 4.2.2 mailbox full" in text and "s0@even.test" in text and "1 attempt" in text, text
    listed = w.queue()
    assert [m["id"] for m in listed] == handles
    assert listed[0]["recipients"][0]["state"] == "queued" and listed[0]["recipients"][0]["attempts"] == 1
    show = w.cli("queue", "show", handles[1]).stdout
    assert "s1@odd.test" in show and "452 4.2.2 mailbox full" in show and "attempt" in show, show
    whole = json.loads(w.cli("queue", "show", "--json", handles[1]).stdout)
    assert whole["sender"] == "s1@odd.test" and len(whole["recipients"]) == 2
    content = w.cli("queue", "show", "--content", handles[1]).stdout
    assert "Subject: n1" in content and "hello" in content, content
    assert w.cli("queue", "list", "--limit", "2", "--json").stdout.count('"id"') == 2
    assert w.cli("queue", "show", "0" * 26, check=False).returncode != 0
    assert w.cli("queue", "frobnicate", check=False).returncode == 64


@case("queue list takes every filter")
def _(stack):
    w, _, _, handles = waiting(stack)

    def found(*filters):
        out = w.cli("queue", "list", "--json", *filters).stdout
        return [handles.index(json.loads(line)["id"]) for line in out.splitlines()]

    everything = [0, 1, 2, 3]
    assert found() == everything
    assert found("--sender", "odd.test") == [1, 3]
    assert found("--sender", "s2@even.test") == [2]
    assert found("--recipient", "r3@two.test") == [3]
    assert found("--recipient", "two.test") == everything
    assert found("--lane", "two") == everything and found("--lane", "all/*") == everything
    assert found("--lane", "nowhere.test") == []
    assert found("--state", "held") == [] and found("--state", "queued") == everything
    assert found("--deferred") == everything
    assert found("--newer-than", "1h") == everything and found("--older-than", "1h") == []
    assert found(handles[2]) == [2]
    assert w.cli("queue", "list", "--state", "lost", check=False).returncode == 64
    assert w.cli("queue", "list", "--older-than", "soon", check=False).returncode == 64


@case("hold, release and retry, by filter and by id")
def _(stack):
    w, hop, second, handles = waiting(stack)
    hop.script.clear(), second.script.clear()
    counts = json.loads(w.cli("queue", "hold", "--sender", "odd.test", "--json").stdout)
    assert counts == {"messages": 2, "recipients": 4, "under_way": 0}, counts
    assert {m["id"] for m in w.listed("state=held")} == {handles[1], handles[3]}
    assert "held" in w.cli("queue", "list", "--state", "held").stdout
    w.cli("queue", "retry", handles[0])
    hop.wait(1), second.wait(1)
    w.cli("queue", "flush")
    hop.wait(2), second.wait(2)
    wait_for(lambda: len(w.listed()) == 2, what="the held ones to be left")
    assert len(hop.messages) == 2
    w.cli("queue", "release", handles[3])  # due now
    hop.wait(3)
    w.cli("queue", "release", "--state", "held")
    hop.wait(4), second.wait(4)
    wait_for(lambda: not w.listed(), what="an empty queue")
    wait_for(lambda: any(h["stage"] == "operator" and "release" in h["text"] for h in w.trace(handles[3])),
             what=lambda: f"the trace to tell it: {w.trace(handles[3])}")


@case("hold of one lane leaves a message's other recipients alone")
def _(stack):
    w, hop, second, handles = waiting(stack, 1)
    hop.script.clear(), second.script.clear()
    w.cli("queue", "hold", "--lane", "two")
    w.cli("queue", "flush")
    hop.wait(1)
    wait_for(lambda: [r["state"] for r in w.listed()[0]["recipients"]] in (["held"], ["delivered", "held"]), what="one of two to be held")
    assert second.messages == []


@case("flush of one lane wakes only that")
def _(stack):
    w, hop, second, _ = waiting(stack, 2)
    hop.script.clear(), second.script.clear()
    w.cli("queue", "flush", "two/*")
    second.wait(2)
    assert hop.messages == []


@case("drop removes without a report, and asks for a filter")
def _(stack):
    w, hop, home = with_home(stack, {"rcpt": "452 4.2.2 mailbox full"})
    handles = [w.send("a@here.test", f"r{i}@one.test", mail()) for i in range(3)]
    for handle in handles:
        w.settled(handle)
    assert w.cli("queue", "drop", check=False).returncode == 64 and len(w.listed()) == 3
    w.cli("queue", "drop", handles[0])
    assert {m["id"] for m in w.listed()} == set(handles[1:])
    w.cli("queue", "drop", "--recipient", "r1@one.test")
    w.cli("queue", "drop", "--all")
    assert w.listed() == [] and home.messages == []
    for handle, words in zip(handles, ("drop id=", "drop recipient=r1@one.test", "drop all=1")):
        told = wait_for(lambda h=handle: [x for x in w.trace(h) if x["stage"] == "operator"], what="the trace to tell it")
        assert len(told) == 1 and told[0]["text"].startswith(words), told


@case("hold and drop of what is being sent say that the attempt goes on")
def _(stack):
    asked, go = threading.Semaphore(0), threading.Semaphore(0)

    def content(session, argument):
        asked.release()
        assert go.acquire(timeout=60)

    hop = Hop(stack, script={"content": content})
    w = Waypost(stack, smart(hop))
    for verb, done in (("drop", "dropped"), ("hold", "held")):
        handle = w.send("a@here.test", "b@one.test", mail())
        assert asked.acquire(timeout=60)
        said = w.cli("queue", verb, handle).stdout.splitlines()
        assert said == [f"{done}: 1 recipient of 1 message",
                        "1 of them is being sent just now: that attempt goes on, and may deliver"], said
        go.release()
        w.settled(handle, result="delivered")
        wait_for(lambda: not w.listed(), what="the queue to be empty")
    assert len(hop.messages) == 2


@case("reroute moves mail to where it belongs now")
def _(stack):
    first, second = Hop(stack, script={"rcpt": "452 4.2.2 mailbox full"}), Hop(stack)
    w = Waypost(stack, smart(first))
    handles = [w.send("a@here.test", f"r{i}@one.test", mail()) for i in range(3)]
    for handle in handles:
        w.settled(handle)
    w.conf.write_text(w.conf.read_text().replace('route "all"', f'route "new" {{ match = "one.test" relay = "127.0.0.1:{second.port}" }}\nroute "all"'))
    w.reload()
    wait_for(lambda: all(m["recipients"][0]["lane"] == "new/*" for m in w.listed()), what="the reload to move the mail")
    done = w.cli("queue", "reroute", "--lane", "new", check=False)
    assert done.returncode == 1 and "nothing was moved" in done.stderr, done  # it is there already
    w.cli("queue", "flush")
    second.wait(3)
    assert first.messages == []


@case("reading commands work when the relay is down")
def _(stack):
    w, hop, second, handles = waiting(stack)
    before = w.cli("queue", "list").stdout
    w.stop()
    assert w.queue() and [m["id"] for m in w.queue()] == handles
    assert {line.split()[0] for line in before.splitlines() if line.startswith("0")} == set(handles)
    assert handles[0] in w.cli("queue", "list", "--sender", "even.test").stdout
    assert "n2" in w.cli("queue", "show", "--content", handles[2]).stdout
    assert any(h["stage"] == "settle" for h in w.hops(handles[0]))
    assert "all/*" in w.cli("queue", "lanes").stdout
    done = w.cli("queue", "hold", handles[0], check=False)
    assert done.returncode not in (0, 64) and len(done.stderr.strip().splitlines()) == 1, done
    hop.script.clear(), second.script.clear()
    w.start()
    w.cli("queue", "flush")
    hop.wait(4)


# ---- traces ----


@case("a trace is found by id, Message-ID, recipient and the hop's queue id")
def _(stack):
    hop = Hop(stack)
    w = Waypost(stack, smart(hop))
    handle = w.send("a@here.test", "unique.person@there.test", "Message-ID: <mark.1@here.test>\r\n" + mail())
    w.settled(handle, result="delivered")
    for name in (handle, "<mark.1@here.test>", "mark.1@here.test", "unique.person@there.test", "HOP000001"):
        hops = w.hops(name)
        stages = [h["stage"] for h in hops]
        assert {h["id"] for h in hops if "id" in h} == {handle}, (name, hops)
        for stage in ("receive", "queue", "route", "connect", "banner", "ehlo", "mail", "rcpt", "content", "settle"):
            assert stage in stages, (name, stage, stages)
    text = w.cli("trace", handle).stdout
    for words in ("unique.person@there.test", f"127.0.0.1:{hop.port}", "HOP000001", "250", "delivered", "mark.1@here.test"):
        assert words in text, (words, text)
    assert re.search(r"\d{4}-\d\d-\d\d", text) and re.search(r"\d ?ms|\d ?s\b|\d µs", text), text
    unknown = w.cli("trace", "nobody@nowhere.test", check=False)
    assert unknown.returncode != 0 and "nobody@nowhere.test" in unknown.stderr
    assert w.cli("trace", check=False).returncode == 64
    w.stop()
    assert w.hops(handle), "it outlives message and relay"
    w.start()
    assert w.hops("HOP000001")


@case("a trace names class, cause and next step of a failure")
def _(stack):
    w, hop, home = with_home(stack, {"rcpt": "550 5.1.1 <x@there.test>: no such user"})
    handle = w.send("a@here.test", "x@there.test", mail())
    home.wait()
    w.settled(handle)
    text = w.cli("trace", handle).stdout
    for words in ("550 5.1.1", "no such user", "hard", "There is no such mailbox", "typing error", "failed"):
        assert words in text, (words, text)


@case("the log can be JSON, and goes to a file that is opened anew")
def _(stack):
    hop = Hop(stack)
    log = folder("log") / "waypost.log"
    w = Waypost(stack, smart(hop, f'{NEVER} log {{ to = file file = "{log}" format = json level = debug }}'))
    w.settled(w.send("a@here.test", "b@there.test", mail()))
    rows = wait_for(lambda: [x for x in map(json.loads, log.read_text().splitlines()) if x["stage"] == "settle"], what="a log line")
    assert rows[0]["result"] == "delivered" and rows[0]["remote-id"] == "HOP000001"
    log.rename(log.with_suffix(".1"))
    w.process.send_signal(signal.SIGHUP)
    wait_for(log.exists, what="a new log file")
    handle = w.send("a@here.test", "b@there.test", mail())
    wait_for(lambda: handle in log.read_text(), what="lines in it")


# ---- metrics ----


@case("metrics and healthz answer, in Prometheus' format")
def _(stack):
    w, _, _, _ = waiting(stack, 2)
    types = {}
    samples = 0
    for line in w.get("/metrics").splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert kind in ("counter", "gauge", "histogram") and name not in types, line
            types[name] = kind
        elif line and not line.startswith("#"):
            match = re.fullmatch(r'([a-z_]+)(\{[a-z_]+="[^"\\\n]*"(,[a-z_]+="[^"\\\n]*")*\})? (-?[0-9.eE+-]+|NaN|\+Inf)', line)
            assert match, line
            assert match[1] in types, line
            assert types[match[1]] != "counter" or match[1].endswith("_total"), line
            samples += 1
    assert samples > 60
    metrics = w.metrics()
    assert metrics["waypost_queue_messages"] == 2 and metrics['waypost_queue_recipients{state="queued"}'] == 4
    assert metrics["waypost_later_total"] == 4 and metrics["waypost_delivered_total"] == 0
    assert w.get("/healthz").strip()
    assert w.get("/v1/nothing", check=False) is None and w.get("/v1/queue?colour=red", check=False) is None
    assert json.loads(w.get("/v1/info"))["version"]


# ---- reports ----


@case("a failure report says what happened, to people and to programs")
def _(stack):
    w, hop, home = with_home(stack, {"rcpt": "550 5.1.1 <no@there.test>: no such user here"})
    w.send("a@here.test", "no@there.test", mail(subject="the subject", body="the body\r\n"), mail=["ENVID=env+2B7", "RET=FULL"],
           rcpt=["NOTIFY=FAILURE", "ORCPT=rfc822;first@else.test"])
    message = home.wait()[0]
    assert message.sender == "" and message.recipients == ["a@here.test"]
    report = parsed(message)
    head, fields = status_of(report)
    assert report["To"] == "<a@here.test>" or report["To"] == "a@here.test"
    assert report["Auto-Submitted"].startswith("auto-") and report["From"] and report["Date"] and report["Message-ID"]
    assert head["Reporting-MTA"] == "dns; relay.here.test" and head["Original-Envelope-Id"] == "env+7" and head["Arrival-Date"]
    assert fields["Final-Recipient"].replace(" ", "") == "rfc822;no@there.test"
    assert fields["Original-Recipient"].replace(" ", "") == "rfc822;first@else.test"
    assert fields["Action"] == "failed" and fields["Status"] == "5.1.1"
    assert "127.0.0.1" in fields["Remote-MTA"] and fields["Remote-MTA"].startswith("dns;")
    assert fields["Diagnostic-Code"].startswith("smtp;") and "no such user here" in fields["Diagnostic-Code"]
    text = list(report.iter_parts())[0].get_content()
    for words in ("no@there.test", "no such mailbox", "no such user here", "typing error"):
        assert words in text, (words, text)
    original = list(report.iter_parts())[2]
    assert original.get_content_type() == "message/rfc822" and "the body" in original.as_string()


@case("RET=HDRS and large messages return the header only")
def _(stack):
    w, hop, home = with_home(stack, {"rcpt": "550 5.1.1 no such user"})
    w.send("a@here.test", "b@there.test", mail(subject="small", body="the body\r\n"), mail=["RET=HDRS"])
    w.send("a@here.test", "b@there.test", mail(subject="large", body="the body\r\n" * 8000), mail=["RET=FULL"])
    for message in home.wait(2):
        part = list(parsed(message).iter_parts())[2]
        assert part.get_content_type() == "text/rfc822-headers", part.get_content_type()
        assert "Subject:" in part.as_string() and "the body" not in part.as_string() and len(message.content) < 20000


@case("NOTIFY=NEVER and the null reverse-path get no report")
def _(stack):
    w, hop, home = with_home(stack, {"rcpt": "550 5.1.1 no such user"})
    handles = [w.send("a@here.test", "b@there.test", mail(), rcpt=["NOTIFY=NEVER"]), w.send("", "b@there.test", mail()),
               w.send("a@here.test", "b@there.test", mail(), rcpt=["NOTIFY=SUCCESS,DELAY"])]
    for handle in handles:
        assert w.settled(handle)[0]["result"] == "failed"
    w.send("a@here.test", "b@there.test", mail(subject="the only one"))
    assert "the only one" in home.wait()[0].content.decode()
    wait_for(lambda: not w.listed(), what="an empty queue")
    assert len(home.messages) == 1


@case("a report that cannot be delivered does not bounce")
def _(stack):
    w, hop, home = with_home(stack, {"rcpt": "550 5.1.1 no such user"})
    home.script["rcpt"] = "550 5.1.1 the sender does not exist either"
    w.send("a@here.test", "b@there.test", mail())
    wait_for(lambda: w.metrics()["waypost_failed_total"] == 2 and not w.listed(), what="both to fail")
    assert home.messages == [] and hop.messages == []


@case("a delay warning comes once, after warn-after, unless it is not wanted")
def _(stack):
    w, hop, home = with_home(stack, {"rcpt": "451 4.3.0 not yet"}, FAST.replace("}", 'lifetime = "1h" warn-after = "2s" }'))
    handle = w.send("a@here.test", "b@there.test", mail(subject="late"))
    w.send("a@here.test", "c@there.test", mail(subject="not wanted"), rcpt=["NOTIFY=FAILURE"])
    began = time.monotonic()
    report = parsed(home.wait(1, 15)[0])
    assert time.monotonic() - began > 1
    _, fields = status_of(report)
    assert fields["Action"] == "delayed" and fields["Status"].startswith("4.") and fields["Will-Retry-Until"], fields.as_string()
    assert "451 4.3.0 not yet" in fields["Diagnostic-Code"] and "b@there.test" in fields["Final-Recipient"]
    w.settled(handle, 5, "later", timeout=20)
    assert len(home.messages) == 1
    hop.script.clear()
    hop.wait(2)
    wait_for(lambda: not w.listed(), what="an empty queue")
    assert len(home.messages) == 1


for how, script in (("refused for now", {"rcpt": "451 4.3.0 not yet"}), ("to a dead place", {"connect": "421 4.3.2 down"})):

    @case(f"mail {how} is returned after its lifetime")
    def _(stack, script=script):
        w, hop, home = with_home(stack, script, 'retry { first = "1s" max = "1s" lifetime = "3s" warn-after = never }')
        handle = w.send("a@here.test", "b@there.test", mail())
        report = parsed(home.wait(1, 20)[0])
        _, fields = status_of(report)
        assert fields["Action"] == "failed" and fields["Status"] in ("4.4.7", "5.4.7", "4.3.0", "4.3.2"), fields.as_string()
        assert script.get("rcpt", script.get("connect"))[:10] in fields["Diagnostic-Code"], fields.as_string()
        hops = w.settled(handle, 1, "failed")
        assert len([h for h in w.trace(handle) if h["stage"] == "settle"]) >= 2, hops
        wait_for(lambda: not w.listed(), what="an empty queue")
        assert not hop.messages


@case("a greylisting hint is honoured")
def _(stack):
    w, hop, _ = with_home(stack, {"rcpt": "451 4.7.1 Greylisted, please try again in 300 seconds"},
                       'retry { first = "1s" max = "1h" }')
    settled = w.settled(w.send("a@here.test", "b@there.test", mail()))[0]

    def seconds(text):
        return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))

    wait = seconds(settled["next"]) - seconds(settled["time"])
    assert 299 <= wait <= 600, settled


# ---- much mail ----


def pour(w, count, recipient, clients=40):
    """Submits fast: whole transactions in one write, by BDAT. The ids that were given."""
    ids, lock = [], threading.Lock()

    def client(number):
        with socket.create_connection(("127.0.0.1", w.port)) as s:
            f = s.makefile("rb")
            assert f.readline().startswith(b"220")
            s.sendall(b"EHLO pour.test\r\n")
            while f.readline()[3:4] == b"-":
                pass
            for start in range(0, number, 50):
                piece = min(50, number - start)
                body = mail(subject="poured").encode()
                s.sendall((b"MAIL FROM:<a@here.test>\r\nRCPT TO:<%s>\r\nBDAT %d LAST\r\n" % (recipient, len(body)) + body) * piece)
                for _ in range(piece):
                    replies = [f.readline() for _ in range(3)]
                    assert replies[2].startswith(b"250"), replies
                    with lock:
                        ids.append(replies[2].split()[-1].decode())

    threads = [threading.Thread(target=client, args=(count // clients,)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ids


@case("a dead place costs one probe an interval, whatever waits for it")
def _(stack):
    hop = Hop(stack, "127.0.6.1", script={"connect": "421 4.3.2 down"})
    w = Waypost(stack, f'port = {hop.port}\nretry {{ first = "2s" max = "2s" }}')
    ids = pour(w, 1000, b"b@[127.0.6.1]")
    assert len(set(ids)) == 1000
    wait_for(lambda: hop.sessions >= 2, what="the first probe")
    before, began = hop.sessions, time.monotonic()
    wait_for(lambda: hop.sessions >= before + 3, 20, "three probes")
    took = time.monotonic() - began
    assert took >= 3.5, f"three probes in {took:.1f}s"
    assert w.metrics()["waypost_lanes_sleeping"] == 1
    assert len(json.loads(w.get("/v1/queue?max=5"))["messages"]) == 5
    hop.script.clear()
    hop.wait(1000, 30)
    wait_for(lambda: w.metrics()["waypost_queue_messages"] == 0, what="an empty queue")
    assert hop.sessions < before + 3 + 40, hop.sessions


@case("20,000 messages wait for a dead smarthost, then all go out")
def _(stack):
    sink = shutil.which("smtp-sink", path=os.environ["PATH"] + ":/usr/sbin")
    if not sink:
        raise LeftOut("smtp-sink is not installed")
    port = free_port()
    w = Waypost(stack, f'route "all" {{ relay = "127.0.0.1:{port}" }}\nretry {{ first = "10m" max = "10m" }}')
    count = 20000
    began = time.monotonic()
    ids = pour(w, count, b"b@there.test")
    assert len(set(ids)) == count
    print(f"  {count} in after {time.monotonic() - began:.1f}s")
    assert w.metrics()["waypost_queue_messages"] == count
    answer = time.monotonic()
    w.send("a@here.test", "b@there.test", mail())
    assert time.monotonic() - answer < 20 * SLOW, "accepting goes on"
    listed = [m["id"] for m in w.listed()]
    assert len(listed) == count + 1 and set(ids) < set(listed)
    assert w.cli("queue", "list", "--json", "--limit", "30000").stdout.count("\n") == count + 1
    assert "20001" in w.cli("queue", "lanes").stdout, w.cli("queue", "lanes").stdout
    rss = int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{w.process.pid}/status").read_text())[1])
    assert rss < 200 * 1024 * SLOW ** 2, f"{rss} KB of memory"  # sanitizers keep what is freed
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    process = subprocess.Popen([sink, *user, f"127.0.0.1:{port}", "500"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(lambda: (process.kill(), process.wait()))
    wait_for(lambda: is_open(port), what="smtp-sink")
    print(f"  listed and looked at after {time.monotonic() - began:.1f}s")
    w.cli("queue", "flush")
    wait_for(lambda: w.metrics()["waypost_queue_messages"] == 0, 60,
             lambda: f"an empty queue: {w.metrics()['waypost_queue_messages']} left, {w.get('/v1/lanes')}")
    assert w.metrics()["waypost_delivered_total"] == count + 1, w.metrics()["waypost_delivered_total"]
    # A log that cannot keep up loses hops, never mail; each is told or counted.
    dropped = lambda: w.metrics()["waypost_hops_dropped_total"]
    told = lambda: len(re.findall("stage=settle .*result=delivered", w.log_text()))
    wait_for(lambda: told() + dropped() >= count + 1, what=lambda: f"{told()} told and {dropped()} dropped to be all")
    assert told() <= count + 1
    if not dropped():
        wait_for(lambda: w.trace(ids[-1]), what="its trace")
    print(f"  {count} in and out in {time.monotonic() - began:.1f}s, {dropped():.0f} hops dropped")


def is_open(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


main()
