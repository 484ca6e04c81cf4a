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


def options(text):
    """The long options of a piece of manual or of help."""
    return set(re.findall(r"--[a-z][a-z-]*", text.replace("\\-", "-").replace("Fl -", "--")))


def help_forms():
    """{"queue show": its options} of everything that waypost --help leads to."""
    forms = {}
    for name in re.findall(r"^  ([a-z]+) +\S", run(WAYPOST, "--help").stdout, re.M):
        text = run(WAYPOST, name, "--help").stdout if name != "sendmail" else ""
        filters = options("".join(re.findall(r"^ {10,}.*$", text, re.M)))
        for verbs, rest in re.findall(rf"^(?:usage:|      ) waypost {name}\b ?([a-z|]*)(.*)$", text, re.M):
            for verb in verbs.split("|"):
                forms[f"{name} {verb}".strip()] = options(rest) | (filters if "FILTER" in rest else set())
    return forms


def manual_forms():
    """The same of the manual: of the lines that begin a form, and all that is said of it."""
    forms, said = {}, {}
    for page in PAGES:
        text = page.read_text()
        of_queue = "queue " if page.name == "waypost-queue.8" else ""
        filters = options(text.split(".Ss Actions")[0]) if of_queue else set()
        for block in re.split(r"^\.It (?=Ic )", text, flags=re.M)[1:]:
            line = block.partition("\n")[0]
            name = of_queue + re.match(r"Ic ([a-z]+(?: [a-z]+)*)", line).group(1)
            here = options(line) | (filters if "Ar filter" in line else set())
            if line.startswith("Ic setup"):  # a list of its own
                here = options("".join(re.findall(r"^\.It Fl .*$", block, re.M)))
            forms[name] = forms.get(name, set()) | here
            said[name] = said.get(name, set()) | options(re.split(r"^\.(?:El|Sh|Ss)", block, flags=re.M)[0]) | here
    return forms, said


@case("every command has the same options in the manual and in its help")
def same(stack):
    helped, (forms, said) = help_forms(), manual_forms()
    assert len(helped) > 20 and helped["queue drop"] >= {"--all", "--lane", "--deferred"}, helped
    for name, wanted in helped.items():
        assert forms.get(name) == wanted, (name, "help:", wanted, "manual:", forms.get(name))
    for name, mentioned in said.items():
        assert mentioned <= helped.get(name, mentioned), (name, mentioned - helped[name])
    assert set(helped) <= set(forms), set(helped) - set(forms)


@case("the options before a command are the same in the manual and in the help")
def general(stack):
    page = (ROOT / "relay" / "waypost.8").read_text().split(".Sh COMMANDS")[0]
    wanted = set(re.findall(r"^  (-.*?)(?:  |$)", run(WAYPOST, "--help").stdout, re.M))
    assert {o for text in wanted for o in options(text)} == options(page), (wanted, options(page))


main()
