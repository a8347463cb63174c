"""`make check-gpu`: every path that only a card takes, checked on one in nine minutes."""
