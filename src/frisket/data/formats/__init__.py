"""One file for each way a data set is stored."""
