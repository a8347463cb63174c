"""Everything a run does to fit its card: block offload, precision, estimates."""
