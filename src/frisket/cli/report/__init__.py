"""What a command says to a program that follows it: JSON lines, appended to a file."""
