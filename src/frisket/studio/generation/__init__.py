"""Pictures from prompts: what is asked for as a command, and what came of it."""
