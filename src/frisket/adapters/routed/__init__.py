"""An adapter's update multiplied by time, word and place: ranks, tokens and cells of its own."""
