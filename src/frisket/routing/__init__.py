"""Token routing: while training, the middle blocks carry only the tokens that teach."""
