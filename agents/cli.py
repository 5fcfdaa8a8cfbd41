"""`orchestra-agent`: one worker."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click

from orchestra.address import Address, Kind, parse_address
from orchestra.cli import logs, stdin
from orchestra.cli.shared import SingleProgram, enter, service_options, state_option
from orchestra.limits import DRAIN_S, SLOTS_MAX
from orchestra.state import StateFolder, default_folder
from orchestra.version import VERSION

from .plan import PromptBy, Runner
from .settings import AgentSettings


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
    log_level: str,
    stop_with_stdin: bool,
    state: Path | None,
) -> None:
    """Run the agent NAME until SIGTERM or Ctrl-C, which let its tasks finish first.

    \b
    orchestra-agent coder-1 --queue default -- claude -p
    orchestra-agent shell-1 --runner exec
    """
    if (runner == Runner.COMMAND) != bool(command):
        raise click.UsageError(
            "name the program that gets the prompts after --, such as: -- claude -p"
            if runner == Runner.COMMAND
            else "the runner exec takes no COMMAND; each task brings its own"
        )
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
    )
    logs.set_up(log_level)
    asyncio.run(_work(settings, stop_with_stdin))


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
