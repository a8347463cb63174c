"""What is kept between runs: entries by content, what is known of files, what is whole."""
