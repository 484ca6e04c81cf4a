"""completions_test.py - what the shells offer is what the program says of itself."""
import pathlib

from lib import WAYPOST, case, folder, main, run

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "contrib" / "completions"


@case("no completion has drifted from the commands and their options")
def fresh(stack):
    made = folder("made")
    run("/usr/bin/python3", FOLDER / "make", WAYPOST, made)
    for file in ("waypost.bash", "_waypost", "waypost.fish"):
        assert (made / file).read_text() == (FOLDER / file).read_text(), f"{file}: run contrib/completions/make WAYPOST"


def bash(*words):
    script = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _waypost; printf "%s\\n" "${COMPREPLY[@]}"'
    return run("bash", "-c", script, FOLDER / "waypost.bash", *words).stdout.split()


@case("bash completes commands, verbs and options, behind -c FILE too")
def in_bash(stack):
    assert bash("waypost", "qu") == ["queue"]
    assert set(bash("waypost", "-c", "x", "queue", "re")) == {"retry", "release", "reroute"}
    assert "--smarthost" in bash("waypost", "setup", "--s")
    assert bash("waypost", "setup", "--password-file", "") == []
    assert bash("waypost", "no-such-command", "x") == []


@case("zsh and fish read theirs")
def others(stack):
    run("zsh", "-n", FOLDER / "_waypost")
    run("fish", "--no-config", "--no-execute", FOLDER / "waypost.fish")
    script = f"source {FOLDER / 'waypost.fish'}; complete -C 'waypost qu'; complete -C 'waypost dkim key'"
    offered = run("fish", "--no-config", "-c", script).stdout
    assert "queue\t" in offered and "keygen" in offered, offered


main()
