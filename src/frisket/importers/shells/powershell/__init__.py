"""PowerShell, as far as training scripts use it."""
