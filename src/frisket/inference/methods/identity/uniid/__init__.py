"""UniID (arXiv 2512.03964): an identity as words of the prompt and as image tokens, in balance."""
