"""What clips are seen with besides their own scene: other backgrounds, other subjects."""
