"""`orchestra-agent`: one worker."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

import click

from orchestra.address import Address, Kind, parse_address
from orchestra.cli import logs, stdin
from orchestra.cli.shared import FAILED, SingleProgram, enter, fail, service_options, state_option
from orchestra.limits import DRAIN_S, SLOTS_MAX
from orchestra.state import StateFolder, default_folder
from orchestra.version import VERSION

from .plan import PromptBy, Runner
from .settings import AgentSettings, FileSettings

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(cls=SingleProgram, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, prog_name="orchestra-agent")
@click.argument("name", metavar="NAME")
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--queue", "queues", multiple=True, help="A queue to serve beside its own address; may be repeated.")
@click.option(
    "--concurrency",
    envvar="ORCHESTRA_CONCURRENCY",
    type=click.IntRange(1, SLOTS_MAX),
    default=1,
    show_default=True,
    help="Tasks at once.  [env: ORCHESTRA_CONCURRENCY]",
)
@click.option(
    "--runner",
    type=click.Choice([each.value for each in Runner]),
    default=Runner.COMMAND.value,
    show_default=True,
    help="command gives the prompt to COMMAND; exec runs what the task says, whatever it is.",
)
@click.option(
    "--prompt-by",
    type=click.Choice([each.value for each in PromptBy]),
    default=PromptBy.ARGUMENT.value,
    show_default=True,
    help="How COMMAND gets the prompt: as its last argument or on standard input.",
)
@click.option(
    "--accept-from",
    multiple=True,
    help="A sender whose tasks are run; may be repeated.  [default: all the hub lets in]",
)
@click.option(
    "--permanent-exit-code",
    "permanent_exit_codes",
    multiple=True,
    type=click.IntRange(1, 255),
    help="An exit code after which a task is not tried again; may be repeated.",
)
@click.option(
    "--drain",
    "drain_s",
    envvar="ORCHESTRA_DRAIN",
    type=click.FloatRange(0),
    default=DRAIN_S,
    show_default=True,
    help="Seconds that running tasks may take after SIGTERM.  [env: ORCHESTRA_DRAIN]",
)
@click.option("--file-inbox", type=_FOLDER, default=None, help="Do the tasks of this folder of an old agent too.")
@click.option("--file-outbox", type=_FOLDER, default=None, help="Write the results of those tasks into this folder.")
@click.option(
    "--file-owner", default=None, show_default="who runs the agent", help="The user whose task files are taken."
)
@service_options
@state_option
def main(
    name: str,
    command: tuple[str, ...],
    queues: tuple[str, ...],
    concurrency: int,
    runner: str,
    prompt_by: str,
    accept_from: tuple[str, ...],
    permanent_exit_codes: tuple[int, ...],
    drain_s: float,
    file_inbox: Path | None,
    file_outbox: Path | None,
    file_owner: str | None,
    log_level: str,
    stop_with_stdin: bool,
    state: Path | None,
) -> None:
    """Run the agent NAME until SIGTERM or Ctrl-C, which let its tasks finish first.

    \b
    orchestra-agent coder-1 --queue default -- claude -p
    orchestra-agent shell-1 --runner exec
    orchestra-agent coder-1 --file-inbox INBOX/1 --file-outbox OUTBOX/1 -- claude -p
    """
    if (runner == Runner.COMMAND) != bool(command):
        raise click.UsageError(
            "name the program that gets the prompts after --, such as: -- claude -p"
            if runner == Runner.COMMAND
            else "the runner exec takes no COMMAND; each task brings its own"
        )
    if command and not _is_found(command[0]):
        raise click.UsageError(f"there is no program {command[0]} on this machine; install it, or write its path")
    settings = AgentSettings(
        address=_address(name, Kind.AGENT),
        state=StateFolder(state or default_folder()),
        queues=tuple(str(_address(queue, Kind.QUEUE)) for queue in queues),
        concurrency=concurrency,
        runner=Runner(runner),
        command=command,
        prompt_by=PromptBy(prompt_by),
        accept_from=frozenset(str(parse_address(sender)) for sender in accept_from),
        permanent_exit_codes=frozenset(permanent_exit_codes),
        drain_s=drain_s,
        files=_files(file_inbox, file_outbox, file_owner, Runner(runner)),
    )
    logs.set_up(log_level)
    asyncio.run(_work(settings, stop_with_stdin) if settings.files is None else _work_files(settings, stop_with_stdin))


def _is_found(program: str) -> bool:
    is_of_task = "/" in program and not program.startswith("/")  # found from where each task runs
    return is_of_task or shutil.which(program) is not None


def _files(inbox: Path | None, outbox: Path | None, owner: str | None, runner: Runner) -> FileSettings | None:
    if inbox is None and outbox is None and owner is None:
        return None
    if inbox is None or outbox is None:
        raise click.UsageError("name both folders: --file-inbox INBOX/1 --file-outbox OUTBOX/1")
    if runner is not Runner.COMMAND:
        raise click.UsageError("task files hold prompts; name the program that gets them after --")
    from .place import check_root, folder_of_agent, trust_in

    trust, folder = trust_in(owner, "--file-owner"), folder_of_agent(inbox, "--file-inbox")
    check_root(folder.parent, trust)
    return FileSettings(folder, folder_of_agent(outbox, "--file-outbox"), trust)


async def _work_files(settings: AgentSettings, stop_with_stdin: bool) -> None:
    try:
        from .both import work
    except ModuleNotFoundError as exc:
        if exc.name != "watchfiles":
            raise
        fail("task files need the package watchfiles; run: pip install 'agent-orchestra[files]'", FAILED)
    await work(settings, stop_with_stdin)


async def _work(settings: AgentSettings, stop_with_stdin: bool) -> None:
    from orchestra import aio
    from orchestra.enrol import enrol_here

    from .worker import Worker

    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()
    assert starting is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, starting.cancel)
    try:
        await enrol_here(settings.state, settings.address, patience_s=None)
        client = await aio.connect(
            state=settings.state.path,
            address=str(settings.address),
            patience_s=None,
            queues=settings.queues,
            about={"runner": str(settings.runner)},
        )
    except asyncio.CancelledError:
        return
    try:
        worker = Worker(settings, client)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.drain)
        if stop_with_stdin:
            stdin.on_close(worker.drain)
        await worker.run(ready=lambda: click.echo(f"agent ready: {client.address}"))
    finally:
        await client.close()


def _address(text: str, kind: Kind) -> Address:
    """Take `coder-1` as well as `agent/coder-1`."""
    address = parse_address(text if "/" in text else f"{kind}/{text}")
    if address.kind is not kind:
        raise click.UsageError(f"{text} is not {'an agent' if kind is Kind.AGENT else 'a queue'}")
    return address


def run() -> None:
    """Enter the program, with the defaults of the configuration file."""
    enter(main, "agent")


if __name__ == "__main__":
    run()
