"""Completion, in the shells that are installed: names, flags and files where they belong."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest

from clbench import registry
from clbench.cli import VERBS, completion, main, parser
from clbench.metrics import METRICS
from clbench.metrics.field_names import NUMBERS

STRATEGIES = sorted(registry.strategies())
WITH_E = [name for name in STRATEGIES if name.startswith("e")]

ASKED: list[tuple[list[str], list[str]]] = [
    (["ru"], ["run"]),
    (["run", "split_dig"], ["split_digits-v1"]),
    (["run", "--seed", "0", "split_dig"], ["split_digits-v1"]),
    (["run", "split_digits-v1", "--strat"], ["--strategy"]),
    (["run", "split_digits-v1", "--strategy", "e"], WITH_E),
    (["run", "split_digits-v1", "--strategy", "er+e"], [f"er+{name}" for name in WITH_E]),
    (["run", "x", "--device", ""], ["auto", "cpu", "cuda"]),
    (["run", "x", "--quiet", "--log", "w"], ["wandb"]),
    (["run", "x", "-o", "training.optimizer.nest"], ["training.optimizer.nesterov="]),
    (["run", "x", "--seed", ""], []),
    (
        ["leaderboard", "--metric", "forgetting."],
        sorted(name for name in {*METRICS, *NUMBERS} if name[:11] == "forgetting."),
    ),
    (["list", "str"], ["streams", "strategies"]),
    (["show", "er_a"], ["er_ace", "er_agem"]),
    (["completion", ""], ["bash", "zsh", "fish"]),
    (["init", "st"], ["study", "strategy"]),
    (["verify", "a"], []),
    (["validate", "fil"], ["file.yaml"]),
    (["grid", "--out", "fo"], ["folder"]),
    (["score", "fil"], []),
]
"""Words after `clbench`, and what the last of them is completed to, with files `file.yaml` and `folder/` around."""


@pytest.fixture
def script(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script of a shell, in a folder with a file and a folder."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    monkeypatch.chdir(tmp_path)
    Path("file.yaml").touch()
    Path("folder").mkdir()
    verbs, lists = completion.described(parser())
    path = tmp_path / f".script.{shell}"
    path.write_text(getattr(completion, shell)(verbs, lists | completion.names()))
    return path


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash(script: Path) -> None:
    ask = (
        f'source {script}; compopt() {{ :; }}; ask() {{ COMP_WORDS=(clbench "$@"); COMP_CWORD=$#; _clbench; '
        'echo "${COMPREPLY[*]}"; }; ask "$@"'
    )
    more = [
        (["run", "x", "--strategy", "=", "er_a"], ["er_ace", "er_agem"]),  # as bash splits words
        (["compare", "split_digits-v1", ":", "er_a"], ["er_ace", "er_agem"]),
        (["compare", "split_digits-v1", ":"], STRATEGIES),
    ]
    questions = [*ASKED, *more]
    loop = ask.removesuffix('; ask "$@"')
    for words, _ in questions:
        loop += "; ask " + " ".join(f"'{word}'" for word in words)
    answers = output("bash", "--norc", "-c", loop).split("\n")[:-1]
    assert [answer.split() for answer in answers] == [expected for _, expected in questions]


@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish(script: Path) -> None:
    questions = [
        *ASKED,
        (["run", "x", "--strategy=er_a"], ["--strategy=er_ace", "--strategy=er_agem"]),
        (["compare", "split_digits-v1:er_a"], ["split_digits-v1:er_ace", "split_digits-v1:er_agem"]),
    ]
    asks = "; echo --end--; ".join(f"complete -C 'clbench {' '.join(words)}'" for words, _ in questions)
    answers = output("fish", "--no-config", "-c", f"source {script}; {asks}").split("--end--\n")
    completed = [sorted(line.split("\t")[0].rstrip("/") for line in answer.splitlines()) for answer in answers]
    assert completed == [sorted(expected) for _, expected in questions]


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh(script: Path) -> None:
    """In an interactive shell on a pseudo-terminal: what a line becomes after the tabulator."""
    lines = {
        "clbench ru": "clbench run",
        "clbench run split_digi": "clbench run split_digits-v1",
        "clbench run x --strategy er+ew": "clbench run x --strategy er+ewc",
        "clbench run x --strategy=derp": "clbench run x --strategy=derpp",
        "clbench compare split_digits-v1:er_ag": "clbench compare split_digits-v1:er_agem",
        "clbench leaderboard --metric forgetting.c": "clbench leaderboard --metric forgetting.chaudhry",
        "clbench run x -o training.optimizer.nest": "clbench run x -o training.optimizer.nesterov=",
        "clbench completion fi": "clbench completion fish",
        "clbench run x --devi": "clbench run x --device",
        "clbench validate fil": "clbench validate file.yaml",
    }
    # A widget writes the line after completion; `zle` needs a terminal.
    shell = f"""
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell 'autoload -U compinit; compinit -u -D; source {script}; PS1=; unsetopt zle_bracketed_paste
            finish() {{ zle complete-word; print -r -- "$BUFFER" >> .lines; BUFFER= }}; zle -N finish
            bindkey "^I" finish; print READY >> .lines'
        until [[ -s .lines ]]; do sleep 0.05; done
        n=1
        for line in {" ".join(f"'{line}'" for line in lines)}; do
            zpty -w -n shell "$line"$'\\t'
            n=$((n + 1))
            for i in {{1..200}}; do (( $(wc -l < .lines) >= n )) && break; sleep 0.05; done
        done
    """
    output("zsh", "-f", "-c", shell)
    ready, *completed = Path(".lines").read_text().splitlines()
    assert ready == "READY"
    assert [line.rstrip() for line in completed] == list(lines.values())


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_verb_prints_a_script(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert main(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"Written by `clbench completion {shell}` of clbench " in out
    assert out.startswith("#compdef clbench\n") == (shell == "zsh")
    assert all(name in out for name in [*VERBS, "split_digits-v1", "derpp", "forgetting.chaudhry", "other-code"])


def test_every_argument_has_a_kind() -> None:
    """A new argument is a path, a name, a word of a closed set, or a number or text of the user's."""
    numbers_and_texts = {
        "--seed", "--seeds", "--threads", "--checkpoint", "--processes", "--address", "--view", "--tasks", "--first",
        "--columns", "--strategies", "--rename", "--width", "--title", "--label", "--order", "--experience",
        "--window", "--size", "--batch-size", "row",
    }  # fmt: skip
    verbs, _ = completion.described(parser())
    assert [verb.name for verb in verbs] == list(VERBS)
    for verb in verbs:
        for flag in verb.flags:
            assert (flag.kind == completion.NONE) == bool(numbers_and_texts & {*flag.names}), (verb.name, flag.names)
        assert (completion.NONE in verb.positionals) == (verb.name == "verify"), verb.name


def test_a_value_of_a_closed_set_is_one_of_its_words() -> None:
    whole = argparse.ArgumentParser()
    whole.add_subparsers(parser_class=argparse.ArgumentParser).add_parser("do", help="it  twice").add_argument(
        "--how", choices=["a", "b"]
    )
    verbs, lists = completion.described(whole)  # type: ignore[arg-type]
    assert lists == {"do_how": ["a", "b"]}
    assert verbs[0].help == "it twice"
    assert [flag.kind for flag in verbs[0].flags] == ["", "do_how"]
