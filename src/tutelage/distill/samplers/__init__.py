"""Samplers of the route: where inputs come from that teacher and student are compared on."""
