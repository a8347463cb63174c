"""Methods that keep a face, person or thing: from `[[identity]]` tables to what samples."""
