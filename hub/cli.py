"""`orchestra-hub`: the hub as a service."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click
from click.core import ParameterSource

from orchestra.cli import logs, stdin
from orchestra.cli.shared import SingleProgram, enter, service_options, state_option
from orchestra.state import StateFolder, default_folder
from orchestra.version import VERSION

from .retention import Keep
from .settings import GATEWAY_PORT_DEFAULT, HOST_DEFAULT, PORT_DEFAULT, GatewaySettings, HubSettings
from .store import Durability

logger = logging.getLogger("orchestra.hub")

_KEEP = Keep()
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=SingleProgram, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, prog_name="orchestra-hub")
@state_option
@click.option(
    "--host",
    envvar="ORCHESTRA_HOST",
    default=HOST_DEFAULT,
    show_default=True,
    help="Address to listen on; one that other machines reach lets them in.  [env: ORCHESTRA_HOST]",
)
@click.option(
    "--port",
    envvar="ORCHESTRA_PORT",
    type=click.IntRange(0, 65535),
    default=PORT_DEFAULT,
    show_default=True,
    help="TCP port; 0 takes a free one.  [env: ORCHESTRA_PORT]",
)
@click.option(
    "--durability",
    envvar="ORCHESTRA_DURABILITY",
    type=click.Choice(["full", "fast"]),
    default="full",
    show_default=True,
    help="full survives a power cut, fast any crash of a process.  [env: ORCHESTRA_DURABILITY]",
)
@click.option(
    "--sends-per-second",
    envvar="ORCHESTRA_SENDS_PER_SECOND",
    type=click.IntRange(0, 1_000_000),
    default=0,
    show_default="as many as it can",
    help="How many messages and tasks one peer may send.  [env: ORCHESTRA_SENDS_PER_SECOND]",
)
@click.option(
    "--keep-days",
    envvar="ORCHESTRA_KEEP_DAYS",
    type=click.IntRange(1),
    default=_KEEP.days,
    show_default=True,
    help="How long finished tasks, messages and entries of channels stay.  [env: ORCHESTRA_KEEP_DAYS]",
)
@click.option(
    "--keep-dead-days",
    envvar="ORCHESTRA_KEEP_DEAD_DAYS",
    type=click.IntRange(1),
    default=_KEEP.dead_days,
    show_default=True,
    help="How long dead letters stay.  [env: ORCHESTRA_KEEP_DEAD_DAYS]",
)
@click.option(
    "--keep-channel-entries",
    envvar="ORCHESTRA_KEEP_CHANNEL_ENTRIES",
    type=click.IntRange(1),
    default=_KEEP.channel_entries,
    show_default=True,
    help="Entries of one channel that stay at most.  [env: ORCHESTRA_KEEP_CHANNEL_ENTRIES]",
)
@click.option(
    "--keep-mib",
    envvar="ORCHESTRA_KEEP_MIB",
    type=click.IntRange(1),
    default=_KEEP.mib,
    show_default=True,
    help="Size of the database from which on what is over goes before its time.  [env: ORCHESTRA_KEEP_MIB]",
)
@click.option(
    "--hold-unknown-keys",
    is_flag=True,
    help="Show keys that are not known and come from other machines in `orchestra keys list`, to be accepted.",
)
@click.option(
    "--gateway-host",
    envvar="ORCHESTRA_GATEWAY_HOST",
    default=HOST_DEFAULT,
    show_default=True,
    help="Address for browsers and WebSockets; beyond this machine it needs TLS.  [env: ORCHESTRA_GATEWAY_HOST]",
)
@click.option(
    "--gateway-port",
    envvar="ORCHESTRA_GATEWAY_PORT",
    type=click.IntRange(0, 65535),
    default=GATEWAY_PORT_DEFAULT,
    show_default=True,
    help="Port for browsers and WebSockets; 0 takes a free one.  [env: ORCHESTRA_GATEWAY_PORT]",
)
@click.option(
    "--gateway-name",
    "gateway_names",
    multiple=True,
    help="Another host name under which browsers reach it; give it several times for several.",
)
@click.option("--gateway-insecure", is_flag=True, help="Let other machines use the gateway without TLS.")
@click.option(
    "--no-gateway",
    is_flag=True,
    envvar="ORCHESTRA_NO_GATEWAY",
    help="Serve neither browsers nor WebSockets.  [env: ORCHESTRA_NO_GATEWAY]",
)
@click.option("--tls-cert", type=_FILE, help="Certificate of the gateway, with its chain (PEM).")
@click.option("--tls-key", type=_FILE, help="Key of that certificate, where it is in a file of its own (PEM).")
@service_options
@click.pass_context
def main(
    ctx: click.Context,
    state: Path | None,
    host: str,
    port: int,
    durability: Durability,
    hold_unknown_keys: bool,
    sends_per_second: int,
    keep_days: int,
    keep_dead_days: int,
    keep_channel_entries: int,
    keep_mib: int,
    gateway_host: str,
    gateway_port: int,
    gateway_names: tuple[str, ...],
    gateway_insecure: bool,
    no_gateway: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    log_level: str,
    stop_with_stdin: bool,
) -> None:
    """Run the hub until SIGTERM or Ctrl-C.

    It prints one line on standard output once peers can connect.
    """
    from .service import Hub, serve

    logs.set_up(log_level)
    gateway = GatewaySettings(
        gateway_host,
        gateway_port,
        names=gateway_names,
        tls_cert=tls_cert,
        tls_key=tls_key,
        is_insecure=gateway_insecure,
        is_optional=ctx.get_parameter_source("gateway_port") is ParameterSource.DEFAULT,
    )
    settings = HubSettings(
        StateFolder(state or default_folder()),
        host=host,
        port=port,
        durability=durability,
        holds_unknown_keys=hold_unknown_keys,
        sends_per_second=sends_per_second,
        keep=Keep(keep_days, keep_dead_days, keep_channel_entries, keep_mib),
        gateway=None if no_gateway else gateway,
    )

    def ready(hub: Hub) -> None:
        if stop_with_stdin:
            stdin.on_close(hub.stop)
        click.echo(f"hub ready: {' '.join((*hub.endpoints, hub.gateway_url)).strip()}")
        logger.info("hub %s serves %s", VERSION, ", ".join(hub.endpoints), extra={"action": "hub_ready"})

    asyncio.run(serve(settings, ready=ready))
    logger.info("hub stopped", extra={"action": "hub_stopped"})


def run() -> None:
    """Enter the program, with the defaults of the configuration file."""
    enter(main, "hub")


if __name__ == "__main__":
    run()
