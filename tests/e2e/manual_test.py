"""manual_test.py - the manual pages: no mistake in them, and no command or option left out."""
import pathlib
import re

from lib import WAYPOST, case, main, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "relay").glob("*.[1-8]")), *sorted((ROOT / "conf").glob("*.[1-8]"))]


@case("mandoc finds no mistake")
def lint(stack):
    assert len(PAGES) == 5, PAGES
    for page in PAGES:
        done = run("mandoc", "-Tlint", "-Wwarning", page, check=False)
        assert done.returncode == 0, done.stdout


@case("every page is installed")
def installed(stack):
    listed = (ROOT / "relay" / "meson.build").read_text() + (ROOT / "conf" / "meson.build").read_text()
    for page in PAGES:
        assert f"'{page.name}'" in listed, page


@case("every command and every option of it is in a manual page")
def complete(stack):
    text = "".join(page.read_text() for page in PAGES).replace("\\-", "-")
    for name in re.findall(r"^  ([a-z]+) +\S", run(WAYPOST, "--help").stdout, re.M):
        assert re.search(rf"^\.(It|Nm) .*\b{name}\b", text, re.M), f"{name} is in no manual page"
        for option in set(re.findall(r"--[a-z][a-z-]*", run(WAYPOST, name, "--help", check=False).stdout)):
            assert re.search(rf"Fl {re.escape(option[1:])}\b", text), f"{name} {option} is in no manual page"


main()
