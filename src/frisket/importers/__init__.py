"""Other trainers' configurations, read as ours: every option is taken over or answered."""
