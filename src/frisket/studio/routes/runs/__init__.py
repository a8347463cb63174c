"""What is asked of runs: the list, live curves, comparisons, pictures from prompts."""
