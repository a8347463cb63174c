"""What is kept between runs: entries by content, what is known of files, and whether it is whole."""
