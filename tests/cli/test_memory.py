"""The memory from the command line, as a person or a script uses it."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.memory.words import CATEGORIES

from ..github.fakegithub import TOKEN, fake_github
from ..system.programs import PYTHON, Ended, Place

ROOT = Path(__file__).parents[2]
GIT = ("git", "-c", "user.name=A Person", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main")


class Clone(Place):
    """A git clone in which `orchestra memory` is used. No hub runs."""

    def memory(self, *words: str, stdin: str = "", **options: object) -> Ended:
        return self.run("memory", *words, stdin=stdin, **options)  # type: ignore[arg-type]

    def git(self, *words: str) -> None:
        subprocess.run([*GIT, *words], cwd=self.folder, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    folder = tmp_path / "web"
    folder.mkdir()
    clone = Clone(folder)
    clone.git("init", "-q")
    clone.git("commit", "-q", "--allow-empty", "-m", "First change")
    yield clone
    clone.close()


def test_what_was_learned_is_found_again_in_any_folder_of_the_clone(clone: Clone) -> None:
    assert (
        clone.memory("learn", "debugging", "The hub hangs on start", "A socket is left").stdout
        == "learning #1 is stored\n"
    )
    below = clone.folder / "src" / "deep"
    below.mkdir(parents=True)
    found = clone.memory("recall", "why", "does", "the", "hub", "hang", "on", "start?", folder=below)
    assert found.code == 0
    assert re.fullmatch(
        r"#1  The hub hangs on start  learning · debugging · low · \d+ s ago · web\n    A socket is left\n",
        found.stdout,
    )
    assert re.fullmatch(r"1 found by full-text, about \d+ tokens\n", found.stderr)
    assert not (below / ".orchestra").exists()


def test_the_memory_is_kept_out_of_git(clone: Clone) -> None:
    clone.memory("learn", "Something")
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone.folder, capture_output=True, check=True)
    assert status.stdout == b""


@pytest.mark.parametrize(
    ("words", "category", "title", "body"),
    [
        (["testing", "Title"], "testing", "Title", ""),
        (["testing", "Title", "Text"], "testing", "Title", "Text"),
        (["The tests were flaky"], "testing", "The tests were flaky", ""),
        (["We ate cake", "Text"], "insight", "We ate cake", "Text"),
        (["testing"], "testing", "testing", ""),
    ],
)
def test_learn_takes_or_finds_the_category(
    clone: Clone, words: list[str], category: str, title: str, body: str
) -> None:
    data = clone.memory("learn", *words, "--json").data
    assert (data["category"], data["title"], data.get("body", "")) == (category, title, body)


def test_a_category_that_does_not_exist_is_told_with_those_that_do(clone: Clone) -> None:
    for words in (["cooking", "Title"], ["cooking", "Title", "Text"]):
        ended = clone.memory("learn", *words)
        assert ended.code == 2
        assert all(category in ended.stderr for category in CATEGORIES)


def test_learn_reads_its_text_from_standard_input(clone: Clone) -> None:
    assert clone.memory("learn", "insight", "Title", "-", "--json", stdin="two\nlines\n").data["body"] == "two\nlines"


def test_an_issue_keeps_each_part_whole_and_is_listed_until_it_is_closed(clone: Clone) -> None:
    words = ["Saving | hangs", "-s", "critical", "-c", "chromadb", "--repro", "run a | b", "--fix", "Fix: lock | it"]
    assert clone.memory("issue", *words).stdout == "issue #1 is stored\n"
    (found,) = clone.memory("issue", "--list", "--json").data
    assert (found["title"], found["severity"], found["component"]) == ("Saving | hangs", "critical", "chromadb")
    assert (found["repro"], found["fix"]) == ("run a | b", "Fix: lock | it")
    assert clone.memory("issue", "-l").stdout.splitlines()[1].startswith("#1\tcritical\tchromadb\tSaving | hangs\t")
    assert clone.memory("issue", "--close", "1", "--fix", "done").stdout == "issue #1 is closed\n"
    ended = clone.memory("issue", "--list")
    assert (ended.code, ended.stderr) == (1, "no open issues\n")
    assert "closed" in clone.memory("list", "--kind", "issue").stdout


def test_a_bad_severity_is_an_error_that_lists_the_good_ones(clone: Clone) -> None:
    ended = clone.memory("issue", "Saving hangs", "-s", "awful")
    assert ended.code == 2
    for each in ("critical", "high", "medium", "low"):
        assert f"'{each}'" in ended.stderr
    assert clone.memory("issue", "--list").code == 1


@pytest.mark.parametrize("words", [[], ["Title", "--list"], ["--list", "--close", "1"]])
def test_issue_does_one_thing_at_a_time(clone: Clone, words: list[str]) -> None:
    assert "give a TITLE, or --list, or --promote ID, or --close ID" in clone.memory("issue", *words).stderr


def test_save_keeps_what_git_knows_and_recall_goes_on_from_there(clone: Clone) -> None:
    (clone.folder / "new file.txt").write_text("x")
    words = ["Built it", "--win", "It works, mostly", "--challenge", "Locks", "--next", "Write docs", "--tag", "hub"]
    assert clone.memory("save", *words).stdout == "session #1 is stored: main, 1 commit, 1 file\n"
    clone.memory("issue", "It hangs", "-s", "high")
    shown = clone.memory("recall")
    assert shown.code == 0
    for text in (
        "Built it",
        "It works, mostly",
        "Write docs",
        "branch: main",
        "First change",
        "new file.txt",
        "It hangs",
    ):
        assert text in shown.stdout
    data = clone.memory("recall", "--json").data
    assert data["session"]["wins"] == ["It works, mostly"]
    assert [each["title"] for each in data["issues"]] == ["It hangs"]


def test_save_without_a_summary_takes_the_last_commit(clone: Clone) -> None:
    assert clone.memory("save", "--json").data["title"] == "First change"
    empty = clone.below("empty")
    ended = empty.run("memory", "save", env=clone.env(GIT_DIR="/nonexistent"))
    assert (ended.code, "give a SUMMARY" in ended.stderr) == (2, True)


def test_recall_by_number_shows_everything(clone: Clone) -> None:
    clone.memory("learn", "insight", "Title", "Text", "--lesson", "L", "--prevention", "P", "--tag", "a", "--tag", "b")
    shown = clone.memory("recall", "#1").stdout
    assert shown.splitlines()[1:] == ["    Text", "    lesson: L", "    prevention: P", "    tags: a, b"]
    assert clone.memory("recall", "#2").code == 1


def test_recall_as_index_and_in_full(clone: Clone) -> None:
    clone.memory("learn", "insight", "The hub", "x" * 500)
    assert clone.memory("recall", "hub", "--index").stdout == "#1\tThe hub\n"
    assert "x" * 500 not in clone.memory("recall", "hub").stdout
    assert "x" * 500 in clone.memory("recall", "hub", "--full").stdout
    (found,) = clone.memory("recall", "hub", "--index", "--json").data["found"]
    assert set(found) == {"id", "title", "score", "validations", "also", "is_fresh"}


def test_recall_says_in_json_which_sources_answered(clone: Clone) -> None:
    clone.memory("learn", "The hub")
    data = clone.memory("recall", "hub", "--json").data
    assert (data["question"], data["sources"], data["notes"]) == ("hub", ["full-text"], [])
    ended = clone.memory("recall", "penguin", "--json")
    assert (ended.code, ended.data["found"]) == (1, [])


def test_recall_keeps_to_the_project_unless_asked_otherwise(clone: Clone) -> None:
    clone.memory("learn", "The hub of the other", "--project", "api")
    ended = clone.memory("recall", "hub")
    assert (ended.code, ended.stdout) == (1, "")
    assert "ask again with --all" in ended.stderr
    assert clone.memory("recall", "hub", "--all").code == 0
    assert clone.memory("recall", "hub", "--project", "api").code == 0


def test_a_bad_time_is_a_usage_error(clone: Clone) -> None:
    assert "say 90min, 12h, 3d" in clone.memory("recall", "hub", "--since", "soon").assert_is_one_sentence(2)


def test_nothing_remembered_says_how_to_start(clone: Clone) -> None:
    ended = clone.memory("recall")
    assert (ended.code, ended.stdout) == (1, "")
    assert "orchestra memory learn" in ended.stderr
    assert clone.memory("list").code == 1
    assert clone.memory("stats").stdout.endswith("nothing is stored yet\n")
    assert not (clone.folder / ".orchestra").exists()


def test_validate_raises_confidence_and_shows_in_recall(clone: Clone) -> None:
    clone.memory("learn", "The hub")
    assert clone.memory("validate", "#1").stdout == "learning #1 is medium, validated 1×\n"
    (found,) = clone.memory("validate", "1", "--by", "ann", "--json").data
    assert (found["confidence"], found["validations"]) == ("high", 2)
    assert "high · validated 2×" in clone.memory("recall", "hub").stdout
    clone.memory("validate", "1", "--by", "bob", "--note", "it helped")
    shown = clone.memory("recall", "#1").stdout.splitlines()
    assert shown[-2].startswith("    validated by ann, ")
    assert shown[-1].startswith("    validated by bob, ")
    assert shown[-1].endswith(" ago: it helped")
    assert "#9" in clone.memory("validate", "9").assert_is_one_sentence(1)
    assert clone.memory("validate", "x").code == 2


def test_forget_and_purge(clone: Clone) -> None:
    clone.memory("learn", "The hub")
    assert clone.memory("forget", "1").stdout == "learning #1 is forgotten\n"
    assert clone.memory("recall", "hub").code == 1
    assert clone.memory("forget", "1", "--undo").code == 0
    assert clone.memory("recall", "hub").code == 0
    clone.memory("forget", "1")
    asked = clone.memory("purge")
    assert (asked.code, asked.stderr) == (1, "Remove 1 memory for good? Nothing was changed; say --yes to do it.\n")
    assert clone.memory("purge", "--yes").stdout == "1 removed\n"
    assert clone.memory("recall", "#1").code == 1


def test_purge_by_age_and_kind_leaves_the_rest(clone: Clone) -> None:
    clone.memory("learn", "A learning")
    clone.memory("issue", "An issue")
    assert clone.memory("purge", "--before", "1d", "--yes").code == 1
    assert clone.memory("purge", "--kind", "issue", "--json").data == {"is_done": False, "ids": [2]}
    assert clone.memory("purge", "--kind", "issue", "--yes", "--json").data == {"is_done": True, "ids": [2]}
    assert [each["id"] for each in clone.memory("list", "--json").data] == [1]


def test_distill_shows_and_asks_and_does_it_once(clone: Clone) -> None:
    clone.memory("save", "Built it", "--win", "Tests pass", "--learning", "Keep it small")
    asked = clone.memory("distill")
    assert asked.code == 1
    assert "Tests pass" in asked.stdout
    assert asked.stderr == "Keep 2 learnings? Nothing was changed; say --yes to do it.\n"
    assert clone.memory("distill", "--yes").stdout.endswith("2 learnings stored: #2, #3\n")
    again = clone.memory("distill", "1", "--yes")
    assert (again.code, again.stdout) == (1, "")
    assert len(clone.memory("list", "--kind", "learning", "--json").data) == 2


def test_consolidate_is_a_proposal_until_it_is_applied(clone: Clone) -> None:
    for text in (
        "The hub hangs on start when the socket is left",
        "The hub hangs on start when the old socket is left",
    ):
        clone.memory("learn", text)
    shown = clone.memory("consolidate")
    assert (shown.code, shown.stderr) == (0, "this is what --apply would do\n")
    assert clone.memory("consolidate", "--json").data == {"is_done": False, "merges": [{"kept": 1, "merged": [2]}]}
    assert clone.memory("consolidate", "--apply", "--yes").stdout.endswith("1 learning merged\n")
    assert clone.memory("consolidate").code == 1


def test_export_and_import_are_each_others_reverse(clone: Clone) -> None:
    clone.memory("learn", "The hub", "--tag", "a b")
    clone.memory("validate", "1")
    assert clone.memory("export", "out.jsonl").stdout == "out.jsonl holds 1 memory\n"
    other = clone.below("other")
    (other.folder / ".orchestra").mkdir()
    ended = other.run("memory", "import", "../out.jsonl")
    assert ended.stdout == "export: 1 added, 0 updated, 0 were here already\n"
    assert other.run("memory", "export").stdout == (clone.folder / "out.jsonl").read_text()
    assert sorted(each.name for each in clone.folder.iterdir()) == [".git", ".orchestra", "other", "out.jsonl"]


def test_an_import_names_what_did_not_fit(clone: Clone) -> None:
    issue = {"id": "bd-1", "title": "Old", "created_at": "2025-11-01", "priority": 1, "assignee": "ann"}
    (clone.folder / "issues.jsonl").write_text(json.dumps(issue))
    ended = clone.memory("import", "issues.jsonl")
    assert (ended.code, ended.stdout) == (1, "beads: 1 added, 0 updated, 0 were here already\n")
    assert ended.stderr == "did not fit: field assignee of 1 issues has no place here\n"
    assert "neither an export" in clone.memory("import", ".git/HEAD").assert_is_one_sentence(5)


def test_stats_count_what_there_is(clone: Clone) -> None:
    clone.memory("learn", "testing", "One")
    clone.memory("issue", "Two", "-s", "high")
    clone.memory("save", "Three")
    data = clone.memory("stats", "--json").data
    assert data["kinds"] == {"learning": 1, "issue": 1, "message": 0, "session": 1, "context": 0}
    assert (data["open_issues"], data["fulltext"], data["sessions"]["week"]) == ({"high": 1}, "on", 1)
    shown = clone.memory("stats").stdout
    assert "stored    1 learning, 1 issue, 1 session\n" in shown
    assert "full text on\n" in shown


def test_a_damaged_index_stops_nothing_and_one_command_mends_it(clone: Clone) -> None:
    clone.memory("learn", "The hub")
    connection = sqlite3.connect(clone.folder / ".orchestra" / "memory.db")
    with connection:
        connection.execute("DELETE FROM memory_fts_data")
    connection.close()
    assert clone.memory("learn", "The second hub").stdout == "learning #2 is stored\n"
    found = clone.memory("recall", "hub")
    assert len(found.stdout.splitlines()) == 2
    assert "run: orchestra memory reindex\n2 found by row by row" in found.stderr
    assert clone.memory("doctor").code == 1
    assert "damaged and taken off" in clone.memory("stats").stdout
    assert clone.memory("reindex").stdout == "2 memories indexed\n"
    assert clone.memory("doctor").code == 0
    assert clone.memory("recall", "hub").stderr.startswith("2 found by full-text")


def test_a_damaged_file_is_one_sentence_and_the_doctor_repairs_it(clone: Clone) -> None:
    clone.memory("learn", "The hub")
    file = clone.folder / ".orchestra" / "memory.db"
    content = bytearray(file.read_bytes())
    content[:16] = b"x" * 16
    file.write_bytes(content)
    for words in (["recall", "hub"], ["learn", "More"], ["list"], ["stats"]):
        assert "run `orchestra memory doctor --fix`" in clone.memory(*words).assert_is_one_sentence(1)
    assert clone.memory("doctor").code == 1
    fixed = clone.memory("doctor", "--fix")
    assert fixed.code == 0
    (kept,) = file.parent.glob("memory.db.damaged-*")
    assert kept.read_bytes() == bytes(content)
    assert str(kept) in fixed.stdout
    assert clone.memory("learn", "More").code == 0


def test_the_file_can_be_chosen_by_option_and_by_environment(clone: Clone) -> None:
    file = clone.folder / "mine.db"
    clone.memory("learn", "The hub", "--memory", str(file))
    assert clone.memory("recall", "hub").code == 1
    assert clone.memory("recall", "hub", env=clone.env(ORCHESTRA_MEMORY=str(file))).code == 0
    clone.memory("learn", "Of the clone")
    elsewhere = clone.below("elsewhere")
    assert elsewhere.run("memory", "recall", "clone", "--all", "--memory", str(clone.folder)).code == 0


def test_text_of_others_does_not_drive_the_terminal(clone: Clone) -> None:
    clone.memory("learn", "be\x1b[2Jga\u202ern", "x\x07y")
    for words in (["recall", "be"], ["recall", "#1"], ["list"], ["recall", "be", "--index"]):
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", clone.memory(*words).stdout.replace("\t", ""))


def test_looking_loads_neither_the_hub_nor_the_wire(clone: Clone) -> None:
    peek = (
        "import sys; from click.testing import CliRunner; from orchestra.cli import main; "
        "CliRunner().invoke(main, sys.argv[1:]); print(*sys.modules)"
    )
    clone.memory("learn", "The hub")
    for words in (["memory", "--help"], ["memory", "issue", "It hangs"], ["memory", "recall", "hub"]):
        loaded = set(clone.run("-c", peek, *words, program=PYTHON).stdout.split())
        assert {"zmq", "msgpack", "nacl", "chromadb", "numpy", "orchestra.aio", "orchestra.hub"} & loaded == set()
        assert ("peewee" in loaded) == ("--help" not in words)


def _commands_of_the_docs() -> list[str]:
    text = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_every_command_of_the_docs_does_what_it_says(clone: Clone) -> None:
    (clone.folder / "issues.jsonl").write_text('{"id": "bd-1", "title": "Old", "created_at": "2025-11-01"}\n')
    clone.git("remote", "add", "origin", "https://github.com/ann/web")
    commands = _commands_of_the_docs()
    assert len(commands) > 20
    with fake_github() as github:
        env = clone.env(GITHUB_TOKEN=TOKEN, ORCHESTRA_GITHUB_API=github.url)
        for line in commands:
            words = shlex.split(line, comments=True)
            assert words[:2] == ["orchestra", "memory"], line
            ended = clone.memory(*words[2:], env=env)
            assert ended.code == 0, (line, ended.stderr)
    assert len(github.issues) == 1


def test_the_model_is_installed_from_a_file_shown_and_removed(clone: Clone) -> None:
    """With the real files, where they are installed for the tests; without the network."""
    there = Path(os.environ.get("ORCHESTRA_TEST_MODELS", "/nowhere")) / "all-MiniLM-L6-v2"
    if not there.is_dir():
        assert "TOX_ENV_NAME" not in os.environ, "tox installs the model, and must not skip this"
        pytest.skip("no model: see tests/memory/conftest.py")
    own = clone.env(ORCHESTRA_MODELS=str(clone.folder / "models"), ORCHESTRA_EMBED="auto", HOME=str(clone.folder))

    def model(*words: str) -> Ended:
        return clone.memory("model", *words, env=own)

    assert "no model is installed; run: orchestra memory model install" in model("list").stderr
    assert (model("status").code, model("status").stdout) == (1, "")
    installed = model("install", "--from", str(there))
    assert installed.stdout.startswith("all-MiniLM-L6-v2 is ready: ")
    assert "is here already" in model("install").stdout
    assert model("list").stdout.splitlines()[1].startswith("all-MiniLM-L6-v2\tused\t")
    assert "works: vectors of 384 numbers" in model("status").stdout
    weights = clone.folder / "models" / "all-MiniLM-L6-v2" / "vocab.txt"
    weights.write_bytes(b"x" + weights.read_bytes()[1:])
    broken = model("status")
    assert (broken.code, "is not the file that was published; run: orchestra" in broken.stderr) == (1, True)
    doctor = clone.memory("doctor", env=own)
    assert (doctor.code, "not the file that was published" in doctor.stdout) == (1, True)
    assert model("remove").stdout == "87 MiB removed\n"
    model("remove").assert_is_one_sentence(1)


def test_a_model_that_does_not_exist_is_told(clone: Clone) -> None:
    for words in (["learn", "Hub"], ["recall", "hub"], ["stats"], ["reindex"], ["model", "list"]):
        ended = clone.memory(*words, env=clone.env(ORCHESTRA_EMBED="cohere:x"))
        assert "'cohere:x' is no model" in ended.assert_is_one_sentence(2)
    assert not (clone.folder / ".orchestra").exists()
