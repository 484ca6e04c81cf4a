"""container_test.py - the container's entry and configuration, by the steps that the
Containerfile takes, without an engine: the program is the one under test."""
import os
import pathlib
import re
import shutil
import signal
import smtplib
import subprocess

from lib import PATIENCE, SLOW, WAYPOST, Hop, case, folder, free_port, mail, main, run, wait_for

HERE = pathlib.Path(__file__).resolve().parents[2] / "contrib" / "container"


class Container:
    def __init__(self, stack, **variables):
        self.dir = folder("container")
        (self.dir / "bin").mkdir()
        (self.dir / "bin" / "waypost").symlink_to(WAYPOST)
        self.port = free_port()
        text = (HERE / "waypost.conf").read_text()
        assert '"/run/waypost/env-*.conf"' in text
        conf = self.dir / "waypost.conf"
        conf.write_text(text.replace("/run/waypost", str(self.dir / "run")) + f'api {{ socket = "{self.dir}/api.sock" }}\n'
                        f'sendmail {{ socket = "{self.dir}/submit.sock"  drop = "" }}\n'
                        + ('queue { map-size = "8G" }\n' if SLOW > 1 else ""))
        self.env = {**os.environ, "PATH": f"{self.dir}/bin:{os.environ['PATH']}", "WAYPOST_CONF": str(conf),
                    "WAYPOST_RUN": str(self.dir / "run"), "WAYPOST_DATA": str(self.dir / "data"), "WAYPOST_USER": "root",
                    "WAYPOST_LISTEN": f"127.0.0.1:{self.port}", **variables}

    def entry(self, *args):
        return run(HERE / "entry", *args, env=self.env, check=False)

    def exec(self, *args):
        """As `podman exec`: without what the entry put into its own environment."""
        return run(WAYPOST, *args, env=self.env, check=False)

    def serve(self, stack):
        log = open(self.dir / "log", "wb")
        process = subprocess.Popen([HERE / "entry", "serve"], env=self.env, stdout=log, stderr=subprocess.STDOUT)

        def end():
            process.send_signal(signal.SIGTERM)
            assert process.wait(30 * PATIENCE) == 0

        stack.callback(end)
        wait_for(lambda: b"started as" in (self.dir / "log").read_bytes(), 20, lambda: (self.dir / "log").read_text())


@case("without any variable it is a relay by MX for the container itself")
def plain(stack):
    done = Container(stack).entry("check")
    assert done.returncode == 0 and "by MX" in done.stdout, done


@case("a smarthost by variables gets the mail")
def smarthost(stack):
    hop = Hop(stack)
    box = Container(stack, WAYPOST_SMARTHOST=hop.address, WAYPOST_HOSTNAME="relay.here.test", WAYPOST_SENDER="only@here.test",
                    WAYPOST_MAILNAME="here.test", WAYPOST_ROOT="ops@there.test")
    box.serve(stack)
    with smtplib.SMTP("127.0.0.1", box.port, timeout=30 * PATIENCE) as s:
        s.sendmail("x@y.test", ["b@there.test"], mail("x@y.test"))
    assert hop.wait(1)[0].sender == "only@here.test"


@case("a login is verified TLS, its password in a file, and an odd value stays a value")
def login(stack):
    box = Container(stack, WAYPOST_SMARTHOST="smtp.example.net:587", WAYPOST_USERNAME='an"na $HOME }', WAYPOST_PASSWORD="se cret")
    done = box.entry("check")
    assert done.returncode == 0 and "tls verified, with login" in done.stdout, done
    assert (box.dir / "run" / "password").read_text() == "se cret\n"
    assert not (box.dir / "run" / "password").stat().st_mode & 0o007
    assert "se cret" not in "".join(p.read_text() for p in (box.dir / "run").glob("*.conf"))
    done = box.exec("check", "--json")
    assert done.returncode == 0, done


@case("every value is read back as it is: a file with such a name is found")
def values(stack):
    for value in ('a"b', "a\\", "$HOME", "${HOME}", "a'b", "x } y", "# no comment", "`id`"):
        secret = folder("secrets") / value
        secret.write_text("x\n")
        secret.chmod(0o600)
        box = Container(stack, WAYPOST_SMARTHOST="smtp.example.net:587", WAYPOST_USERNAME="anna", WAYPOST_PASSWORD_FILE=str(secret))
        done = box.entry("check")
        assert done.returncode == 0 and "with login" in done.stdout and "secrets" not in done.stderr, (value, done)


@case("several networks are trusted, a word that is none is named")
def networks(stack):
    done = Container(stack, WAYPOST_TRUST="10.1.0.0/16,192.0.2.0/24").entry("check")
    assert done.returncode == 0 and "trusts 127.0.0.0/8, 10.1.0.0/16, 192.0.2.0/24" in done.stdout, done
    done = Container(stack, WAYPOST_TRUST="10.1.0.0/16,*").entry("check")
    assert done.returncode == 78 and "env-machine.conf" in done.stderr, done


@case("a domain is signed for with all of its keys and no other's; without one, the way to make it is told")
def dkim(stack):
    keys = folder("keys")
    box = Container(stack, WAYPOST_DKIM="example.com,example.net", WAYPOST_DKIM_DIR=str(keys))
    done = box.entry("check")
    assert done.returncode == 78 and "waypost dkim keygen example.com --dir" in done.stderr, done
    for domain in ("example.com", "example.com.au", "example.net"):
        assert box.entry("dkim", "keygen", domain, "--dir", str(keys), "--type", "both").returncode == 0
    done = box.entry("check")
    assert done.returncode == 0 and "example.com with e1, s1" in done.stdout and "example.net with e1, s1" in done.stdout, done
    assert "com.au" not in (box.dir / "run" / "env-dkim.conf").read_text()


@case("files in conf.d count, and a folder that cannot be written is named")
def mounted(stack):
    box = Container(stack)
    (box.dir / "conf.d").mkdir()
    (box.dir / "conf.d" / "more.conf").write_text('route "direct" { tls = dane }\n')
    done = box.entry("check")
    assert done.returncode == 0 and "tls dane" in done.stdout, done
    box.env["WAYPOST_RUN"] = "/proc/sys"
    done = box.entry("check")
    assert done.returncode != 0 and "/proc/sys" in done.stderr, done


@case("a login without a password is refused in one line")
def no_password(stack):
    done = Container(stack, WAYPOST_SMARTHOST="a.test:587", WAYPOST_USERNAME="anna").entry("check")
    assert done.returncode == 78 and "WAYPOST_PASSWORD_FILE" in done.stderr, done


@case("what the Containerfile copies is there, and what it calls can be called")
def file(stack):
    text = (HERE / "Containerfile").read_text()
    root = HERE.parents[1]
    for name in re.findall(r"\bcontrib/[a-z./]+", text):
        assert (root / name.rstrip(".")).exists(), name
    for name in ("contrib/install", "contrib/deb", "contrib/container/entry"):
        assert os.access(root / name, os.X_OK), name
    run("sh", "-n", HERE / "entry")
    assert shutil.which("sh")
    documented = set(re.findall(r"WAYPOST_\w+", (HERE / "entry").read_text().split("set -euf")[0]))
    used = set(re.findall(r"\$\{(WAYPOST_\w+)", (HERE / "entry").read_text() + (HERE / "waypost.conf").read_text()))
    inner = {"WAYPOST_RUN", "WAYPOST_DATA", "WAYPOST_USER"}
    assert used - inner == documented, used ^ documented
    assert set(re.findall(r"WAYPOST_\w+", text)) <= documented


@case("the image is not root, stops by SIGTERM, and its last stage has no compiler")
def image(stack):
    last = (HERE / "Containerfile").read_text().split("\nFROM ")[-1]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.M), last
    for word in ("VOLUME /var/lib/waypost", "EXPOSE 2525", "STOPSIGNAL SIGTERM", "HEALTHCHECK", "/healthz", "LABEL"):
        assert word in last, word
    assert not re.search(r"build-essential|debhelper|contrib/install", last), last


main()
