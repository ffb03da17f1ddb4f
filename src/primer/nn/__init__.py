"""Parts with weights and no vocabulary. They take numbers, so that they work in a REPL."""
