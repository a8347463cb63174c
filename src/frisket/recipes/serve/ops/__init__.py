"""What can be asked for: every module binds OPS, name to function; imported when first asked."""
