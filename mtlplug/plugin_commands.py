"""Commands of plugins beside ours, without loading plugins where nobody asks for one."""

from __future__ import annotations

import click

from mtlplug.options import shown_errors


class WithPlugins(click.Group):
    """Our commands, then those of plugins, which are loaded only where we have none of a name."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of this name."""
        return super().get_command(ctx, name) or self._brought(name)

    @shown_errors
    def _brought(self, name: str) -> click.Command | None:
        from mtlplug.plugin_manager import load_plugins

        found: click.Command | None = load_plugins().registry.of("command", self.commands).get(name)
        return found
