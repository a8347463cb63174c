"""Pictures of a run: prompts, what sampling loads, previews while it trains, where they go."""
