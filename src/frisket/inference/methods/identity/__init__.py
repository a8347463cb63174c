"""Methods that keep a person's or a picture's likeness while sampling."""
