"""`clbench completion`: a script by which a shell completes verbs, flags, and names.

The script holds the names of the day it was written, so that a shell completes without starting Python. It is derived
from the parsers: what a value is follows from the name of its argument, see `_KINDS`.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clbench import __version__

if TYPE_CHECKING:
    from clbench.cli.arguments import Parser, Verbs

SHELLS = ("bash", "zsh", "fish")

NONE, FILES, FOLDERS = "none", "files", "folders"
"""Kinds of values without a list of names: anything, paths, paths of folders."""

_KINDS = {
    "strategy": "strategies", "metric": "metrics", "overrides": "keys", "log": "loggers",
    "BENCHMARK": "benchmarks", "ID": "benchmarks", "RUN_DIR|STREAM": "benchmarks", "NAME|RUN|ROW": "names",
    "A": "rows", "B": "rows", "DATA": "datasets", "MODEL": "models",
    "DIR": FOLDERS, "RUN_DIR": FOLDERS, "RUN|ROW": FOLDERS, "ROW": NONE,
    "FILE": FILES, "STUDY.yaml": FILES, "STUDY.yaml|DIR": FILES,
}  # fmt: skip
"""Kind of a value by the destination of its argument, else by its metavariable. Where it is one of the names, files are
completed too, except of `_ALONE`."""

_ALONE = ("strategies", "metrics", "keys", "loggers", "models")
"""Names that no file can stand for."""


@dataclass(frozen=True)
class Flag:
    """A flag of a verb.

    Attributes:
        names: `-o`, `--out`.
        help: its description.
        kind: of its value; empty for a flag without one.
    """

    names: tuple[str, ...]
    help: str
    kind: str


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes:
        name: of the verb.
        help: its description.
        flags: in their order.
        positionals: kind of each positional argument; the last one counts for all further ones.
    """

    name: str
    help: str
    flags: tuple[Flag, ...]
    positionals: tuple[str, ...]


def add(verbs: Verbs) -> None:
    """The verb."""
    completion = verbs.add_parser("completion", help="print a script that completes names in bash, zsh or fish")
    completion.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS))
    completion.set_defaults(act=_completion)


def _completion(options: argparse.Namespace) -> int:
    from clbench.cli import parser

    verbs, lists = described(parser())
    scripts = {"bash": bash, "zsh": zsh, "fish": fish}
    print(scripts[options.shell](verbs, lists | names()), end="")
    return 0


# ------------------------------------------------------------------------------------------------ what there is
def names() -> dict[str, list[str]]:
    """The lists of names, by kind."""
    from clbench import messages, registry, resolve
    from clbench.cli.catalogue import KINDS
    from clbench.config import networks
    from clbench.loggers.base import LOGGERS
    from clbench.metrics import METRICS
    from clbench.metrics.field_names import NUMBERS

    strategies, benchmarks = sorted(registry.strategies()), sorted(registry.benchmarks())
    datasets = sorted(registry.datasets().DATASETS)
    models = [tag for model in messages.member_models(networks.Network) for tag in messages.tags(model)]
    shown = [*benchmarks, *strategies, *datasets, *models, *dict.fromkeys([*METRICS, *NUMBERS]), *KINDS]
    return {
        "strategies": strategies,
        "benchmarks": benchmarks,
        "metrics": sorted({*METRICS, *NUMBERS}),
        "keys": [f"{path}=" for path in resolve.all_keys()],
        "datasets": datasets,
        "models": sorted(models),
        "loggers": sorted(LOGGERS),
        "names": [*dict.fromkeys(shown)],
        "rows": [*benchmarks, *(f":{name}" for name in strategies)],
    }


def described(parser: Parser) -> tuple[list[Verb], dict[str, list[str]]]:
    """The verbs of a parser, and lists of words for kinds that are closed sets."""
    lists: dict[str, list[str]] = {}
    verbs = []
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, verb in action.choices.items():
            flags = tuple(
                Flag(tuple(a.option_strings), _plain(a.help), _kind(a, name, lists))
                for a in verb._actions
                if a.option_strings
            )
            positionals = tuple(_kind(a, name, lists) for a in verb._actions if not a.option_strings)
            verbs.append(Verb(name, _plain(helps[name]), flags, positionals))
    return verbs, lists


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())


def _kind(action: argparse.Action, verb: str, lists: dict[str, list[str]]) -> str:
    """Kind of an argument's value; the words of a closed set are a kind of their own."""
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        kind = f"{verb}_{action.dest}"
        lists[kind] = [str(choice) for choice in action.choices]
        return kind
    of_metavar = _KINDS.get(action.metavar, NONE) if isinstance(action.metavar, str) else NONE
    return of_metavar if action.metavar == "ID" else _KINDS.get(action.dest, of_metavar)


def _files_too(kind: str, lists: dict[str, list[str]]) -> bool:
    return kind in lists and kind not in _ALONE and "_" not in kind


# ------------------------------------------------------------------------------------------------ bash and zsh
def _header(shell: str) -> str:
    return f"# Written by `clbench completion {shell}` of clbench {__version__}; write it again after an upgrade.\n"


def _cases(verbs: list[Verb], lists: dict[str, list[str]]) -> Iterator[str]:
    """Shell functions, the same for bash and zsh: words of a kind, kind of a flag or of a positional argument."""
    yield "_clbench_words() {\n    case $1 in"
    yield f"        verbs) echo {shlex.quote(' '.join(verb.name for verb in verbs))} ;;"
    for kind, words in lists.items():
        yield f"        {kind}) echo {shlex.quote(' '.join(words))} ;;"
    for verb in verbs:
        flags = " ".join(name for flag in verb.flags for name in flag.names)
        yield f"        {verb.name}-flags) echo {shlex.quote(flags)} ;;"
    yield "    esac\n}\n\n_clbench_kind() {\n    case $1 in"
    for verb in verbs:
        for flag in verb.flags:
            if flag.kind:
                either = "|".join(shlex.quote(f"{verb.name} {name}") for name in flag.names)
                yield f"        {either}) echo {flag.kind} ;;"
        last = len(verb.positionals) - 1
        for number, kind in enumerate(verb.positionals):
            yield f"        '{verb.name} '{'[0-9]*' if number == last else number}) echo {kind} ;;"
    yield "    esac\n}"
    with_files = "|".join(kind for kind in lists if _files_too(kind, lists))
    yield f"\n_clbench_takes_files() {{\n    case $1 in {with_files}|{FILES}) return 0 ;; *) return 1 ;; esac\n}}\n"


_BASH = """
_clbench() {
    local word verb= flag= place=0 kind before i current=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ -z $verb ]]; then
            [[ $word == -* ]] || verb=$word
        elif [[ $word == = || $word == : ]]; then
            :  # bash takes these for words; what comes after them belongs to what was before
        elif [[ ${COMP_WORDS[i-1]} == : ]]; then
            :
        elif [[ -n $flag ]]; then
            flag=
        elif [[ $word == -* ]]; then
            [[ -z $(_clbench_kind "$verb $word") ]] || flag=$word
        else
            place=$((place + 1))
        fi
    done
    [[ $current == = || $current == : ]] && current=
    if [[ -z $verb ]]; then
        COMPREPLY=($(compgen -W "$(_clbench_words verbs) --help --version" -- "$current"))
        return
    fi
    kind=$(_clbench_kind "$verb ${flag:-$place}")
    if [[ -z $flag && $current == -* ]]; then
        COMPREPLY=($(compgen -W "$(_clbench_words "$verb-flags")" -- "$current"))
        return
    fi
    if [[ $kind == rows ]]; then
        word=${COMP_WORDS[COMP_CWORD-1]}
        [[ ${COMP_WORDS[COMP_CWORD]} == : || $word == : ]] && kind=strategies
    fi
    before=
    if [[ $kind == strategies && $current == *+* ]]; then
        before=${current%+*}+
    fi
    COMPREPLY=($(compgen -P "$before" -W "$(_clbench_words "$kind")" -- "${current#"$before"}"))
    if [[ $kind == keys ]]; then
        compopt -o nospace 2> /dev/null
    elif [[ $kind == folders ]]; then
        compopt -o filenames 2> /dev/null
        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -d -- "$current")
    elif _clbench_takes_files "$kind"; then
        compopt -o filenames 2> /dev/null
        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$current")
    fi
}

complete -F _clbench clbench
"""

_ZSH = """
_clbench() {
    local word verb= flag= kind before i
    local -i place=0
    local current=$words[CURRENT]
    for ((i = 2; i < CURRENT; i++)); do
        word=$words[i]
        if [[ -z $verb ]]; then
            [[ $word == -* ]] || verb=$word
        elif [[ -n $flag ]]; then
            flag=
        elif [[ $word == -* ]]; then
            [[ $word == *=* || -z $(_clbench_kind "$verb $word") ]] || flag=$word
        else
            place+=1
        fi
    done
    if [[ -z $verb ]]; then
        compadd -- ${=$(_clbench_words verbs)} --help --version
        return
    fi
    if [[ -z $flag && $current == --*=* ]]; then
        flag=${current%%=*}
        compset -P '*='
        current=$PREFIX
    elif [[ -z $flag && $current == -* ]]; then
        compadd -- ${=$(_clbench_words "$verb-flags")}
        return
    fi
    kind=$(_clbench_kind "$verb ${flag:-$place}")
    if [[ $kind == rows && $current == *:* ]]; then
        compset -P '*:'
        kind=strategies
    fi
    [[ $kind == strategies ]] && compset -P '*+'
    if [[ $kind == keys ]]; then
        compadd -S '' -- ${=$(_clbench_words keys)}
    elif [[ $kind == folders ]]; then
        _files -/
    else
        compadd -- ${=$(_clbench_words "$kind")}
        _clbench_takes_files "$kind" && _files
    fi
}

if [[ $funcstack[1] == _clbench ]]; then
    _clbench "$@"
else
    compdef _clbench clbench
fi
"""


def bash(verbs: list[Verb], lists: dict[str, list[str]]) -> str:
    """The script for bash 4.4 and later."""
    return _header("bash") + "\n".join(_cases(verbs, lists)) + _BASH


def zsh(verbs: list[Verb], lists: dict[str, list[str]]) -> str:
    """The script for zsh: a file of `fpath`, or to be sourced after `compinit`."""
    return "#compdef clbench\n" + _header("zsh") + "\n".join(_cases(verbs, lists)) + _ZSH


# ------------------------------------------------------------------------------------------------ fish
_FISH = """
function __clbench_place
    set -l before (commandline -opc | string match -v -- '-*')
    test (math (count $before) - 2) $argv
end

function __clbench_value
    string replace -r '^--[a-z-]+=' '' -- (commandline -ct)
end

function __clbench_strategies
    set -l before (string replace -r '[^+]*$' '' -- (__clbench_value))
    for name in {strategies}
        echo "$before$name"
    end
end

function __clbench_rows
    set -l value (__clbench_value)
    if string match -q '*:*' -- $value
        set -l before (string replace -r '[^:]*$' '' -- $value)
        for name in {strategies}
            echo "$before$name"
        end
    else
        string join \\n -- {rows}
    end
end

complete -c clbench -f
"""


def fish(verbs: list[Verb], lists: dict[str, list[str]]) -> str:
    """The script for fish 3.4 and later."""
    words = {kind: " ".join(map(shlex.quote, entries)) for kind, entries in lists.items()}
    lines = [_header("fish") + _FISH.format(strategies=words["strategies"], rows=words["rows"]).lstrip("\n")]
    values = {
        "strategies": "(__clbench_strategies)",
        "rows": "(__clbench_rows)",
        FOLDERS: "(__fish_complete_directories)",
    }

    def candidates(kind: str) -> str:
        """Words that are offered for a kind, and whether files are."""
        files = "-F" if kind == FILES or _files_too(kind, lists) else "-f"
        if kind in (FILES, NONE):
            return files
        offered = values[kind] if kind in values else words[kind]
        return f"{files} -k -a {shlex.quote(offered)}"

    condition = "not __fish_seen_subcommand_from " + " ".join(verb.name for verb in verbs)
    for verb in verbs:
        lines.append(f"complete -c clbench -n '{condition}' -a {verb.name} -d {shlex.quote(verb.help)}")
    for verb in verbs:
        seen = f"-n '__fish_seen_subcommand_from {verb.name}'"
        several = len(set(verb.positionals)) > 1
        for number, kind in enumerate(verb.positionals if several else verb.positionals[:1]):
            last = number == len(verb.positionals) - 1
            at = f"; and __clbench_place -{'ge' if last else 'eq'} {number}" if several else ""
            if kind != NONE:
                lines.append(f"complete -c clbench {seen[:-1]}{at}' {candidates(kind)}")
        for flag in verb.flags:
            spelled = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in flag.names)
            value = f" -r {candidates(flag.kind)}".rstrip() if flag.kind else ""
            lines.append(f"complete -c clbench {seen} {spelled}{value} -d {shlex.quote(flag.help or ' ')}")
    return "\n".join(lines) + "\n"
