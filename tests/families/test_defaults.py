"""What a family inherits, and what it may no longer be called."""

import pytest

from frisket.families.defaults import Standard


def test_a_family_written_for_the_earlier_name_is_refused():
    with pytest.raises(TypeError, match="image_conditioning"):

        class Earlier(Standard):
            def observe(self, *_):
                return {}
