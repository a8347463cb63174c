"""How much memory a run takes, foretold from shapes, and what would make it fit."""
