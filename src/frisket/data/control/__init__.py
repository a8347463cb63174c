"""Control pictures beside clips: found, checked, cut as the clip is, cached, handed on."""
