"""The subcommands of `inspector`, one module each; they import heavy things only when they run."""
