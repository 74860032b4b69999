"""``worker handover``: a new group begins exactly where another has stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.commands.options import config_option, in_file, read_config
from worker.commands.printing import Lines, page, table
from worker.errors import counted

if TYPE_CHECKING:
    from worker.commands.handover.handing_over import Handed

DEFAULT_WAIT = "60s"  # a worker that was killed is a member until its session has ended, by default for 45 s


@click.command(
    options_metavar="--from GROUP --to GROUP -c FILE [--wait 60s] [--dry-run]",
    short_help="A new group begins exactly where another has stopped.",
)
@config_option
@click.option("--from", "old", required=True, metavar="GROUP", help="The group that has stopped, or is about to.")
@click.option("--to", "new", required=True, metavar="GROUP", help="The group that goes on. It must not run yet.")
@click.option("--wait", default=DEFAULT_WAIT, show_default=True, metavar="TIME", help="For the first group to stop.")
@click.option("--dry-run", is_flag=True, help="Only print what would be handed over; waits for nothing.")
def handover(config_file: Path, old: str, new: str, wait: str, dry_run: bool) -> None:
    """Let a new group begin exactly where another has stopped: nothing twice, nothing lost. Waits until the first group
    has no members, then gives its committed offsets of input.topic to the second. Checkpoints below state.directory
    that are of FILE's model (any, with state.on_model_change: keep) are copied, so that states go on.

    \b
    Example:
      worker handover --from doors-blue --to doors-green -c green.yaml
    """
    if old == new:
        raise click.BadParameter(f"'{new}' is the group that --from names", param_hint="--to")
    from worker.config.values import Duration

    try:
        wait_s = Duration.parse(wait).seconds
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--wait") from None
    config = read_config(config_file)
    from worker.commands.handover.handing_over import Handover

    with in_file(config_file):
        handing = Handover(config, old, new, say=lambda line: click.echo(line, err=True))
        found = handing.plan() if dry_run else handing.carry_out(wait_s)
    if config.kafka.group_id != new:
        click.echo(f"note: {config_file} names the group '{config.kafka.group_id}' (kafka.group_id)", err=True)
    click.echo(_text(found, old, new))


def _text(found: Handed, old: str, new: str) -> str:
    return page(_lines(found)) + f"\n{_end(found, old, new)}"


def _lines(found: Handed) -> Lines:
    rows = [("partition", "offset", "states")]
    rows += [(str(each.partition), f"{each.offset:,}", each.states) for each in found.partitions]
    yield from table("", rows)
    yield "", ""
    if found.members:
        yield "waits for", ", ".join(found.members)
    yield "model", found.model
    yield "states", found.states


def _end(found: Handed, old: str, new: str) -> str:
    what = counted(len(found.partitions), "partition")
    if found.again:
        return f"ok: '{new}' has these offsets already, nothing was changed"
    if found.dry_run:
        return f"dry run: nothing was changed; '{new}' would begin where '{old}' is now, in {what}"
    return f"ok: '{new}' begins where '{old}' has stopped, in {what}"
