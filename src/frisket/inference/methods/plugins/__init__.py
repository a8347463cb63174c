"""Methods that `frisket generate --method` takes: a file each, named as the method is."""
