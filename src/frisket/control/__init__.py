"""Control pictures made from clips: edges, lines, light, colours, depth and poses."""
