"""What stands between us and the disk: whole writes, careful reads of what strangers wrote."""
